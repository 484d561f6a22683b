"""Clock, disk, processor: whether the machine keeps up, and for how long."""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

from emp.app.doctor import CORES_WANTED, GIB, MEMORY_WANTED_GIB, Finding, Verdict
from emp.app.production.host import Host, UnseenError
from emp.journal.place import ALARM_FILES

OFFSET_BAD_S = 0.1
OFFSET_DOUBTFUL_S = 0.01
"""Of the clock. A stamp that is 100 ms off makes a stale quote look fresh (`docs/operations.md`)."""

DATA = "/var/lib/emp"
RUNS = f"{DATA}/runs"
FREE_LEAST_GIB = 10.0
DAYS_LEFT = 14.0
"""Of growth that must fit: two weeks on paper, without anybody looking."""

GROWTH_LEAST_S = 3600.0
"""A run younger than that says nothing of a day."""

DAY_S = 86_400.0


def clock(host: Host) -> Iterator[Finding]:
    """How far the clock is off, by chrony."""
    rows = list(csv.reader(host.told("chronyc", "-n", "-c", "tracking").splitlines()))
    if len(rows) != 1 or len(rows[0]) < 14:
        raise UnseenError("chronyc tracking says nothing that can be read")
    row = rows[0]
    try:
        offset_s = abs(float(row[4]))
    except ValueError:
        raise UnseenError("chronyc tracking tells no offset") from None
    follows = row[13] == "Normal" and row[1] not in ("", "0.0.0.0")
    yield Finding(
        "ok" if follows else "bad",
        "source",
        row[1] if follows else f"none is followed ({row[13].lower()})",
        "" if follows else "chronyc sources; is UDP 123 let out?",
    )
    verdict: Verdict = "bad" if offset_s > OFFSET_BAD_S else "warn" if offset_s > OFFSET_DOUBTFUL_S else "ok"
    fix = "" if verdict == "ok" else "chronyc makestep, while nothing trades"
    yield Finding(verdict, "offset", f"{offset_s * 1e3:.3f} ms", fix)


def disk(host: Host) -> Iterator[Finding]:
    """Room where runs are written, and for how many days of what the newest run writes."""
    free, share = host.free(DATA)
    enough = free >= FREE_LEAST_GIB * GIB
    found = f"{free / GIB:.0f} GiB free ({share:.0%})"
    yield Finding(
        "ok" if enough else "bad", DATA, found, "" if enough else "free the disk, or set journal.keep_gb"
    )
    files = host.files(DATA)
    if files < ALARM_FILES:
        yield Finding("bad", "files", f"the disk takes {files} more", "remove some (df -i)")
    newest = newest_run(host)
    if newest is None:
        yield Finding("warn", "growth", "no run has written anything yet", "start the engine")
        return
    began, size = _beginning_and_size(host.path(f"{RUNS}/{newest}"))
    age_s = host.now_ns / 1e9 - began
    if age_s < GROWTH_LEAST_S:
        yield Finding("warn", "growth", f"{newest} is younger than an hour", "look again later")
        return
    a_day = size / age_s * DAY_S
    days = free / max(a_day, 1.0)
    enough = days >= DAYS_LEFT
    found = f"{a_day / GIB:.2f} GiB a day: room for {min(days, 9999):.0f} days"
    yield Finding("ok" if enough else "bad", "growth", found, "" if enough else "set journal.keep_gb")


def newest_run(host: Host) -> str | None:
    """The folder of the run that began last, below RUNS; None where there is none."""
    if not host.is_there(RUNS):
        return None
    found = [name for name in host.names(RUNS) if host.is_there(f"{RUNS}/{name}/manifest.json")]
    return max(found, key=lambda name: host.facts(f"{RUNS}/{name}/manifest.json").st_mtime, default=None)


def _beginning_and_size(folder: Path) -> tuple[float, int]:
    """When the first file of a run was written, in seconds, and the bytes of all."""
    began, size = float("inf"), 0
    try:
        for at, _, names in os.walk(folder):
            for name in names:
                facts = os.lstat(Path(at, name))
                began, size = min(began, facts.st_mtime), size + facts.st_blocks * 512
    except OSError as error:
        raise UnseenError(f"{folder}: {(error.strerror or '').lower()}") from None
    return began, size


def processor(host: Host) -> Iterator[Finding]:
    """Cores, memory, clock rate, and whether the engine has cores of its own."""
    online = cores_of(host.text("/sys/devices/system/cpu/online"))
    enough = len(online) >= CORES_WANTED
    yield Finding(
        "ok" if enough else "warn",
        "cores",
        str(len(online)),
        "" if enough else f"a server should have {CORES_WANTED}",
    )
    total = re.search(r"^MemTotal:\s+(\d+) kB", host.text("/proc/meminfo"), re.M)
    if total is None:
        raise UnseenError("/proc/meminfo tells no MemTotal")
    memory_gib = int(total[1]) * 1024 / GIB
    enough = memory_gib >= MEMORY_WANTED_GIB * 0.9
    fix = "" if enough else f"a server should have {MEMORY_WANTED_GIB} GiB"
    yield Finding("ok" if enough else "warn", "memory", f"{memory_gib:.0f} GiB", fix)
    slow = []
    for core in sorted(online):
        governor = f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"
        if host.is_there(governor) and host.text(governor).strip() != "performance":
            slow.append(core)
    yield Finding(
        "bad" if slow else "ok",
        "governor",
        f"not performance on {len(slow)} of {len(online)} cores" if slow else "performance, or no choice",
        "systemd-tmpfiles --create /etc/tmpfiles.d/emp.conf" if slow else "",
    )
    yield _isolation(host)


def _isolation(host: Host) -> Finding:
    places = {name: f"/sys/fs/cgroup/{name}/cpuset.cpus.effective" for name in ("emp.slice", "system.slice")}
    fix = "on a machine with four cores or more, put AllowedCPUs= into emp.slice and system.slice"
    if not host.is_there(places["emp.slice"]) or not host.is_there(places["system.slice"]):
        return Finding("warn", "isolation", "the engine has no cores of its own", fix)
    ours, others = (cores_of(host.text(place)) for place in places.values())
    if ours and not ours & others:
        return Finding("ok", "isolation", f"cores {', '.join(map(str, sorted(ours)))} are the engine's alone")
    return Finding("warn", "isolation", "the engine shares its cores with the system's services", fix)


def cores_of(listed: str) -> set[int]:
    """Cores of a list as the kernel writes it: 0-3,6; UnseenError where it cannot be read."""
    found: set[int] = set()
    try:
        for part in filter(None, listed.strip().split(",")):
            first, _, last = part.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    except ValueError:
        raise UnseenError(f"no list of cores: {listed[:20]!r}") from None
    return found
