"""What differs between systems stands here, each with a plain fallback: Linux is served best, macOS as well as it can.

Everything else in the package may be written as if there were one system. Windows has neither the signals nor the
file locks that trading rests on, and is refused in one line.
"""

import asyncio
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

if sys.platform != "win32":
    import fcntl

CLOCK_MONOTONIC: int = getattr(time, "CLOCK_MONOTONIC", 1)
"""The number that the C library's `clock_gettime` takes: 1 on Linux, 6 on macOS."""

CLOCK_THREAD_CPU: int = getattr(time, "CLOCK_THREAD_CPUTIME_ID", 3)
"""The same for the CPU time of the calling thread: 3 on Linux, 16 on macOS."""

WINDOWS = (
    "Windows is not supported: install WSL2 (`wsl --install` in PowerShell), then the same commands inside it"
)


def unsupported() -> str:
    """Why this system cannot run the package, in one line; empty where it can."""
    if sys.platform == "win32":
        return WINDOWS
    unspelled = next(filter(_is_unspelled, (sys.prefix, __file__)), "")
    return _UNSPELLED.format(os.fsencode(unspelled).decode(errors="replace")) if unspelled else ""


_UNSPELLED = (
    "Python cannot spell the folder it runs from, {!a}, in this locale: "
    "unset PYTHONUTF8, or set it to 1, then the same again"
)


def _is_unspelled(path: str) -> bool:
    """Whether a path holds bytes that are no letters of the locale; numba and pydantic cannot be loaded from there."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def usable_cores() -> int:
    """Cores that this process may run on; where the system does not say, all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory in bytes; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def cpu_flags() -> set[str]:
    """Names of the CPU's extensions as Linux writes them; what is certain of an Apple CPU; else nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {"asimd"} if sys.platform == "darwin" and os.uname().machine == "arm64" else set()
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return set(next(lines, ":").partition(":")[2].split())


def exists(path: Path) -> bool:
    """Whether something is there. Raises OSError where that cannot be known (a folder that may not be entered, a disk
    that fails): from Python 3.14 on `Path.exists` says no to that, and a ledger that is there would be taken for none.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no file can have that name
        return False
    return True


def open_folder(folder: Path) -> int:
    """A descriptor of a folder, to sync the names in it; raises OSError, also where it is none."""
    return os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))


def sync_data(descriptor: int) -> None:
    """Return once what was written is on the disk; its times need not be. Raises OSError.

    macOS leaves data in the drive's own cache after `fsync`; F_FULLFSYNC empties that too.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        with suppress(OSError):  # a file system without it: fsync is all there is
            fcntl.fcntl(descriptor, full)
            return
    getattr(os, "fdatasync", os.fsync)(descriptor)


def lock(descriptor: int) -> None:
    """Take an advisory lock that ends with the process; BlockingIOError where another holds it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def wait_for_lock(descriptor: int) -> None:
    """Take the same lock once nobody else has it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def locked_by(path: Path) -> int | None:
    """The process that holds the lock of a file, without disturbing one that is about to take it.

    None where nobody holds it, and where the system does not say (it is Linux that lists them, by device and inode).
    """
    try:
        facts = path.stat()
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    wanted = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}:{facts.st_ino}"
    for line in lines:
        # "7: FLOCK  ADVISORY  WRITE 23816 fe:00:5513248 0 EOF"; who waits for one has "->" in it
        words = line.split()
        if words[1] == "FLOCK" and words[5] == wanted:
            return int(words[4])
    return None


def home() -> Path | None:
    """The folder of the user that this process acts as; None where the system knows of none (a container's number)."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def is_ours(facts: os.stat_result) -> bool:
    """Whether a file belongs to the user that this process acts as."""
    return facts.st_uid == os.geteuid()


def yield_to_others() -> None:
    """Let this process run only where nothing else of the user's wants the processor."""
    os.nice(19)


def hang_up_is_ignored() -> bool:
    """Whether this process was started to outlive its terminal (`nohup`, `emp run --detach`)."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def on_signals(
    loop: asyncio.AbstractEventLoop, handlers: Mapping[signal.Signals, Callable[[], object]]
) -> None:
    """Call on the loop when signals come; a loop without handlers of its own hears through the interpreter."""
    for number, handler in handlers.items():
        try:
            loop.add_signal_handler(number, handler)
        except NotImplementedError:
            signal.signal(number, lambda *_, to=handler: loop.call_soon_threadsafe(to))


def open_standard_streams() -> None:
    """Give a process all three standard streams, whatever it was started with.

    The next file that is opened would take the number of a closed one, and what the C library says on stderr would
    land in it. A locale that lacks a letter shows another instead of ending the process.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def mute(stream: TextIO) -> bool:
    """Let what a stream holds go to where nobody reads, if it cannot go to where it should; whether that was so."""
    try:
        stream.flush()
    except ValueError:
        return True  # closed
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return True
    return False


def say(line: str) -> None:
    """Write a line to stderr: words may be lost, what they are about goes on."""
    with suppress(OSError, ValueError, AttributeError):
        print(line, file=sys.stderr, flush=True)


class Detached:
    """The side that lives on after `detach`."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def ready(self, words: str) -> None:
        """Hand what the caller shall read to the process that waits, which ends, and let go of the terminal."""
        with suppress(OSError):  # nobody waits any more
            os.write(self._pipe, words.encode())
        os.close(self._pipe)
        sys.stdout.flush()
        sys.stderr.flush()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)
        os.close(nowhere)


def detach() -> Detached:
    """Go on in a process of a session of its own, which no terminal can hang up.

    The process that called waits until the other is ready, prints what that hands over, and ends; where the other
    ends before, it ends with its exit code. Call it before anything else is begun: no thread crosses over.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return Detached(writer)
    os.close(writer)
    try:
        with open(reader, encoding="utf-8") as pipe:
            words = pipe.read()
        if words:
            print(words, flush=True)
            sys.exit(0)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        raise
