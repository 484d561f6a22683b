"""Backup, mirrors, secrets: whether what must not be lost is kept, and what must not be known is not."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from emp.app.doctor import Finding
from emp.app.production.host import Host, UnseenError, open_to_others
from emp.app.production.machine import RUNS, newest_run
from emp.core.config.secrets import KNOWN
from emp.core.errors import EmpError
from emp.core.mirror_status import read_status

SETTINGS = "/etc/emp/backup"
CONFIG = "/etc/emp/emp.yaml"
SECRETS = "/etc/emp/secrets"
COPY_AGE_S = 2.5 * 3600
"""The copy is hourly: two that failed are one too many."""

FOLLOW_LAG_S = 60.0
"""What the copy of a ledger may lack; the recovery point wanted is a second, in half of all losses."""

MIRROR_LAG_S = 60.0
RESTORE_S = 300.0
"""A restored copy is awaited as long as a restored machine may take."""

TOOLS = "/opt/emp/tools/bin/litestream"


def backups(host: Host) -> Iterator[Finding]:
    """A copy that is fresh, and a file and a ledger of it brought back and compared, now."""
    if not host.is_there(SETTINGS):
        fix = "write it as docs/deployment.md says, then systemctl restart emp-follow emp-copy"
        yield Finding("bad", "backup", f"there is no {SETTINGS}", fix)
        return
    told = dict(
        line.partition("=")[::2] for line in host.text(SETTINGS).splitlines() if line and line[0] != "#"
    )
    lacking = [name for name in ("FOLLOW_TO", "COPY_TO", "RESTIC_PASSWORD_FILE") if not told.get(name)]
    if lacking:
        yield Finding("bad", "backup", f"{SETTINGS} does not name {', '.join(lacking)}", "add the line")
        return
    restic = ("restic", "-r", told["COPY_TO"])
    environ = {"RESTIC_PASSWORD_FILE": str(host.path(told["RESTIC_PASSWORD_FILE"])), "HOME": "/root"}
    found = json.loads(
        host.told(*restic, "snapshots", "--json", "--tag", "emp", environ=environ, seconds=RESTORE_S)
    )
    if not found:
        yield Finding("bad", "copy", "there is none yet", "systemctl start emp-copy; journalctl -u emp-copy")
        return
    newest = max(datetime.fromisoformat(one["time"]).timestamp() for one in found)
    age_s = host.now_ns / 1e9 - newest
    fresh = age_s <= COPY_AGE_S
    fix = "" if fresh else "journalctl -u emp-copy -e"
    yield Finding("ok" if fresh else "bad", "copy", f"{age_s / 3600:.1f} h old, {len(found)} kept", fix)
    run = newest_run(host)
    if run is None:
        yield Finding("bad", "restore", "no run is there that could be brought back", "start the engine")
        return
    yield _file_comes_back(host, run, restic, environ)
    yield _ledger_comes_back(host, run, told["FOLLOW_TO"])


def _file_comes_back(host: Host, run: str, restic: tuple[str, ...], environ: dict[str, str]) -> Finding:
    """The manifest of the newest run out of the copy, byte for byte: it never changes once it is written."""
    name = f"{RUNS}/{run}/manifest.json"
    inside = f"/runs/{run}/manifest.json"
    answer = host.ask(*restic, "dump", "latest", inside, environ=environ, seconds=RESTORE_S)
    if answer.code == 0 and answer.out == host.text(name):
        return Finding("ok", "restore", f"{run}/manifest.json came back, byte for byte")
    why = answer.err.strip().splitlines()[-1:] or ["it is another one"]
    return Finding(
        "bad", "restore", f"{run}/manifest.json did not come back: {why[0]}", "scripts/restore_drill"
    )


def _ledger_comes_back(host: Host, run: str, address: str) -> Finding:
    """The ledger of the newest run as it lies on the other machine: whole, and how much it lacks."""
    litestream = TOOLS if host.is_there(TOOLS) else "litestream"
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "ledger.sqlite"
        source = f"{address}/{run}/ledger.sqlite"
        host.told(litestream, "restore", "-o", str(copy), source, seconds=RESTORE_S)
        there, ours = _newest(copy), _newest(host.path(f"{RUNS}/{run}/ledger.sqlite"))
    lag_s = max(ours[1] - there[1], 0) / 1e9 if there[0] < ours[0] else 0.0
    good = lag_s <= FOLLOW_LAG_S
    found = f"came back whole, {max(ours[0] - there[0], 0)} rows and {lag_s:.1f} s behind"
    return Finding("ok" if good else "bad", "ledger", found, "" if good else "journalctl -u emp-follow -e")


def _newest(ledger: Path) -> tuple[int, int]:
    """Number and time (ns) of a ledger's last row that has a time; UnseenError where it is not whole."""
    try:
        with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True, timeout=10)) as db:
            [whole] = db.execute("PRAGMA quick_check(1)").fetchone()
            rows = db.execute("SELECT seq, payload FROM events ORDER BY seq DESC LIMIT 200").fetchall()
    except sqlite3.Error as error:
        raise UnseenError(f"{ledger.name}: {error}") from None
    if whole != "ok":
        raise UnseenError(f"{ledger.name}: {whole}")
    times = [int(json.loads(payload).get("ts") or 0) for _, payload in rows]
    return (rows[0][0] if rows else 0), max(times, default=0)


def mirrors(host: Host) -> Iterator[Finding]:
    """What each mirror that is configured lacks of the newest run."""
    from emp.core.config.config import SystemConfig

    try:
        named = SystemConfig.load(host.path(CONFIG)).mirrors.model_dump(exclude_none=True)
    except EmpError as error:
        raise UnseenError(str(error)) from None
    run = newest_run(host)
    found = {} if run is None else {one.name: one for one in read_status(host.path(f"{RUNS}/{run}"))}
    if not named and not found:
        yield Finding("silent", "mirrors", "none is configured")
    for name in dict.fromkeys([*named, *found]):
        one = found.get(name)
        if one is None:
            yield Finding("bad", name, "has not followed the newest run", "start emp mirror")
            continue
        late_s = 0.0 if one.done else host.now_ns / 1e9 - one.caught_up_ns / 1e9
        behind = sum(one.behind.values())
        good = one.done or (one.up and late_s <= MIRROR_LAG_S)
        said = one.error or ("has everything" if one.done else f"{behind} records and {late_s:.0f} s behind")
        fix = "" if good else "start the service, or emp mirror itself (docs/mirrors.md)"
        yield Finding("ok" if good else "bad", name, said, fix)


def secrets(host: Host) -> Iterator[Finding]:
    """Files that must be their owner's alone, and that no secret is handed through an environment."""
    folder = host.facts("/etc/emp")
    good = folder.st_uid == host.superuser and not folder.st_mode & 0o022
    yield Finding(
        "ok" if good else "bad",
        "/etc/emp",
        "root's" if good else "others can write there",
        "" if good else "chown root /etc/emp; chmod 755 /etc/emp",
    )
    yield _closed(host, SECRETS, root_owns=True)
    if host.is_there(SETTINGS):
        yield _closed(host, SETTINGS)
        for line in host.text(SETTINGS).splitlines():
            name, _, value = line.partition("=")
            if name == "RESTIC_PASSWORD_FILE" and value:
                yield _closed(host, value)
    keys = f"{RUNS.rpartition('/')[0]}/registry/keys"
    if host.is_there(keys):
        for name in host.names(keys):
            if name.endswith(".key"):
                yield _closed(host, f"{keys}/{name}")
        decides = host.is_there(f"{keys}/training.key")
        yield Finding(
            "bad" if decides else "ok",
            "what the box may sign",
            "decisions, too: a training key lies here" if decides else "its own observations alone",
            f"keep {keys}/training.key at home, and nowhere else" if decides else "",
        )
    yield _environment(host)


def _closed(host: Host, name: str, *, root_owns: bool = False) -> Finding:
    facts = host.facts(name)
    if open_to_others(facts):
        mode = f"{facts.st_mode & 0o777:04o}"
        return Finding("bad", name, f"others can use it (mode {mode})", f"chmod 600 {name}")
    if root_owns and facts.st_uid != host.superuser:
        return Finding("bad", name, "is not root's", f"chown root:root {name}")
    return Finding("ok", name, f"mode {facts.st_mode & 0o777:04o}")


def _environment(host: Host) -> Finding:
    """Whether the engine was started with a secret among its variables, where every child of it sees it."""
    number = host.told("systemctl", "show", "emp.service", "--property=MainPID", "--value").strip()
    if not number.isdigit() or number == "0":
        return Finding(
            "bad", "environment", "the engine is not running: it cannot be looked at", "systemctl start emp"
        )
    held = {line.partition("=")[0] for line in host.text(f"/proc/{number}/environ").split("\0")}
    shown = sorted(held & (KNOWN | {"PGPASSWORD"}))
    fix = f"move it to {SECRETS}" if shown else ""
    return Finding("bad" if shown else "ok", "environment", ", ".join(shown) or "holds no secret", fix)
