"""What docs/deployment.md says to type exists: files, services, units, options."""

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/deployment.md").read_text()
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
LAID = {path.name for path in (ROOT / "deploy/box").iterdir()}


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"\b((?:deploy|scripts)/[\w./-]*\w)", PAGE))
    assert {"deploy/provision", "deploy/backup", "scripts/compose_drill"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_service_that_is_named_is_one() -> None:
    named = set(re.findall(r"docker compose (?:exec|logs -f|stop|build) ([a-z]+)", PAGE))
    assert {"engine", "secrets", "grafana"} <= named <= set(SERVICES)
    for variable in ("CONSOLE_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT"):
        assert variable in PAGE
        assert variable in (ROOT / "docker-compose.yml").read_text()


def test_every_unit_that_is_named_is_laid() -> None:
    named = set(re.findall(r"\bemp(?:-[a-z]+)?\.(?:service|timer)\b", PAGE))
    named |= {
        f"{unit}.service" for unit in re.findall(r"systemctl (?:re)?start (emp(?:-[a-z]+)?)\b(?!\.)", PAGE)
    }
    assert "emp-clock.timer" in named
    assert named <= LAID


def test_the_variables_of_the_backup_are_those_that_the_units_read() -> None:
    units = "".join(
        (ROOT / "deploy/box" / name).read_text() for name in ("emp-follow.service", "emp-copy.service")
    )
    for name in re.findall(r"^([A-Z_]+)=", PAGE, re.M):
        if name in ("FOLLOW_TO", "COPY_TO"):
            assert f"${{{name}}}" in units
        else:
            assert name == "RESTIC_PASSWORD_FILE"


def test_options_of_the_script_are_those_of_the_page() -> None:
    done = subprocess.run([ROOT / "deploy/provision", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    told = set(re.findall(r"--[a-z-]+", done.stderr))
    assert told == {"--few-cores", "--rollback", "--wireguard"}
    assert set(re.findall(r"deploy/provision (--[a-z-]+)", PAGE)) <= told


def test_the_box_of_a_server_is_laid_whole() -> None:
    script = (ROOT / "deploy/provision").read_text()
    for name in LAID:
        assert name.endswith((".service", ".timer")) or f'"$box/{name}"' in script, name
    others = ("nftables", "chrony", "ssh", "unattended-upgrades", "fail2ban", "wg-quick@wg-emp")
    for unit in " ".join(re.findall(r"^  enable (.*)$", script, re.M)).split():
        assert unit in others or unit in LAID or f"{unit}.service" in LAID
