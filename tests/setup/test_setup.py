"""The set-up finds a Python that fits or says what to type, and nothing of a bad environment survives it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = (
    "sh",
    "cat",
    "cksum",
    "dirname",
    "rm",
    "uname",
    "env",
    "mkdir",
    "cp",
    "ls",
    "ln",
    "mv",
    "readlink",
    "grep",
)
TOOLS += ("sleep", "ps")

BACKEND = '''
"""Builds one editable wheel, without a network: it names the checkout, as hatchling's does."""
import os
import zipfile

NAME = "mini-1.dist-info"

def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/mini-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("_editable_impl_mini.pth", os.getcwd())
        wheel.writestr(f"{NAME}/METADATA", "Metadata-Version: 2.1\\nName: mini\\nVersion: 1\\n")
        tag = "Root-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(f"{NAME}/WHEEL", f"Wheel-Version: 1.0\\nGenerator: t\\n{tag}")
        wheel.writestr(f"{NAME}/RECORD", "")
    return "mini-1-py3-none-any.whl"

build_wheel = build_editable
'''


class Machine:
    """A checkout with a package that needs nothing, and a PATH on which only what a test puts there is found."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.template = template
        self.checkout = folder / "a checkout ä"
        (self.checkout / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "scripts/setup", self.checkout / "scripts/setup")
        (self.checkout / "backend.py").write_text(BACKEND)
        (self.checkout / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "mini"\nversion = "1"\n'
        )
        (self.checkout / "constraints.txt").write_text("")
        (self.checkout / "mini.py").write_text("")
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.os_release = folder / "os-release"
        self.os_release.write_text('ID=debian\nVERSION_ID="13"\n')

    def script(self, name: str, text: str) -> None:
        """Put a program on the PATH."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def python(self, name: str = "python3.12") -> None:
        """Put the Python that runs this test on the PATH, under a name."""
        self.script(name, self.python_that())

    def python_that(self, cannot: str = "nothing") -> str:
        """A Python that copies an environment instead of making it, which takes seconds; and cannot import a module."""
        copy = f'[ "$2" != venv ] || exec cp -a "{self.template}" "$3"'
        return f'case "$2" in *{cannot}*) exit 1;; esac\n{copy}\nexec "{sys.executable}" "$@"'

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": str(self.bin),
            "HOME": str(self.checkout),
            "OS_RELEASE": str(self.os_release),
            "PIP_NO_INDEX": "1",
        }

    def start(self, **settings: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["sh", "scripts/setup", "runtime"],
            cwd=self.checkout,
            env=self.environment | settings,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def set_up(self, **settings: str) -> tuple[int, list[str]]:
        """Exit code and lines said."""
        with self.start(**settings) as process:
            said = process.communicate()[1]
        return process.returncode, said.splitlines()

    def works(self) -> bool:
        """Whether the package and pip are found, in a locale too that knows none of the letters of the checkout."""
        command = [self.checkout / ".venv/bin/python", "-c", "import mini, pip"]
        told = {"HOME": str(self.checkout)}
        return all(
            subprocess.run(command, cwd="/", env=told | {"LC_ALL": locale}, capture_output=True).returncode
            == 0
            for locale in ("C.UTF-8", "C")
        )


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("template") / "venv"
    subprocess.run([sys.executable, "-m", "venv", made], check=True)
    return made


@pytest.fixture
def machine(tmp_path: Path, template: Path) -> Machine:
    return Machine(tmp_path, template)


OLD = 'case "$1" in --version) echo "Python 3.10.12";; *) exit 1;; esac'


@pytest.mark.parametrize(
    ("release", "kernel", "remedy"),
    [
        (
            'ID=ubuntu\nVERSION_ID="22.04"\nID_LIKE=debian',
            "Linux",
            "sudo apt install python3.11 python3.11-venv",
        ),
        ('ID=ubuntu\nVERSION_ID="24.04"\nID_LIKE=debian', "Linux", "sudo apt install python3 python3-venv"),
        ('ID=debian\nVERSION_ID="12"', "Linux", "sudo apt install python3 python3-venv"),
        ("ID=debian", "Linux", "sudo apt install python3 python3-venv"),  # sid has no number
        ("ID=fedora\nVERSION_ID=43", "Linux", "sudo dnf install python3.13"),
        (
            'ID="rocky"\nVERSION_ID="9.5"\nID_LIKE="rhel centos fedora"',
            "Linux",
            "sudo dnf install python3.12",
        ),
        ("ID=void", "Linux", "install Python 3.11 to 3.14, or uv (https://docs.astral.sh/uv)"),
        (None, "Darwin", "brew install python@3.13"),
    ],
)
def test_without_a_fit_python_one_line_says_what_to_type(
    machine: Machine, release: str | None, kernel: str, remedy: str
) -> None:
    machine.script("python3", OLD)
    (machine.bin / "uname").unlink()
    machine.script("uname", f"echo {kernel}")
    machine.os_release.unlink() if release is None else machine.os_release.write_text(release + "\n")
    code, said = machine.set_up()
    expected = f"setup: Python 3.11 to 3.14 is needed, here is 3.10.12: {remedy}, then the same again"
    assert (code, said) == (1, [expected])
    assert not (machine.checkout / ".venv").exists()


def test_a_name_that_does_not_run_is_passed_over_and_the_second_time_costs_nothing(machine: Machine) -> None:
    machine.script("python3.14", "echo pyenv: python3.14: command not found >&2; exit 127")
    machine.script("python3.13", OLD)
    machine.python("python3.11")
    code, said = machine.set_up()
    assert code == 0, said
    assert machine.works()
    assert machine.set_up() == (0, [])


def test_a_python_that_is_named_is_taken_or_refused(machine: Machine) -> None:
    machine.python()
    machine.script("mine", OLD)
    refused = (1, ["setup: PYTHON=mine is not a Python 3.11 to 3.14 that runs"])
    assert machine.set_up(PYTHON="mine") == refused
    assert machine.set_up()[0] == 0
    assert machine.set_up(PYTHON="mine") == refused


def test_one_that_is_named_takes_the_place_of_another_version(machine: Machine) -> None:
    machine.python()
    assert machine.set_up()[0] == 0
    assert machine.set_up(PYTHON="python3.12") == (0, [])
    asks = 'case "$2" in *version_info\\[:2\\]\\)*) echo 3 99; exit;; esac'
    machine.script("newer", f"{asks}\n{machine.python_that()}")
    code, said = machine.set_up(PYTHON="newer")
    assert (code, said[0]) == (0, "setup: .venv is of another Python than newer: it is made again")


def no_ensurepip(machine: Machine) -> None:
    """The Python of a Debian without python3-venv."""
    machine.script("python3.13", machine.python_that(cannot="ensurepip"))


def test_without_the_venv_package_the_line_names_it(machine: Machine) -> None:
    no_ensurepip(machine)
    code, said = machine.set_up()
    assert code == 1
    assert said == [
        "setup: python3.13 cannot make environments (no ensurepip): sudo apt install python3 python3-venv,"
        " then the same again"
    ]


def test_uv_makes_the_environment_where_no_python_can(machine: Machine) -> None:
    no_ensurepip(machine)
    machine.script("uv", f'for last; do :; done\nexec cp -a "{machine.template}" "$last"')
    code, said = machine.set_up()
    assert code == 0, said
    assert machine.works()


def bad(machine: Machine, kind: str) -> str:
    """Leave a bad environment; return what is said of it."""
    venv = machine.checkout / ".venv"
    machine.set_up()
    if kind == "another version":
        (venv / "bin/python").unlink()
        (venv / "bin/python").write_text("#!/bin/sh\nexit 1\n")
        (venv / "bin/python").chmod(0o755)
        return "not of a Python 3.11 to 3.14 that runs"
    if kind == "no pip":  # as uv makes them, and Debian without python3-venv once did
        for package in venv.glob("lib/*/site-packages/pip"):
            shutil.rmtree(package)
        return "without pip"
    if kind == "foreign":
        shutil.rmtree(venv)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        return "not made here by this set-up"
    assert kind == "moved"
    moved = machine.checkout.with_name("moved")
    machine.checkout.rename(moved)
    machine.checkout = moved
    return "not made here by this set-up"


@pytest.mark.parametrize("kind", ["another version", "no pip", "foreign", "moved"])
def test_nothing_of_a_bad_environment_survives(machine: Machine, kind: str) -> None:
    machine.python()
    why = bad(machine, kind)
    (machine.checkout / ".venv/left-over").write_text("")
    code, said = machine.set_up()
    assert code == 0, said
    assert said[0] == f"setup: .venv is {why}: it is made again"
    assert machine.works()
    assert not (machine.checkout / ".venv/left-over").exists()


def test_a_link_in_place_of_the_environment_goes_and_what_it_leads_to_stays(
    machine: Machine, tmp_path: Path
) -> None:
    machine.python()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").write_text("")
    (machine.checkout / ".venv").symlink_to(tmp_path / "elsewhere")
    assert machine.set_up()[0] == 0
    assert machine.works()
    assert (tmp_path / "elsewhere/precious").exists()


def test_what_is_pinned_anew_is_installed_anew(machine: Machine) -> None:
    machine.python()
    machine.set_up()
    (machine.checkout / "constraints.txt").write_text("# another\n")
    code, said = machine.set_up()
    assert code == 0
    assert said[0].startswith("setup: installing into .venv")


def test_a_second_set_up_waits_for_the_first_and_takes_what_it_made(machine: Machine) -> None:
    machine.python()
    with machine.start() as first:
        while not (machine.checkout / ".venv").is_dir():
            assert first.poll() is None
        code, said = machine.set_up()
        assert first.stderr is not None
        by_the_first = first.stderr.read()
    assert (code, first.returncode) == (0, 0), (said, by_the_first)
    assert said == [f"setup: another set-up (process {first.pid}) is at work here: waiting for it"]
    assert "made again" not in by_the_first
    assert machine.works()
    assert not (machine.checkout / ".venv.lock").is_symlink()


@pytest.mark.parametrize("left", ["of nobody", "of another program"])
def test_nobody_waits_for_a_set_up_that_was_killed(machine: Machine, left: str) -> None:
    machine.python()
    ended = subprocess.Popen(["true"])
    ended.wait()
    number = ended.pid if left == "of nobody" else os.getpid()
    (machine.checkout / ".venv.lock").symlink_to(str(number))
    code, said = machine.set_up()
    assert (code, len(said)) == (0, 1), said
    assert machine.works()


def test_a_lock_that_another_took_in_the_meantime_is_given_back(machine: Machine) -> None:
    """Two find the same lock dead; one has replaced it by its own by the time the other moves it away."""
    machine.python()
    lock = machine.checkout / ".venv.lock"
    ended = subprocess.Popen(["true"])
    ended.wait()
    lock.symlink_to(str(ended.pid))
    with subprocess.Popen(["sh", "-c", "sleep 60; :", "scripts/setup"], start_new_session=True) as other:
        real = (machine.bin / "mv").resolve()
        (machine.bin / "mv").unlink()
        machine.script("mv", f'rm -f "$1"\nln -s {other.pid} "$1"\nexec {real} "$@"')
        with machine.start() as second:
            assert second.stderr is not None
            said = second.stderr.readline()
            held = os.readlink(lock)
            for process in (second, other):
                os.killpg(process.pid, signal.SIGKILL)
    assert said == f"setup: another set-up (process {other.pid}) is at work here: waiting for it\n"
    assert held == str(other.pid)


@pytest.mark.parametrize("name", ["PIP_USER", "PIP_TARGET", "PIP_PREFIX"])
def test_where_pip_puts_things_elsewhere_does_not_count_here(
    machine: Machine, tmp_path: Path, name: str
) -> None:
    machine.python()
    given = "1" if name == "PIP_USER" else str(tmp_path / "elsewhere")
    code, said = machine.set_up(**{name: given})
    assert code == 0, said
    assert machine.works()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.long
def test_a_set_up_killed_at_any_moment_is_made_again(machine: Machine) -> None:
    machine.python()
    whole_s = _seconds(machine)
    interrupted = 0
    for moment in range(1, 11):
        shutil.rmtree(machine.checkout / ".venv", ignore_errors=True)
        with machine.start() as process:
            time.sleep(whole_s * moment / 11)
            interrupted += process.poll() is None
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        began = time.monotonic()
        code, said = machine.set_up()
        whole_s = min(whole_s, time.monotonic() - began)  # the machine may have been busy before
        assert code == 0, (moment, said)
        assert machine.works(), moment
    assert interrupted >= 5


def _seconds(machine: Machine) -> float:
    """How long a set-up from nothing takes, the shorter of two."""
    took = []
    for _ in range(2):
        shutil.rmtree(machine.checkout / ".venv", ignore_errors=True)
        began = time.monotonic()
        assert machine.set_up()[0] == 0
        took.append(time.monotonic() - began)
    return min(took)


def test_make_calls_it_for_both_commands() -> None:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    for goal, kind in (("run", "runtime"), ("test", "dev")):
        shown = subprocess.run(
            ["make", "-n", goal], cwd=ROOT, env=outside, capture_output=True, text=True, check=True
        )
        assert shown.stdout.splitlines()[0] == f"sh scripts/setup {kind}"


def test_every_extra_that_make_test_installs_exists() -> None:
    import tomllib

    text = (ROOT / "scripts/setup").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("DEV_EXTRAS="))
    named = line.partition("'[")[2].partition("]'")[0].split(",")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    left_out = {"context", "docs"}  # a network's providers, which no test asks; what dev has as well
    assert sorted(named) == sorted(extras.keys() - left_out)
