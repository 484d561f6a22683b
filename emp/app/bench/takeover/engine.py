"""An engine of a drill: python -m emp.app.bench.takeover.engine HOME VENUE_PORT REDIS TERM_S.

The engine as `emp run` wires it, under a lease, with a rule that trades all the time. HOME holds its runs, the
account's state (EMP_STATE) and `told.jsonl`: when it had the lease, when it traded, and how it ended.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from emp.access.fix.client import FixAccess
from emp.access.fix.settings import FixSettings
from emp.app.bench.takeover.rule import BusyRule
from emp.app.bench.takeover.terms import ACCOUNT, dialect, traded
from emp.app.wiring.assembly import engine_limits
from emp.app.wiring.lease import UNKNOWN_DAY, stand_by
from emp.app.wiring.live import Running, assemble_live, open_log
from emp.core.clock import LiveClock
from emp.core.codes import Reason
from emp.core.config.config import SystemConfig
from emp.core.errors import EmpError, LeaseError
from emp.core.platform import say
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.succession import Models
from emp.observe import logs
from emp.observe.board import Board

WARM_UP = 16
"""Events before the first order: of the shipped model it would be hundreds, which take-overs do not depend on."""

ENDED = {"in order": 0, "lease": LeaseError.exit_code, "failed": 1}


def config_of(home: Path, port: int, redis: str, term_s: float) -> SystemConfig:
    """What the engine is told."""
    told: dict[str, Any] = {
        "mode": "live",
        "run_dir": home / "runs",
        "warm_up_events": 0,
        "cool_down_events": 0,
        "instruments": {"names": [one.name for one in traded()]},
        "access": {
            "connection_protocol": "fix",
            "host": "venue",
            "port": port,
            "account": ACCOUNT,
            "sender_comp_id": "EMP",
            "target_comp_id": "EMPVENUE",
        },
        "model": {
            "ssm_impl": "linear",
            "fallback_impl": "none",
            "monitor": False,
            "p99_ms": 1e6,
            "total_p99_ms": 1e7,
        },
        "risk": {
            "max_daily_loss_ticks": 1e9,
            "max_drawdown_ticks": 1e9,
            "max_orders_per_minute": 100_000,
            "max_turnover_per_minute_lots": 100_000,
            "max_turnover_per_hour_lots": 10_000_000,
        },
        "breakers": {"rejects": 10_000, "answer_s": 60.0, "decision_p99_ms": 10_000.0},
        "context": {"enabled": False},
        "bus": {"max_age_ms": 5_000.0},
        "lease": {"redis": redis, "term_s": term_s},
    }
    return SystemConfig(**told)


class Telling:
    """The file in which an engine says what it does."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def tell(self, kind: str, **what: Any) -> None:
        """One line."""
        self._file.write(json.dumps({"t": time.time_ns(), "k": kind, **what}) + "\n")


def warm_up(config: SystemConfig, model: Models) -> None:
    """Load what is compiled before the lease is had: a take-over must not wait for it."""
    spare = Engine(traded(), model.serving, engine_limits(config), "WARMING0")
    spare.attach_rule(BusyRule(np.array([False])))
    spare.warm_up()


async def trade(running: Running, telling: Telling) -> None:
    """Trade until SIGTERM, a failure, or the loss of the lease."""
    live = running.live
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, live.owner.stop)

    async def resume() -> None:
        await live.connected.wait()
        telling.tell("trades", token=running.engine.token, run=running.engine.run)
        halts = running.engine.desk.risk
        if halts["halted"].any() and (halts["halt_reason"] == Reason.HALTED).all():
            telling.tell("resumed", why=UNKNOWN_DAY)
            live.owner.control("resume", "drill")

    resuming = asyncio.create_task(resume())
    try:
        await live.run()
    finally:
        resuming.cancel()
        await asyncio.gather(resuming, return_exceptions=True)


def main(home: Path, port: int, redis: str, term_s: float) -> int:
    """One process; how it ended."""
    config, clock, models = (
        config_of(home, port, redis, term_s),
        LiveClock(),
        Models(load_model("linear"), None),
    )
    telling, board = Telling(home / "told.jsonl"), Board(clock)
    warm_up(config, models)
    telling.tell("stands by", pid=os.getpid())
    lease = stand_by(config, board)
    assert lease is not None
    telling.tell("has", token=lease.token)
    try:
        access = FixAccess(
            FixSettings(
                host="127.0.0.1",
                port=port,
                sender="EMP",
                target="EMPVENUE",
                dialect=dialect(),
                tls=False,
                account=ACCOUNT,
                store=home / "fix-sequence",
                patience_s=60.0,
                timeout_s=3.0,
            ),
            clock,
        )
        running = assemble_live(config, traded(), models, access, board, clock, None, lease)
        running.engine.attach_rule(BusyRule(np.array([True])))
        running.engine.desk.limits["warmup_events"] = WARM_UP  # the rule asks the model for nothing
        with open_log(running.folder) as stream:
            log = logs.configure(stream, clock)
            try:
                asyncio.run(trade(running, telling))
            finally:
                log.close()
    except LeaseError as error:
        telling.tell("ends", how="lease", why=str(error))
        return ENDED["lease"]
    except EmpError as error:
        telling.tell("ends", how="failed", why=str(error))
        say(f"emp: {error}")
        return ENDED["failed"]
    finally:
        with contextlib.suppress(RuntimeError):
            lease.stop()
    telling.tell("ends", how="in order", left=running.live.left_open())
    return ENDED["in order"]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
