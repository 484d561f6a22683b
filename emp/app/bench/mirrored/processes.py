"""Processes that a drill starts, stops, continues and kills: whatever they start goes with them."""

import contextlib
import glob
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from emp.core.errors import UsageError

KAFKA_MORE = "kafka.properties"
"""In the folder of the services: further lines of Kafka's settings."""

STARTS_S = 180.0
"""How long a service may take to answer on a slow machine."""


class Process:
    """One command that can be started again and again, with whatever it has started itself."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        answers: Callable[[], bool],
        *,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        log: Path,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._answers = answers
        self._user = user
        self._environment = {**os.environ, **(environment or {})}
        self._log = log
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers; tried again where it ends before that (its port is not free yet)."""
        end = time.monotonic() + STARTS_S
        self._spawn()
        while not self._answers():
            assert self._running is not None
            if time.monotonic() > end:
                raise UsageError(f"{self.name} does not answer: see {self._log}")
            if self._running.poll() is not None:
                time.sleep(0.3)
                self._spawn()
            time.sleep(0.05)

    def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                cwd=self._log.parent,
            )

    def kill(self) -> None:
        """SIGKILL to all of it, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        if self._running is not None:
            self._running.wait()

    def stop(self) -> None:
        """SIGSTOP to all of it."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT to all of it."""
        self._signal(signal.SIGCONT)

    def end(self) -> int:
        """SIGTERM, and the exit status."""
        assert self._running is not None
        self._running.terminate()
        return self._running.wait(STARTS_S)

    def _signal(self, which: signal.Signals) -> None:
        if self._running is None or self._running.poll() is not None:
            return
        for pid in _family(self._running.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, which)


def _family(pid: int) -> list[int]:
    """A process and all that descend from it, parents first."""
    children: dict[int, list[int]] = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = Path(path).read_text().rpartition(")")
            children.setdefault(int(words[2].split()[1]), []).append(int(path.split("/")[2]))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def free_port() -> int:
    """A port of loopback that nothing has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def redis_server(folder: Path) -> tuple[Process, str]:
    """A Redis that writes each command to its log before it answers, and its address."""
    port, where = free_port(), folder / "redis"
    where.mkdir()
    command = [_program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(where)]
    # as docker-compose.yml has it: without "always" an answer does not wait for its log where the disk is slow
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    import redis

    def answers() -> bool:
        try:
            with redis.Redis(port=port, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    return Process("redis", command, answers, log=folder / "redis.log"), f"redis://127.0.0.1:{port}/0"


def postgres_server(folder: Path) -> tuple[Process, str]:
    """A PostgreSQL on loopback and its address; as root it runs as the user postgres, since it refuses root."""
    port, where = free_port(), folder / "postgres"
    where.mkdir(mode=0o700)
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(where, user, user)
    made = [_program("initdb"), "-D", str(where), "-U", "emp", "-A", "trust", "-E", "UTF8", "--locale=C"]
    subprocess.run(
        made,
        check=True,
        capture_output=True,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        cwd="/",
    )
    command = [_program("postgres"), "-D", str(where), "-p", str(port), "-k", str(where), "-h", "127.0.0.1"]
    address = f"host=127.0.0.1 port={port} user=emp dbname=postgres"
    import psycopg

    def answers() -> bool:
        try:
            psycopg.connect(address, connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    return Process("timescale", command, answers, user=user, log=folder / "postgres.log"), address


def kafka_server(folder: Path) -> tuple[Process, str]:
    """A Kafka of one node on loopback, of the folder that EMP_KAFKA names, and its address."""
    home = os.environ.get("EMP_KAFKA", "")
    program = Path(home) / "kafka-server"
    if not home or not program.exists():
        raise UsageError("EMP_KAFKA must name a folder with kafka-server DATA_DIR PORT")
    port = free_port()
    servers = f"127.0.0.1:{port}"
    command = [str(program), str(folder / "kafka"), str(port)]
    more = folder / KAFKA_MORE
    more.touch()
    told = {"KAFKA_HEAP": "384m", "KAFKA_OPTS": str(more)}
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    def answers() -> bool:
        if not listens(port):
            return False
        try:
            client = AdminClient({"bootstrap.servers": servers, "log_level": 0})
            return bool(client.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    return Process("kafka", command, answers, environment=told, log=folder / "kafka.log"), servers


def _program(name: str) -> str:
    found = shutil.which(name) or next(
        iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))[-1:]), None
    )
    if found is None:
        raise UsageError(f"{name} is not installed")
    return found
