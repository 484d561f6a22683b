"""Work on a real Ray cluster, a head of this machine with two processors: as on processes; other code is refused."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

STARTS_WITHIN_S = 400.0

ENDS_WITHIN_S = 300.0
"""A driver, on a machine that does other things."""

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'emp-alphatrade[ray]'"),
]


def _environment(root: Path = ROOT) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(root),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster of this module's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scratch = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path may not be long
    starter = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        "from ray.scripts.scripts import main; main()",
        "start",
        "--head",
    ]
    starter += [
        f"--port={port}",
        "--num-cpus=2",
        "--include-dashboard=false",
        "--disable-usage-stats",
        "--block",
    ]
    starter += ["--object-store-memory=80000000", f"--temp-dir={scratch}"]
    with (scratch / "head.log").open("wb") as log:
        head = subprocess.Popen(starter, stdout=log, stderr=log, env=_environment(), start_new_session=True)
    try:
        until = time.monotonic() + STARTS_WITHIN_S
        while "started" not in (scratch / "head.log").read_text() or not _listens(port):
            assert head.poll() is None, (scratch / "head.log").read_text()
            assert time.monotonic() < until, "no head"
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def _told(code: str, folder: Path, *words: str, root: Path = ROOT) -> list[str]:
    """What a program prints: a driver of its own, since Ray changes the process that it is used in."""
    script = folder / "driver.py"
    script.write_text(code)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script), *words],
            env=_environment(root),
            cwd=folder,  # a worker looks for modules in the folder of its driver too
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"the driver did not end within {ENDS_WITHIN_S:.0f} s", pytrace=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


DRIVER = """
import sys
from emp.core.errors import EmpError
from emp.core.spread import Workers, spread
from tests.core import test_processes as ours

def tell(make, parts, **more):
    try:
        print(sorted(spread(make, parts, Workers(2, sys.argv[1]), **more)))
    except EmpError as error:
        print(type(error).__name__, error)

tell(ours._add, range(7), prepare=ours._take, given=(10,))
tell(ours._add, iter(range(3)), prepare=ours._take, given=(1,))
tell(ours._fail, [3])
tell(ours._add, range(2), prepare=ours._fail, given=(5,))
tell(ours._die, [9])
tell(ours._raise_odd, [1])
tell(ours._add, range(2), prepare=ours._take, given=(1,))
"""


def test_parts_errors_and_deaths_are_as_on_processes(address: str, tmp_path: Path) -> None:
    made, endless, failed, unprepared, died, odd, again = _told(DRIVER, tmp_path, address)
    assert made == str([(k, k + 10) for k in range(7)])
    assert endless == str([(k, k + 1) for k in range(3)])
    assert failed == "DataError part 3"
    assert unprepared == "DataError part 5"
    assert died.startswith("UsageError a worker of the cluster (process ")
    assert "ended before its work was done: killed, by somebody or for lack of memory: fewer" in died
    assert odd.startswith("UsageError what a worker of the cluster (process ")
    assert "cannot be read: TypeError" in odd
    assert again == str([(0, 1), (1, 2)]), "the cluster is of no more use"


OTHER = """
import sys
from emp.core.errors import EmpError
from emp.core.spread import Workers, spread
try:
    print(list(spread(abs, range(2), Workers(1, sys.argv[1]))))
except EmpError as error:
    print(error)
"""


def test_a_worker_of_other_code_is_refused(address: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "emp", other / "emp", ignore=shutil.ignore_patterns("__pycache__"))
    assert _told(OTHER, tmp_path, address, root=other) == ["[(0, 0), (1, 1)]"], (
        "the same code elsewhere is the same"
    )
    with (other / "emp/version.py").open("a") as file:
        file.write("# another\n")
    (line,) = _told(OTHER, tmp_path, address, root=other)
    assert line.startswith("--ray: ")
    assert line.endswith("the same is needed on every machine")
    assert line.count("emp 0.") == 2


def test_a_driver_that_is_killed_leaves_no_worker(address: str, tmp_path: Path) -> None:
    files = [tmp_path / "busy", tmp_path / "idle"]
    code = (
        "import sys\nfrom emp.core.spread import Workers, spread\nfrom tests.core.test_processes import _note\n"
        "list(spread(_note, sys.argv[2:], Workers(2, sys.argv[1])))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, address, *map(str, files)]
    with subprocess.Popen(command, env=_environment(), cwd=ROOT, stderr=subprocess.DEVNULL) as driver:
        until = time.monotonic() + STARTS_WITHIN_S
        while not (files[0].exists() and files[0].read_text()):
            assert driver.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        worker = int(files[0].read_text())
        driver.kill()
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < until, "it works on"
        time.sleep(0.1)


RESULTS = """
import hashlib, json, sys
import msgspec
from emp.app.wiring.assembly import engine_limits
from emp.core.instrument import find
from emp.core.spread import Workers
from emp.decision.rule import Part
from emp.engine.choose import load_model
from emp.league.markets import MARKETS, sweep
from emp.sim.capacity import capacity
from emp.sim.flow.shipped import named_flow
from emp.sim.measure.ablation import Sessions, study_ablation

short = {"generations": 1, "rounds": 1, "pairs": 2, "episodes": 2, "held_out": 4}
setting = msgspec.structs.replace(MARKETS["small-tick"], **short)
flow = named_flow("goog")
capacity.CHILDREN, capacity.PILOT = (5,), 4

def hashed(made):
    return hashlib.sha256(msgspec.json.encode(made)).hexdigest()

def league(workers):
    return hashed(list(sweep([(setting, 1)], workers)))

def others(workers):
    limits, sessions = engine_limits(), Sessions(5, 1_000, 58_000)
    yield hashed(capacity.capacity_curve(flow, 58_000, trades=20, shares=(0.05,), workers=workers))
    yield hashed(
        study_ablation(
            flow, find("GOOG"), load_model("linear"), limits, sessions, parts=(Part.JOIN,), workers=workers
        )
    )

if __name__ == "__main__":
    alone, cluster = Workers(1), Workers(0, sys.argv[1])
    for workers in (alone, cluster):
        print(json.dumps([league(workers), *others(workers)]))
    print(json.dumps([league(Workers(2))]))
"""


@pytest.mark.long
def test_leagues_capacity_and_ablations_are_the_same_whoever_makes_them(address: str, tmp_path: Path) -> None:
    alone, cluster, beside = map(json.loads, _told(RESULTS, tmp_path, address))
    assert len(set(alone)) == 3
    assert cluster == alone
    assert beside == alone[:1]
