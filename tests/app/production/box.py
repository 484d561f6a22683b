"""A box as it should be, below a folder: its files, what its programs say, what its engine answers."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from emp.app.production.host import Answer, Host
from emp.core.alert_trial import write_trial
from emp.core.mirror_status import MirrorStatus, write_status

ROOT = Path(__file__).resolve().parents[3]
NOW_NS = 1_800_000_000_000_000_000
DAY_NS = 86_400 * 10**9
CONFIG = """
mode: paper
run_dir: /var/lib/emp/runs
instruments: {names: [GOOG]}
access: {connection_protocol: fix, host: h, port: 1, sender_comp_id: a, target_comp_id: b}
alerts: {push: 'https://ntfy.example/t'}
heartbeat: {to: '10.0.0.2:9999'}
mirrors: {redis: 'redis://127.0.0.1:6379/0'}
"""
LISTEN = "  sl  local_address rem_address   st\n   0: {address}:{port:04X} 00000000:0000 {state}\n"
RULES = [
    {"chain": {"family": "inet", "table": "emp", "name": "input", "hook": "input", "policy": "drop"}},
    {"chain": {"family": "inet", "table": "emp", "name": "forward", "hook": "forward", "policy": "drop"}},
    {
        "rule": {
            "family": "inet",
            "table": "emp",
            "chain": "input",
            "handle": 3,
            "expr": [
                {"match": {"op": "==", "left": {"meta": {"key": "iif"}}, "right": "lo"}},
                {"accept": None},
            ],
        }
    },
    {
        "rule": {
            "family": "inet",
            "table": "emp",
            "chain": "input",
            "handle": 11,
            "expr": [
                {
                    "match": {
                        "op": "==",
                        "left": {"payload": {"protocol": "tcp", "field": "dport"}},
                        "right": 22,
                    }
                },
                {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}},
                {"accept": None},
            ],
        }
    },
]


class Box:
    """The folder, and the answers; each may be changed before it is looked at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        self.said: dict[str, str | Callable[[Sequence[str]], Answer]] = {
            "systemctl is-active": "active\n",
            "systemctl is-enabled": "enabled\n",
            "systemctl --failed": "",
            "systemctl show MainPID": "77\n",
            "systemctl show NRestarts": "0\n",
            "nft": json.dumps({"nftables": RULES}),
            "/usr/sbin/sshd": "passwordauthentication no\nkbdinteractiveauthentication no\n"
            "permitemptypasswords no\npermitrootlogin without-password\nx11forwarding no\n",
            "apt-config": 'APT::Periodic::Unattended-Upgrade "1";\n',
            "chronyc": "A1,10.0.0.1,2,1800000000.0,0.000012,0,0,0,0,0,0,0,0,Normal\n",
            "systemd-analyze": "→ Overall exposure level for {name}: 1.2 OK\n",
            "restic snapshots": json.dumps([{"time": "2027-01-15T07:30:00+00:00"}]),
            "restic dump": "",
            "litestream": self._restore,
        }
        self.health = b'{"status": "ok", "reasons": []}'
        self._lay()

    def host(self) -> Host:
        """The machine to look at."""
        return Host(NOW_NS, self.root, self._run, lambda _: self.health, os.getuid())

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Lay a file."""
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def _lay(self) -> None:
        for path in (ROOT / "deploy/box").iterdir():
            text = path.read_text()
            self.write(f"/opt/emp/current/deploy/box/{path.name}", text)
            if path.suffix in (".service", ".timer"):
                self.write(f"/etc/systemd/system/{path.name}", text)
        for line in (ROOT / "deploy/box/sysctl.conf").read_text().splitlines():
            name, equals, value = line.partition(" = ")
            if equals and line[0] not in "#-":
                self.write(f"/proc/sys/{name.replace('.', '/')}", f"{value}\n")
        for name in ("tcp", "tcp6", "udp", "udp6"):
            wide = name.endswith("6")
            loopback = "0" * 24 + "01000000" if wide else "0100007F"
            state = "0A" if name.startswith("tcp") else "07"
            self.write(f"/proc/net/{name}", LISTEN.format(address=loopback, port=8787, state=state))
        self.write("/var/lib/apt/periodic/unattended-upgrades-stamp", "")
        os.utime(self.root / "var/lib/apt/periodic/unattended-upgrades-stamp", (NOW_NS / 1e9 - 3600,) * 2)
        self.write("/sys/devices/system/cpu/online", "0-7\n")
        for core in range(8):
            self.write(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", "performance\n")
        self.write("/proc/meminfo", "MemTotal:       65000000 kB\n")
        self.write("/sys/fs/cgroup/emp.slice/cpuset.cpus.effective", "6-7\n")
        self.write("/sys/fs/cgroup/system.slice/cpuset.cpus.effective", "0-5\n")
        self.write("/etc/emp/emp.yaml", CONFIG)
        self.write("/etc/emp/secrets", "EMP_FIX_PASSWORD=x\n", 0o600)
        settings = "FOLLOW_TO=file:///there\nCOPY_TO=/rest\nRESTIC_PASSWORD_FILE=/etc/emp/restic-password\n"
        self.write("/etc/emp/backup", settings, 0o600)
        self.write("/etc/emp/restic-password", "w\n", 0o600)
        (self.root / "etc/emp").chmod(0o755)
        self.write("/proc/77/environ", "LANG=C.UTF-8\0EMP_SECRETS_FILE=/run/credentials/x\0")
        self._lay_run()

    def _lay_run(self) -> None:
        run = self.root / "var/lib/emp/runs/paper-R"
        manifest = json.dumps({"mode": "paper", "config": {}, "instruments": ["GOOG"]})
        began = NOW_NS / 1e9 - 2 * 86_400
        self.write("/var/lib/emp/runs/paper-R/manifest.json", manifest)
        ledger = run / "ledger.sqlite"
        with sqlite3.connect(ledger) as db:
            db.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, payload BLOB)")
            rows = [(n, json.dumps({"ts": NOW_NS - (10 - n) * 10**9}).encode()) for n in range(1, 11)]
            db.executemany("INSERT INTO events VALUES (?, ?)", rows)
        db.close()
        self.said["restic dump"] = manifest
        redis = MirrorStatus(name="redis", address="a", up=True, caught_up_ns=NOW_NS - 10**9)
        write_status(run, [redis])
        for path in run.iterdir():
            os.utime(path, (began, began))
        write_trial(self.root / "var/lib/emp/state", NOW_NS - DAY_NS, {"push": ""})

    def _restore(self, words: Sequence[str]) -> Answer:
        shutil.copy(self.root / "var/lib/emp/runs/paper-R/ledger.sqlite", words[words.index("-o") + 1])
        return Answer(0, "", "")

    def _run(self, words: Sequence[str], environ: Mapping[str, str], seconds: float) -> Answer:
        told = [word for word in words[1:] if word != "-r" and not word.startswith("/")]
        key = next(
            (
                one
                for one in self.said
                if one.split()[0] == words[0]
                and all(any(part in word for word in words) for part in one.split()[1:])
            ),
            None,
        )
        if key is None:
            raise FileNotFoundError(words[0])
        self.asked.append(key)
        said = self.said[key]
        if callable(said):
            return said(words)
        return Answer(0, said.replace("{name}", told[-1] if told else ""), "")
