"""`emp doctor --production` on a box that is a folder: sound as it is, and bad for each thing that is not."""

import json
import os
import sqlite3
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from emp.app.cli import main
from emp.app.production.examine import AREAS, CANNOT_LOOK, Scored, examine_box, total
from emp.app.production.host import Answer, Host, UnseenError, run_program
from emp.app.production.machine import cores_of
from emp.app.soak import record
from emp.core.mirror_status import MirrorStatus, write_status

from .box import DAY_NS, LISTEN, NOW_NS, RULES, Box

RUN = "/var/lib/emp/runs/paper-R"


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    monkeypatch.setattr(record, "paper_record", lambda *_: record.Weeks([], ""))
    monkeypatch.setattr(Host, "free", lambda *_: (300 << 30, 0.6))
    return Box(tmp_path)


def examined(box: Box) -> dict[str, Scored]:
    return {one.area: one for one in examine_box(box.host())}


def test_a_box_as_it_should_be_is_sound(box: Box) -> None:
    scored = examined(box)
    assert [one for area in scored.values() for one in area.findings if one.verdict != "ok"] == []
    assert all(area.findings for area in scored.values())
    assert total(list(scored.values())) == 100


def write(name: str, text: str, mode: int = 0o644) -> Callable[[Box], None]:
    def change(box: Box) -> None:
        box.write(name, text, mode)

    return change


def say(key: str, text: str) -> Callable[[Box], None]:
    def change(box: Box) -> None:
        box.said[key] = text

    return change


def mode(name: str, bits: int) -> Callable[[Box], None]:
    return lambda box: (box.root / name.lstrip("/")).chmod(bits)


def rule(*expr: object) -> Callable[[Box], None]:
    one = {"rule": {"family": "inet", "table": "emp", "chain": "input", "handle": 40, "expr": list(expr)}}
    return say("nft", json.dumps({"nftables": [*RULES, one]}))


def policy(hook: str) -> Callable[[Box], None]:
    changed = json.loads(json.dumps(RULES))
    for one in changed:
        if one.get("chain", {}).get("hook") == hook:
            one["chain"]["policy"] = "accept"
    return say("nft", json.dumps({"nftables": changed}))


def dport(right: object, op: str = "==") -> dict[str, object]:
    return {"match": {"op": op, "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": right}}


def iifname(right: str, op: str = "==") -> dict[str, object]:
    return {"match": {"op": op, "left": {"meta": {"key": "iifname"}}, "right": right}}


def remove(name: str) -> Callable[[Box], None]:
    return lambda box: (box.root / name.lstrip("/")).unlink()


def health(text: bytes) -> Callable[[Box], None]:
    return lambda box: setattr(box, "health", text)


def age(name: str, days: float) -> Callable[[Box], None]:
    return lambda box: os.utime(box.root / name.lstrip("/"), (NOW_NS / 1e9 - days * 86_400,) * 2)


def mirror(**state: object) -> Callable[[Box], None]:
    told = {"up": True, "caught_up_ns": NOW_NS, **state}
    one = MirrorStatus(name="redis", address="a", **told)  # type: ignore[arg-type]
    return lambda box: write_status(box.root / RUN.lstrip("/"), [one])


def later_rows(box: Box) -> None:
    """The ledger here goes on; the copy stays."""
    ledger = box.root / f"{RUN.lstrip('/')}/ledger.sqlite"
    old = ledger.read_bytes()

    def restore(words: Sequence[str]) -> Answer:
        Path(words[words.index("-o") + 1]).write_bytes(old)
        return Answer(0, "", "")

    box.said["litestream"] = restore
    with sqlite3.connect(ledger) as db:
        db.execute("INSERT INTO events VALUES (11, ?)", (json.dumps({"ts": NOW_NS + 90 * 10**9}).encode(),))
    db.close()


def torn_copy(box: Box) -> None:
    """What comes back is no database any more."""

    def restore(words: Sequence[str]) -> Answer:
        Path(words[words.index("-o") + 1]).write_bytes(b"SQLite format 3\0" + b"x" * 5000)
        return Answer(0, "", "")

    box.said["litestream"] = restore


def training_key(box: Box) -> None:
    box.write("/var/lib/emp/registry/keys/training.key", "0" * 64, 0o600)


EVIL = [
    ("units", "bad", write("/etc/systemd/system/emp.service", "[Service]\n")),
    ("units", "bad", say("systemd-analyze", "→ Overall exposure level for emp.service: 2.1 OK\n")),
    ("units", "bad", say("systemctl is-active", "inactive\n")),
    ("units", "bad", say("systemctl is-enabled", "disabled\n")),
    ("units", "bad", say("systemctl --failed", "emp-clock.service loaded failed failed\n")),
    ("firewall", "bad", policy("input")),
    ("firewall", "bad", policy("forward")),
    ("firewall", "bad", rule(dport(8787), {"accept": None})),
    ("firewall", "bad", rule(dport({"set": [22, {"range": [8000, 9000]}]}), {"accept": None})),
    ("firewall", "bad", rule(dport(22, "!="), {"accept": None})),
    ("firewall", "bad", rule(iifname("eth0"), dport(6379), {"accept": None})),
    ("firewall", "bad", rule(iifname("wg-emp", "!="), dport(6379), {"accept": None})),
    ("firewall", "bad", rule({"accept": None})),
    ("firewall", "bad", rule({"jump": {"target": "others"}})),
    (
        "firewall",
        "bad",
        rule({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}}, {"accept": None}),
    ),
    (
        "firewall",
        "warn",
        write("/proc/net/tcp", LISTEN.format(address="00000000", port=8787, state="0A")),
    ),
    ("firewall", "warn", write("/proc/net/udp6", LISTEN.format(address="0" * 32, port=5353, state="07"))),
    ("logins", "bad", say("/usr/sbin/sshd", "passwordauthentication yes\n")),
    ("logins", "bad", say("/usr/sbin/sshd", "")),
    ("updates", "bad", say("apt-config", "")),
    ("updates", "bad", remove("/var/lib/apt/periodic/unattended-upgrades-stamp")),
    ("updates", "bad", age("/var/lib/apt/periodic/unattended-upgrades-stamp", 3.5)),
    ("updates", "warn", write("/run/reboot-required", "")),
    ("kernel", "bad", write("/proc/sys/kernel/kptr_restrict", "0\n")),
    ("clock", "bad", say("chronyc", "A1,1.1.1.1,2,1,-0.2,0,0,0,0,0,0,0,0,Normal\n")),
    ("clock", "warn", say("chronyc", "A1,1.1.1.1,2,1,-0.02,0,0,0,0,0,0,0,0,Normal\n")),
    ("clock", "bad", say("chronyc", "0,,0,0,0,0,0,0,0,0,0,0,0,Not synchronised\n")),
    ("clock", "bad", say("chronyc", "")),
    ("processor", "warn", write("/sys/devices/system/cpu/online", "0-3\n")),
    ("processor", "warn", write("/proc/meminfo", "MemTotal: 8000000 kB\n")),
    ("processor", "bad", write("/sys/devices/system/cpu/cpu5/cpufreq/scaling_governor", "powersave\n")),
    ("processor", "warn", write("/sys/fs/cgroup/system.slice/cpuset.cpus.effective", "0-7\n")),
    ("processor", "warn", remove("/sys/fs/cgroup/emp.slice/cpuset.cpus.effective")),
    ("secrets", "bad", mode("/etc/emp/secrets", 0o640)),
    ("secrets", "bad", mode("/etc/emp/backup", 0o604)),
    ("secrets", "bad", mode("/etc/emp/restic-password", 0o644)),
    ("secrets", "bad", mode("/etc/emp", 0o777)),
    ("secrets", "bad", training_key),
    ("secrets", "bad", write("/proc/77/environ", "EMP_FIX_PASSWORD=x\0")),
    ("secrets", "bad", say("systemctl show MainPID", "0\n")),
    ("backup", "bad", remove("/etc/emp/backup")),
    ("backup", "bad", write("/etc/emp/backup", "COPY_TO=/rest\n", 0o600)),
    ("backup", "bad", say("restic snapshots", "[]")),
    ("backup", "bad", say("restic snapshots", '[{"time": "2027-01-15T05:00:00+00:00"}]')),
    ("backup", "bad", say("restic dump", "{}")),
    ("backup", "bad", later_rows),
    ("backup", "bad", torn_copy),
    ("mirrors", "bad", mirror(up=False, error="nobody answers")),
    ("mirrors", "bad", mirror(caught_up_ns=NOW_NS - 61 * 10**9)),
    ("mirrors", "bad", remove(f"{RUN}/mirrors.json")),
    ("engine", "bad", health(b'{"status": "unhealthy", "reasons": ["trade link down"]}')),
    ("engine", "bad", health(b"<html>")),
    ("engine", "warn", say("systemctl show NRestarts", "9\n")),
    ("alerts", "bad", remove("/var/lib/emp/state/alert-trial.json")),
    (
        "alerts",
        "bad",
        write(
            "/var/lib/emp/state/alert-trial.json",
            json.dumps({"at_ns": NOW_NS, "receivers": {"push": "refused"}}),
        ),
    ),
    (
        "alerts",
        "warn",
        write(
            "/var/lib/emp/state/alert-trial.json",
            json.dumps({"at_ns": NOW_NS - 40 * DAY_NS, "receivers": {"push": ""}}),
        ),
    ),
    ("alerts", "bad", write("/etc/emp/emp.yaml", "mode: mock\ninstruments: {names: [GOOG]}\n")),
    ("alerts", "bad", write("/etc/emp/secrets", "EMP_ALERT_WEBHOOK_URL=https://h.example/s\n", 0o600)),
    ("mirrors", "bad", write("/etc/emp/emp.yaml", "mode: moon\n")),
]


@pytest.mark.parametrize(("area", "verdict", "change"), EVIL)
def test_what_is_not_as_it_should_be_is_told_where_it_is(
    box: Box, area: str, verdict: str, change: Callable[[Box], None]
) -> None:
    change(box)
    scored = examined(box)[area]
    found = [one for one in scored.findings if one.verdict != "ok"]
    assert verdict in [one.verdict for one in found]
    assert all(one.fix for one in found)
    assert scored.score < 100
    assert (verdict == "bad") == bool(scored.bad)


def test_what_comes_through_the_tunnel_is_no_stranger(box: Box) -> None:
    rule(iifname("wg-emp"), dport(6379), {"accept": None})(box)
    assert examined(box)["firewall"].score == 100


def test_growth_must_leave_two_weeks(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "free", lambda *_: (11 << 30, 0.01))
    assert examined(box)["disk"].bad == []
    box.write(f"{RUN}/market/part-0.parquet", "")
    with (box.root / f"{RUN.lstrip('/')}/market/part-0.parquet").open("wb") as file:
        file.write(b"\1" * (16 << 20))
    os.utime(box.root / f"{RUN.lstrip('/')}/market/part-0.parquet", (NOW_NS / 1e9,) * 2)
    monkeypatch.setattr("emp.app.production.machine.DAYS_LEFT", 14_000)
    assert examined(box)["disk"].bad == ["disk: growth"]
    monkeypatch.setattr(Host, "free", lambda *_: (9 << 30, 0.9))
    assert "disk: /var/lib/emp" in examined(box)["disk"].bad


def test_a_disk_must_take_more_files(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "free", lambda *_: (11 << 30, 0.01))
    told = os.statvfs("/")
    for files, bad in ((4_096, []), (4_095, ["disk: files"])):
        few = types.SimpleNamespace(
            f_bavail=1 << 30, f_frsize=4096, f_flag=told.f_flag, f_files=9_999, f_favail=files
        )
        monkeypatch.setattr("emp.core.disk.os.statvfs", lambda _, few=few: few)
        assert examined(box)["disk"].bad == bad


def test_weeks_that_lack_are_in_the_way(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    day = record.Day("2027-01-01", "GOOG", "red", "drift")
    monkeypatch.setattr(record, "paper_record", lambda *_: record.Weeks([day], "3 green days"))
    assert examined(box)["paper"].bad == ["paper: two weeks"]
    assert [one.verdict for one in examined(box)["paper"].findings] == ["warn", "bad", "ok"]


def test_a_program_that_is_not_there_or_fails_or_babbles_is_bad(box: Box) -> None:
    """Whatever an area asks, each of its answers gone in turn: never is everything of it sound."""
    for area, look in AREAS.items():
        box.asked.clear()
        list(look(box.host()))
        for key in dict.fromkeys(box.asked):
            kept = box.said[key]
            for wrong in (None, lambda _: Answer(1, "", "no"), lambda _: Answer(0, '{"nftables": 7', "")):
                if wrong is None:
                    del box.said[key]
                else:
                    box.said[key] = wrong
                found = examined(box)[area]
                assert found.score < 100, (area, key)
                box.said[key] = kept


MAY_LACK = [("processor", "scaling_governor"), ("secrets", "backup")]
"""A core that has no choice has no such file; that there is no backup is for the area of that name."""


def test_a_file_that_cannot_be_read_is_bad(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an area reads, each file gone in turn: its area cannot look, and says so."""
    read: list[str] = []
    text = Host.text

    def noted(self: Host, name: str) -> str:
        read.append(name)
        return text(self, name)

    monkeypatch.setattr(Host, "text", noted)
    for area, look in AREAS.items():
        read.clear()
        list(look(box.host()))
        for name in dict.fromkeys(read):
            path = box.root / name.lstrip("/")
            hidden = path.with_name(f".{path.name}")
            path.rename(hidden)
            if (area, name.rpartition("/")[2]) not in MAY_LACK:
                assert examined(box)[area].score < 100, (area, name)
            hidden.rename(path)


def test_what_has_not_been_understood_is_bad(box: Box) -> None:
    box.said["nft"] = '{"nftables": [{"rule": {}}, 5]}'
    found = examined(box)["firewall"]
    assert found.findings[-1].found.startswith(CANNOT_LOOK)


def test_a_program_that_does_not_end_is_not_waited_for() -> None:
    host = Host(NOW_NS)
    with pytest.raises(UnseenError, match="has not answered within"):
        host.ask("sleep", "1000", seconds=0.05)
    with pytest.raises(UnseenError, match="not installed"):
        host.ask("no-such-program-of-anybody")
    assert run_program(["sh", "-c", "echo out; echo err >&2; exit 3"], {}, 60) == Answer(3, "out\n", "err\n")


def test_cores() -> None:
    assert cores_of("0-2,6\n") == {0, 1, 2, 6}
    assert cores_of("\n") == set()
    with pytest.raises(UnseenError):
        cores_of("0-x")


def test_the_command(box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("emp.app.production.host.Host", lambda _: box.host())
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--production", "--json"])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended.value.code == 0
    assert (said["ok"], said["score"], said["bad"]) == (True, 100, [])
    assert list(said["areas"]) == list(AREAS)
    policy("input")(box)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--production", "--json"])
    out, err = capsys.readouterr()
    said = json.loads(out.splitlines()[-1])
    assert ended.value.code == 1
    assert said["bad"] == ["firewall: input", "firewall: ports that are let in"]
    assert said["areas"]["firewall"]["score"] == 50.0
    assert "-> nft -c -f /etc/nftables.conf && systemctl reload-or-restart nftables, or" in err
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--production", "--config", "c.yaml"])
    assert ended.value.code == 2
