"""Kills, pauses and cuts off engines and Redis at random moments, and measures how long nobody traded."""

import itertools
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import redis

from emp.app.bench.mirrored.processes import Process, free_port, listens, redis_server
from emp.app.bench.mirrored.wire import Wire
from emp.app.bench.takeover.check import Checked, check, final_positions, lines
from emp.core.errors import UsageError
from emp.core.ids import token_of

FAULTS = {
    "SIGKILL": 0.3,  # of the engine that trades
    "SIGSTOP": 0.15,  # for longer than a term
    "short SIGSTOP": 0.1,  # for less than half a term
    "SIGTERM": 0.05,  # an orderly end: the lease is given back
    "cut off": 0.1,  # from Redis and the venue
    "cut off from Redis": 0.1,
    "cut off from the venue": 0.05,
    "stand-by SIGKILL": 0.05,
    "Redis SIGKILL": 0.04,  # it comes back with what it had written
    "Redis forgets": 0.03,  # it comes back with nothing
    "Redis SIGSTOP": 0.03,  # for less or more than a term
}
"""Share of each."""

PATIENCE_S = 240.0


class Contender:
    """One engine's process, its wires, and where it lives."""

    def __init__(self, name: str, home: Path, to_venue: Wire, to_redis: Wire, term_s: float) -> None:
        self.home, self.to_venue, self.to_redis = home, to_venue, to_redis
        address = f"redis://127.0.0.1:{self.to_redis.port}/0"
        command = [sys.executable, "-m", "emp.app.bench.takeover.engine", str(home)]
        command += [str(self.to_venue.port), address, str(term_s)]
        state = {"EMP_STATE": str(home / "state")}
        self.process = Process(name, command, lambda: True, environment=state, log=home / f"{name}.log")
        self.exits: Counter[int] = Counter()

    @property
    def pid(self) -> int:
        """Of the process that runs, 0 where none does."""
        running = self.process._running
        return 0 if running is None or running.poll() is not None else running.pid

    def tend(self) -> None:
        """Start it again where it has ended, as a supervisor does."""
        running = self.process._running
        if running is not None and running.poll() is not None:
            self.exits[running.returncode] += 1
            self.process.start()

    def close(self) -> None:
        """Leave nothing."""
        self.process.kill()
        self.to_venue.close()
        self.to_redis.close()


class Drill:
    """Engines of two machines: two in one folder, where one goes on with the other's ledger, and one alone."""

    def __init__(self, folder: Path, seed: int, term_s: float, wire: type[Wire] = Wire) -> None:
        if shutil.which("redis-server") is None:
            raise UsageError("redis-server is not installed: the drill needs a real one")
        self._rng = np.random.default_rng(seed)
        self._folder, self._term_s = folder, term_s
        self.redis, self._address = redis_server(folder)
        port = free_port()
        command = [sys.executable, "-m", "emp.app.bench.takeover.venue", str(folder), str(port), str(seed)]
        self.venue = Process("venue", command, lambda: listens(port), log=folder / "venue.log")
        self.homes = [folder / "box1", folder / "box2"]
        for home in self.homes:
            (home / "state").mkdir(parents=True)
        redis_port = int(self._address.rsplit(":", 1)[1].partition("/")[0])
        self.engines = [
            Contender(name, home, wire(port), wire(redis_port), term_s)
            for name, home in zip("abc", (self.homes[0], self.homes[0], self.homes[1]), strict=True)
        ]
        self.took: dict[str, list[float]] = {}
        self.first_order: list[float] = []
        self.faults: Counter[str] = Counter()
        self._read = 0
        self._newest = (0, 0)  # token, and when its first order arrived

    def start(self) -> None:
        """Start everything, and wait until somebody trades."""
        self.redis.start()
        self.venue.start()
        self.engines[0].process.start()
        self._until(lambda: self._holder() is not None and self._trading() > 0, "the first engine to trade")
        for one in self.engines[1:]:
            one.process.start()
        self._until(lambda: all(self._stands_by(one) for one in self.engines), "the others to stand by")

    def close(self) -> None:
        """Leave no process."""
        for one in self.engines:
            one.close()
        self.venue.kill()
        self.redis.kill()

    # --- what is so

    def _holder(self) -> Contender | None:
        """Whose process Redis names, while it runs."""
        try:
            with redis.Redis.from_url(self._address, socket_timeout=1, decode_responses=True) as client:
                found = [client.hget(key, "holder") or "" for key in client.keys("emp:{lease:*")]
        except redis.RedisError:
            return None
        pids = {int(one.split(":")[1]) for one in found if one}
        return next((one for one in self.engines if one.pid in pids), None)

    def _trading(self) -> int:
        """The newest token of which an order has arrived."""
        for one in itertools.islice(lines(self._folder / "venue.jsonl"), self._read, None):
            self._read += 1
            if one["k"] == "D" and (token := token_of(one["id"])) > self._newest[0]:
                self._newest = (token, one["t"])
        return self._newest[0]

    def _arrived_since(self, ns: int) -> int:
        """When the first order came after a time, of whatever token; 0: none has."""
        for one in lines(self._folder / "venue.jsonl"):
            if one["k"] == "D" and one["t"] > ns:
                return int(one["t"])
        return 0

    def _traded_since(self, token: int) -> int:
        """When a holder with a later token first had ledger and venue agree."""
        told = (one for home in self.homes for one in lines(home / "told.jsonl"))
        return min(int(one["t"]) for one in told if one["k"] == "trades" and one["token"] > token)

    def _stands_by(self, one: Contender) -> bool:
        """Whether its process waits for the lease, or has it."""
        pid = one.pid
        return bool(pid) and any(told.get("pid") == pid for told in lines(one.home / "told.jsonl"))

    def _tend(self) -> None:
        for one in self.engines:
            one.tend()

    def _until(self, what: Callable[[], bool], words: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not what():
            if time.monotonic() > end:
                raise UsageError(f"waited {PATIENCE_S:g} s for {words}: see {self._folder}")
            self._tend()
            time.sleep(0.05)

    # --- faults

    def fault(self, which: str | None = None) -> tuple[str, float]:
        """One fault at a random moment; seconds from it until another engine has agreed with the venue and may trade,
        where the old one cannot go on; else to the next order of the old one.
        """
        which = which or str(self._rng.choice(list(FAULTS), p=list(FAULTS.values())))
        time.sleep(self._rng.uniform(0.2, 1.0))
        self._until(lambda: self._holder() is not None, "a holder")
        holder = self._holder()
        assert holder is not None
        others = [one for one in self.engines if one is not holder]
        self._until(lambda: any(self._stands_by(one) for one in others), "somebody to stand by")
        token, began = self._trading(), time.time_ns()
        changes = self._befall(which, holder)
        self.faults[which] += 1
        if changes:
            self._until(lambda: self._trading() > token, f"a new holder after {which}")
            self.first_order.append((self._newest[1] - began) / 1e9)
            seconds = (self._traded_since(token) - began) / 1e9
        else:
            after = time.time_ns()
            self._until(lambda: self._arrived_since(after) > 0, f"orders after {which}")
            seconds = (self._arrived_since(began) - began) / 1e9
        self.took.setdefault(which, []).append(seconds)
        return which, seconds

    def _befall(self, which: str, holder: Contender) -> bool:
        """Do it; whether another engine has to take over."""
        term, draw = self._term_s, self._rng.uniform
        other = next(one for one in self.engines if one is not holder and one.pid)
        match which:
            case "SIGKILL":
                holder.process.kill()
            case "SIGTERM":
                holder.process._signal(signal.SIGTERM)
            case "SIGSTOP":
                holder.process.stop()
                self._wait(draw(1.5, 3.0) * term)
                holder.process.go_on()
            case "short SIGSTOP":
                holder.process.stop()
                time.sleep(draw(0.1, 0.4) * term)
                holder.process.go_on()
                return False
            case "cut off" | "cut off from Redis" | "cut off from the venue":
                wires = {"cut off": (holder.to_redis, holder.to_venue)}.get(which, (holder.to_redis,))
                wires = (holder.to_venue,) if which.endswith("venue") else wires
                for wire in wires:
                    wire.cut()
                self._wait(
                    draw(3.0, 4.0) * term if "Redis" in which or which == "cut off" else draw(0.5, 4.0)
                )
                for wire in wires:
                    wire.join()
                return which != "cut off from the venue"
            case "stand-by SIGKILL":
                other.process.kill()
                return False
            case "Redis SIGKILL" | "Redis forgets":
                self.redis.kill()
                if which == "Redis forgets":
                    shutil.rmtree(self._folder / "redis")
                    (self._folder / "redis").mkdir()
                time.sleep(draw(0.0, 0.2) * term)
                self.redis.start()
                return False
            case _:
                self.redis.stop()
                time.sleep(draw(0.1, 1.5) * term)
                self.redis.go_on()
                return False
        return True

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._tend()
            time.sleep(0.05)

    # --- the end

    def finish(self) -> Checked:
        """End everybody in order, the one that trades last, and look at what there is."""
        self._until(lambda: self._holder() is not None, "a holder")
        holder = self._holder()
        assert holder is not None
        for one in self.engines:
            if one is not holder:
                one.process.kill()
        time.sleep(1.0)
        if (code := holder.process.end()) != 0:
            raise UsageError(f"the last engine ended with {code}: see {holder.home}")
        self.venue.end()
        found = check(self._folder, self.homes)
        last = max(holder.home.glob("runs/live-*/ledger.sqlite"), key=lambda path: path.stat().st_mtime_ns)
        final_positions(found, self._folder, last)
        return found


def run_drill(
    folder: Path,
    kills: int,
    seed: int,
    told: Callable[[str], None],
    term_s: float = 2.0,
    wire: type[Wire] = Wire,
) -> dict[str, Any]:
    """So many faults; what came of them."""
    drill = Drill(folder, seed, term_s, wire)
    try:
        drill.start()
        for k in range(kills):
            which, seconds = drill.fault()
            told(f"{k + 1}/{kills} {which}: traded again after {seconds:.2f} s")
        found = drill.finish()
    finally:
        drill.close()
    taken = [s for which, times in drill.took.items() if which in TAKES_OVER for s in times]
    exits = sum((one.exits for one in drill.engines), Counter[int]())
    return {
        "kills": kills,
        "term_s": term_s,
        "faults": dict(sorted(drill.faults.items())),
        "takeover_s": {"n": len(taken), **_quantiles(taken)},
        "first_order_s": _quantiles(drill.first_order),
        "by_fault_s": {which: {"n": len(t), **_quantiles(t)} for which, t in sorted(drill.took.items())},
        "exits": {str(code): n for code, n in sorted(exits.items())},
        "orders": found.orders,
        "changes": found.changes,
        "fills": found.fills,
        "holders": found.tokens,
        "starts": found.starts,
        "violations": found.violations,
        "overlaps": found.overlaps,
        "older": found.older,
        "doubled": found.doubled,
        "unrecorded": found.unrecorded,
        "left": found.left,
        "positions": found.positions,
        "breaches": found.breaches,
        "words": found.words[:20],
    }


TAKES_OVER = frozenset({"SIGKILL", "SIGSTOP", "SIGTERM", "cut off", "cut off from Redis"})
"""Faults after which another engine must take over."""


def _quantiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    p50, p99 = np.quantile(seconds, (0.5, 0.99))
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "max": round(max(seconds), 2)}
