"""What `emp doctor` looks at: each examination gives lines of what was found and how to fix it."""

import os
import platform
import shutil
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from emp.core.config import secrets
from emp.core.config.config import SystemConfig
from emp.core.disk import disk
from emp.core.errors import EmpError
from emp.core.extras import install_command
from emp.core.numba.cache import cache_root, size_bytes, unusable
from emp.core.platform import cpu_flags, memory_bytes, usable_cores
from emp.core.recorded import recordings_folder
from emp.core.records import EVENT
from emp.journal.place import ALARM_FILES
from emp.observe.http import HttpServer, create_app

if TYPE_CHECKING:
    from emp.engine.load import LoadedModel
    from emp.journal.lease.port import Record

Verdict = Literal["ok", "warn", "bad", "silent"]
"""`silent`: there is nobody here to tell it."""

GIB = 1 << 30
CORES_WANTED = 8
MEMORY_WANTED_GIB = 32
DISK_WANTED_GIB = 10
CACHE_WANTED_MB = 200
CONNECT_S = 1.0


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor; `fix` is empty where nothing needs fixing."""

    verdict: Verdict
    what: str
    found: str
    fix: str = ""


def machine() -> Iterator[Finding]:
    """Python, cores, memory, vector units."""
    yield Finding("ok", "python", platform.python_version())
    cores = usable_cores()
    enough = cores >= CORES_WANTED
    yield Finding(
        "ok" if enough else "warn",
        "cores",
        f"{cores}",
        "" if enough else f"fine for mock and paper; a server should have {CORES_WANTED}",
    )
    memory_gib = memory_bytes() / GIB
    enough = memory_gib >= MEMORY_WANTED_GIB * 0.9
    yield Finding(
        "ok" if enough else "warn",
        "memory",
        f"{memory_gib:.0f} GiB",
        "" if enough else f"fine for mock and paper; a server should have {MEMORY_WANTED_GIB} GiB",
    )
    flags = cpu_flags()
    widest = next((name for name in ("avx512f", "avx2", "asimd", "sse2") if name in flags), "none known")
    yield Finding(
        "ok", "vector unit", f"{widest} (action logs are byte-equal between machines that share it)"
    )


def kernels() -> Iterator[Finding]:
    """Whether compiled kernels are kept and there are any."""
    folder = cache_root() / "numba"
    why_not = unusable(folder.parent) or unusable(folder)
    free_mb = 0.0 if why_not else shutil.disk_usage(folder).free / 1e6
    if why_not:
        yield Finding("bad", "kernel cache", why_not, "set EMP_CACHE to a folder of yours")
        return
    compiled = sum(1 for _ in folder.glob("*/**/*.nbc"))
    if free_mb < CACHE_WANTED_MB:
        yield Finding(
            "warn", "kernel cache", f"{free_mb:.0f} MB free at {folder}", "free the disk, or set EMP_CACHE"
        )
    elif compiled:
        size_mb = size_bytes(folder) / 1e6
        yield Finding("ok", "kernel cache", f"{compiled} compiled kernels, {size_mb:.0f} MB in {folder}")
    else:
        yield Finding(
            "warn",
            "kernel cache",
            f"nothing compiled in {folder}",
            "the first start compiles for about a minute",
        )


def configuration(path: Path) -> tuple[SystemConfig | None, list[Finding]]:
    """The configuration, where it is valid, and what there is to say about it."""
    try:
        config = SystemConfig.load(path)
    except EmpError as error:
        return None, [Finding("bad", "configuration", str(error), "fix the line it names")]
    how = f"{path}: mode {config.mode} over {config.access.connection_protocol}"
    return config, [Finding("ok", "configuration", how)]


def credentials(config: SystemConfig) -> Iterator[Finding]:
    """Which credentials are present, by name, never by value."""
    if config.mode == "mock":
        yield Finding("ok", "credentials", "none needed in mock mode")
        return
    try:
        present = secrets.load_secrets()
    except EmpError as error:
        yield Finding("bad", "credentials", str(error), "see the line")
        return
    for name in secrets.NEEDED.get(config.access.connection_protocol, ()):
        if name in present:
            yield Finding("ok", "credentials", f"{name} is present")
        else:
            fix = f"set it in the environment or in the owner-only file {secrets.SECRETS_FILE} names"
            yield Finding("bad", "credentials", f"{name} is missing", fix)
    for field in config.missing(present):
        if field.startswith("access."):
            yield Finding("bad", "access", f"{field} is missing", "give it in the configuration file")


def market(config: SystemConfig) -> Iterator[Finding]:
    """Instruments and the model's artifact."""
    from emp.core.instrument import find
    from emp.engine.choose import load_serving, load_standby
    from emp.engine.serving import allocate

    for name in config.instruments.names:
        try:
            one = find(name, config.instruments.catalogue)
            yield Finding("ok", "instrument", f"{name}: tick {one.tick:g}, {one.asset_class.name.lower()}")
        except EmpError as error:
            yield Finding("bad", "instrument", str(error), "emp instruments lists what is known")
    try:
        serving = load_serving(config.model)
        standby = load_standby(config.model, serving)
        yield Finding("ok", "model", f"{_named(serving)}, verified")
        yield Finding("ok", "fallback", f"{_named(standby)}, verified" if standby else "none")
        why_not = allocate(serving, len(config.instruments.names)).table.why_not_pinned
        if why_not:
            yield Finding("warn", "state", why_not, "raise the limit on locked memory (ulimit -l)")
    except EmpError as error:
        yield Finding("bad", "model", str(error), "name another artifact in the section model, or train one")


def _named(model: "LoadedModel") -> str:
    return f"{model.artifact.manifest.kind} {model.artifact.hash[:12]}"


def storage(config: SystemConfig) -> Iterator[Finding]:
    """Where runs are written, and recorded data."""
    folder = config.run_dir.absolute()
    parent = next(p for p in (folder, *folder.parents) if p.exists())
    free_gib = shutil.disk_usage(parent).free / GIB
    files = disk().room(parent).files
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        yield Finding("bad", "run_dir", f"{parent} cannot be written", "set run_dir to a folder of yours")
    elif free_gib < DISK_WANTED_GIB:
        yield Finding("warn", "run_dir", f"{folder}: {free_gib:.1f} GiB free", f"free {DISK_WANTED_GIB} GiB")
    elif files < ALARM_FILES:
        yield Finding(
            "warn", "run_dir", f"{folder}: its disk takes {files} more files", "remove some (df -i)"
        )
    else:
        yield Finding("ok", "run_dir", f"{folder}: {free_gib:.0f} GiB free")
    data = recordings_folder()
    if data.is_dir():
        yield Finding("ok", "recorded data", f"{data}: {sum(p.is_dir() for p in data.iterdir())} folders")
    else:
        fix = "only tests and training on them need it: set EMP_DATA to their folder"
        yield Finding("warn", "recorded data", f"{data} is absent", fix)
    ring_mib = config.bus.queue_bound * EVENT.itemsize * len(config.instruments.names) / (1 << 20)
    yield Finding("ok", "event queues", f"{ring_mib:.1f} MiB")


def network(config: SystemConfig) -> Iterator[Finding]:
    """The port that must be free, and the venue that must answer."""
    from emp.core.clock import LiveClock
    from emp.observe.board import Board

    server = HttpServer(create_app(Board(LiveClock())), config.http.host, config.http.port)
    try:
        server.start()
        server.stop()
        yield Finding("ok", "http port", f"{config.http.host}:{config.http.port} is free")
    except EmpError as error:
        yield Finding("bad", "http port", str(error), "see the line")
    access = config.access
    if access.connection_protocol in secrets.NEEDED and access.host and access.port:
        yield _answers("venue", access.host, access.port)


def _answers(name: str, host: str, port: int) -> Finding:
    try:
        with socket.create_connection((host, port), CONNECT_S):
            return Finding("ok", name, f"{host}:{port} answers")
    except OSError as error:
        why = error.strerror or str(error)
        return Finding(
            "bad", name, f"{host}:{port} does not answer: {why}", "start it, or correct the address"
        )


def lease(config: SystemConfig) -> Iterator[Finding]:
    """Who has the lease on each of the account's instruments, and what whoever takes it would begin with."""
    if config.lease.redis is None:
        return
    from emp.app.wiring.lease import open_store

    try:
        store = open_store(config)
        try:
            records = store.look(config.instruments.names)
        finally:
            store.close()
    except ModuleNotFoundError:
        yield Finding("bad", "lease", "the client of Redis is not installed", install_command("redis"))
        return
    except EmpError as error:
        yield Finding(
            "bad", "lease", str(error), "bring Redis up, or correct lease.redis: no engine can start"
        )
        return
    for name, one in zip(config.instruments.names, records, strict=True):
        yield _leased(name, one, int(config.lease.term_s * 1e6))
    if len({one.holder for one in records}) > 1:
        several = "not all instruments are one engine's"
        yield Finding(
            "warn", "lease", several, "an engine has all of instruments.names, or none: it will stand by"
        )


def _leased(name: str, one: "Record", term_us: int) -> Finding:
    """The lease on one instrument."""
    if one.holder and one.term_us != term_us:
        theirs, ours = one.term_us / 1e6, term_us / 1e6
        found = f"{name}: {one.holder} asked for a term of {theirs:g} s, this configuration for {ours:g} s"
        return Finding("bad", "lease", found, "give all engines the same lease.term_s")
    if not one.state:
        found = f"{name}: nobody has left anything: whoever takes it begins halted"
        return Finding("warn", "lease", found, "look at the account's loss of the day; then emp resume RUN")
    if not one.holder:
        return Finding("ok", "lease", f"{name}: given back, last under token {one.token}")
    if one.doubt:
        found = f"{name}: {one.holder} had it before Redis began again (token {one.token})"
        return Finding("warn", "lease", found, "a term passes before anybody has it")
    silent = "" if one.left_us > 0 else ", silent for longer than its term"
    return Finding("ok", "lease", f"{name}: held by {one.holder}, token {one.token}{silent}")


def extras() -> Iterator[Finding]:
    """What is installed beyond the runtime."""
    for name, extra, use in (
        ("torch", "train", "training"),
        ("py7zr", "archive", "7z recordings"),
        ("onnxruntime", "onnx", "ONNX files as models"),
        ("gymnasium", "sim", "the simulator as an environment"),
    ):
        if find_spec(name):
            yield Finding("ok", f"extra {extra}", f"{use} available")
        else:
            yield Finding("ok", f"extra {extra}", f"not installed ({use}): {install_command(extra)}")


def examine(path: Path) -> Iterator[Finding]:
    """Everything, in the order in which a start needs it."""
    yield from machine()
    yield from kernels()
    config, found = configuration(path)
    yield from found
    if config is not None:
        yield from credentials(config)
        yield from market(config)
        yield from storage(config)
        yield from network(config)
        yield from lease(config)
    yield from extras()
