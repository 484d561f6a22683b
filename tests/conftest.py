"""Shared fixtures: real data where there is some, deterministic property tests everywhere."""

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.databases import watch_databases

watch_databases()

settings.register_profile(
    "emp", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("emp")

_STATE = tempfile.TemporaryDirectory(prefix="emp-state-")
_tests = itertools.count()


def pytest_runtest_setup() -> None:
    """Let no test find what another, or the user of this machine, has left of an account."""
    os.environ["EMP_STATE"] = f"{_STATE.name}/{next(_tests)}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the long drills where LONG=0, as `make test` does without LONG=1: the summary says so."""
    if os.environ.get("LONG") == "0":
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long drills: make test LONG=1 runs them"))


def pytest_unconfigure() -> None:
    """Remove that state in order: the interpreter warns of what it has to remove itself."""
    _STATE.cleanup()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of recorded markets; skips where it is absent, fails where EMP_REQUIRE_REAL=1 demands it."""
    from emp.core.recorded import recordings_folder

    folder = recordings_folder()
    if not folder.is_dir():
        message = f"no recorded markets at {folder}: set EMP_DATA to their folder to run these tests"
        if os.environ.get("EMP_REQUIRE_REAL") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


CROSSING = frozenset({"ctrader", "doors", "engine", "fix", "governance", "journal", "lease", "live", "plan"})
"""Folders whose tests need positions at once, by models that do nothing but cross."""


@pytest.fixture
def crossing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let opening by crossing have been earned by every engine of this process."""
    from emp.decision.standing import crossing_standing

    monkeypatch.setattr("emp.engine.desk.new_standing", crossing_standing)


@pytest.fixture(autouse=True)
def _crossing(request: pytest.FixtureRequest) -> None:
    """The same in some folders, unless a test is marked `earns`."""
    if request.path.parent.name in CROSSING and request.node.get_closest_marker("earns") is None:
        request.getfixturevalue("crossing")


@pytest.fixture(scope="session")
def compiled_engine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The engine's kernels, compiled once per session and before the test's own time begins."""
    from tests.kit.warm import compile_engine  # imports half of the package: only where it is asked for

    compile_engine(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="session")
def compiled_market() -> None:
    """The same for the built-in market."""
    from tests.kit.warm import compile_market

    compile_market()


@pytest.fixture(scope="session")
def compiled_feeds() -> None:
    """The same for the kernels that read a broker's messages."""
    from tests.kit.warm import compile_feeds

    compile_feeds()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in one line what was skipped, and why."""
    from tests.kit.skipped import skipped_line

    reports = terminalreporter.stats.get("skipped", ())
    line = skipped_line(report.longrepr[2] for report in reports)
    if line:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 and its key, made for this run."""
    from tests.kit.tls import make_certificate

    if shutil.which("openssl") is None:
        pytest.skip("no openssl command here to make a test certificate with")
    return make_certificate(tmp_path_factory.mktemp("tls"))
