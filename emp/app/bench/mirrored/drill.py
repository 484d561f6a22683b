"""Kills, stops and cuts off services, mirrors and the writer at random moments; in the end, what the mirrors hold."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from emp.app.bench.mirrored.processes import (
    KAFKA_MORE,
    Process,
    kafka_server,
    postgres_server,
    redis_server,
)
from emp.app.bench.mirrored.verify import Found, in_kafka, in_postgres, in_redis
from emp.app.bench.mirrored.wire import Wire
from emp.core.errors import EmpError, UsageError
from emp.core.mirror_status import read_status
from emp.journal.mirror.follow import RunReader
from emp.journal.mirror.tables import SCHEMA

MIRRORS = ("kafka", "timescale", "redis")
SERVERS = {"kafka": kafka_server, "timescale": postgres_server, "redis": redis_server}
CHECKS = {"kafka": in_kafka, "timescale": in_postgres, "redis": in_redis}

TARGETS = {"kafka": 0.2, "timescale": 0.2, "redis": 0.2, "mirror": 0.25, "twin": 0.05, "writer": 0.1}
"""Share of the faults that befall each. A twin: the mirrors are stopped, others take their place, the first go on."""

CUTS = 0.3
"""Share of a service's faults in which it lives, and the way to it is cut."""

CATCHES_UP_S = 300.0


class Drill:
    """One run of a writer, its mirrors in one process, the services of those, and a wire to each service."""

    def __init__(self, folder: Path, seed: int, wire: type[Wire] = Wire) -> None:
        self._rng = np.random.default_rng(seed)
        self.run = folder / "runs" / "DRILL"
        self.run.parent.mkdir(parents=True)
        made = {name: make(folder) for name, make in SERVERS.items()}
        self.servers = {name: process for name, (process, _) in made.items()}
        self.addresses = {name: address for name, (_, address) in made.items()}
        ports = {name: _port(address) for name, address in self.addresses.items()}
        self.wires = {name: wire(int(port)) for name, port in ports.items()}
        # a broker says itself where it is reached
        more = f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.wires['kafka'].port}\n"
        (folder / KAFKA_MORE).write_text(more)
        options = []
        for name, address in self.addresses.items():
            options += [f"--{name}", address.replace(ports[name], str(self.wires[name].port))]
        command = [sys.executable, "-m", "emp", "mirror", "--run", str(self.run), *options]
        self._folder, self._command = folder, command
        self.mirror = self._mirrors("mirror")
        writer = [sys.executable, "-m", "emp.app.bench.mirrored.writer", str(self.run)]
        ready = self.run / "market"
        self.writer = Process("writer", writer, ready.exists, log=folder / "writer.log")
        self.twins: list[Process] = []

    def _mirrors(self, name: str) -> Process:
        return Process(name, self._command, lambda: True, log=self._folder / f"{name}.log")

    def start(self) -> None:
        """Start everything."""
        for server in self.servers.values():
            server.start()
        self.writer.start()
        self.mirror.start()

    def close(self) -> None:
        """Leave no process."""
        for process in (*self.servers.values(), self.writer, self.mirror, *self.twins):
            process.kill()
        for wire in self.wires.values():
            wire.close()

    def fault(self) -> tuple[str, str, float]:
        """One fault at a random moment; whom it befell, what it was, and seconds until its mirrors had caught up."""
        target = str(self._rng.choice(list(TARGETS), p=list(TARGETS.values())))
        return target, *self.befall(target)

    def befall(self, target: str) -> tuple[str, float]:
        """One fault of a target; what it was, and the seconds."""
        time.sleep(self._rng.uniform(0.1, 1.0))
        if target == "twin":
            what = self._twin()
        elif target in self.wires and self._rng.random() < CUTS:
            what = self._cut(self.wires[target])
        else:
            one = self.servers.get(target) or (self.mirror if target == "mirror" else self.writer)
            what = self._kill(one) if self._rng.random() < 0.6 else self._stop(one)
        began = time.monotonic()
        self._catch_up([target] if target in MIRRORS else list(MIRRORS))
        return what, time.monotonic() - began

    def _kill(self, one: Process) -> str:
        one.kill()
        time.sleep(self._rng.uniform(0.0, 0.5))
        one.start()
        return "SIGKILL"

    def _stop(self, one: Process) -> str:
        one.stop()
        time.sleep(self._rng.uniform(0.3, 2.0))
        one.go_on()
        return "SIGSTOP"

    def _cut(self, wire: Wire) -> str:
        """For a moment, or for longer than anything waits for an answer."""
        wire.cut()
        time.sleep(
            self._rng.uniform(0.3, 2.0) if self._rng.random() < 0.75 else self._rng.uniform(15.0, 35.0)
        )
        wire.join()
        return "cut off"

    def _twin(self) -> str:
        self.mirror.stop()
        second = self._mirrors("twin")
        self.twins.append(second)
        second.start()
        time.sleep(self._rng.uniform(2.0, 4.0))  # so long that it has begun to carry
        self.mirror.go_on()
        time.sleep(self._rng.uniform(0.0, 1.0))  # both at once
        second.kill()
        return "SIGSTOP"

    def _catch_up(self, names: list[str]) -> None:
        """Wait until mirrors have what the journal had when this was called."""
        reader, end = RunReader(self.run), time.monotonic() + CATCHES_UP_S
        wanted = None
        while time.monotonic() < end:
            try:
                wanted = wanted or reader.ends()
            except EmpError:  # the writer is just beginning again
                time.sleep(0.05)
                continue
            had = {one.name: one.positions for one in read_status(self.run)}
            if all(all(had.get(name, {}).get(s, 0) >= n for s, n in wanted.items()) for name in names):
                return
            time.sleep(0.05)
        told = "; ".join(one.error for one in read_status(self.run) if one.name in names)
        raise UsageError(f"{', '.join(names)} did not catch up within {CATCHES_UP_S:g} s: {told}")

    def _see_it_write(self) -> None:
        """Wait until the writer writes: one that has only just begun does not know of an orderly end yet."""
        reader, end, before = RunReader(self.run), time.monotonic() + CATCHES_UP_S, -1
        while time.monotonic() < end:
            try:
                found = reader.ends()["market"]
            except EmpError:  # it is just beginning again
                found = -1
            if 0 <= before < found:
                return
            before = found if before < 0 else before
            time.sleep(0.05)
        raise UsageError("the writer does not write")

    def finish(self) -> dict[str, Found]:
        """End the run, let the mirrors have all of it, and look at what they hold."""
        self._see_it_write()
        if self.writer.end() != 0:
            raise UsageError("the writer did not end in order")
        self._catch_up(list(MIRRORS))
        if self.mirror.end() != 0:
            raise UsageError("the mirrors did not end in order")
        return {name: check(self.run, self.addresses[name]) for name, check in CHECKS.items()}

    def refill(self) -> dict[str, float]:
        """Lose the database whole and fill it again from the run alone: records, seconds, and what differs."""
        import psycopg

        address = self.addresses["timescale"]
        with psycopg.connect(address, autocommit=True) as db:
            db.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
        command = [sys.executable, "-m", "emp", "mirror", "--run", str(self.run), "--once"]
        began = time.monotonic()
        done = subprocess.run([*command, "--wait", str(CATCHES_UP_S), "--timescale", address], check=False)
        seconds = time.monotonic() - began
        if done.returncode != 0:
            raise UsageError(f"the database was not filled again: exit code {done.returncode}")
        found = in_postgres(self.run, address)
        return {"records": found.records, "seconds": round(seconds, 2), "wrong": sum(found[1:])}


def _port(address: str) -> str:
    """The port in a service's address, as it stands there."""
    found = re.search(r"(?:127\.0\.0\.1:|port=)(\d+)", address)
    assert found is not None
    return found[1]


def run_drill(
    folder: Path, kills: int, seed: int, told: Callable[[str], None], wire: type[Wire] = Wire
) -> dict[str, Any]:
    """So many faults; what came of them."""
    drill = Drill(folder, seed, wire)
    faults: dict[str, int] = {}
    took: dict[str, list[float]] = {}
    try:
        drill.start()
        for k in range(kills):
            target, what, seconds = drill.fault()
            faults[f"{target} {what}"] = faults.get(f"{target} {what}", 0) + 1
            took.setdefault(target, []).append(seconds)
            told(f"{k + 1}/{kills} {target} {what}: caught up after {seconds:.1f} s")
        found = drill.finish()
        refilled = drill.refill()
    finally:
        drill.close()
    return {
        "kills": kills,
        "faults": dict(sorted(faults.items())),
        "records": {name: one.records for name, one in found.items()},
        "lost": sum(one.lost for one in found.values()),
        "doubled": sum(one.doubled for one in found.values()),
        "different": sum(one.different for one in found.values()),
        "refilled": refilled,
        "catch_up_s": {name: _quantiles(seconds) for name, seconds in sorted(took.items())},
    }


def _quantiles(seconds: list[float]) -> dict[str, float]:
    p50, p99 = np.quantile(seconds, (0.5, 0.99))
    return {"n": len(seconds), "p50": round(float(p50), 2), "p99": round(float(p99), 2)}
