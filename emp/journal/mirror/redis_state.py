"""Mirror in Redis: the newest state of a run, and how many records led to it, moved on by one script at a time."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import redis

from emp.core.codes import Action, Reason
from emp.core.config.secrets import REDIS_PASSWORD, load_secrets
from emp.core.contracts import Control, OrderUpdate
from emp.core.records import Array
from emp.journal.mirror.follow import NOWHERE, STREAMS, Batch, Instrument
from emp.journal.mirror.sink import MirrorError

_MOVE_ON = """
local told = cjson.decode(ARGV[1])
for stream, after in pairs(told.after) do
  if (redis.call('HGET', KEYS[1], stream) or '0') ~= after then return 0 end
end
for stream, position in pairs(told['until']) do redis.call('HSET', KEYS[1], stream, position) end
for counted, by in pairs(told.counts) do redis.call('HINCRBY', KEYS[2], counted, by) end
for index, fields in ipairs(told.states) do
  for name, value in pairs(fields) do redis.call('HSET', KEYS[2 + index], name, value) end
end
return 1
"""
"""Nothing where the cursor is not where the batch begins; else cursor, counts and states together."""

ANSWER_S = 5.0


class RedisSink:
    """One run in one Redis. Keys: `emp:{RUN}:cursor`, `emp:{RUN}:counts`, `emp:{RUN}:run`,
    `emp:{RUN}:instrument:NAME`, all of them hashes, in one slot of a cluster.
    """

    def __init__(
        self,
        address: str,
        run: str,
        instruments: Sequence[str],
        grids: Sequence[Instrument],
        _: object = None,
    ) -> None:
        """`address` as redis://HOST:PORT/DB, the password EMP_REDIS_PASSWORD; MirrorError where nothing answers."""
        self._run = run
        self._instruments = tuple(instruments)
        password = load_secrets().get(REDIS_PASSWORD)
        try:
            self._redis: Any = redis.Redis.from_url(
                address,
                password=None if password is None else password.reveal(),
                socket_timeout=ANSWER_S,
                socket_connect_timeout=ANSWER_S,
                decode_responses=True,
                retry=None,
            )
            self._redis.ping()
            for one in grids:
                key = self._key(f"instrument:{one.name}")
                self._redis.hset(key, mapping={"tick": one.tick, "lot": one.lot})
        except (redis.RedisError, OSError) as error:
            raise _failure(error) from None

    def _key(self, name: str) -> str:
        return f"emp:{{{self._run}}}:{name}"

    def positions(self) -> dict[str, int]:
        """The cursor of this run."""
        try:
            found = self._redis.hgetall(self._key("cursor"))
        except (redis.RedisError, OSError) as error:
            raise _failure(error) from None
        return dict(NOWHERE) | {stream: int(position) for stream, position in found.items()}

    def write(self, batch: Batch) -> None:
        """Move state, counts and cursor on, unless another mirror of the run has been here since."""
        states = self._states(batch)
        told = {
            "after": {stream: str(batch.after[stream]) for stream in STREAMS},
            "until": {stream: str(position) for stream, position in batch.until.items()},
            "counts": {stream: n for stream in STREAMS if (n := len(getattr(batch, stream)))},
            "states": list(states.values()),
        }
        keys = [self._key("cursor"), self._key("counts"), *map(self._key, states)]
        try:
            moved = self._redis.eval(_MOVE_ON, len(keys), *keys, msgspec.json.encode(told))
        except (redis.RedisError, OSError) as error:
            raise _failure(error) from None
        if not moved:
            raise MirrorError(
                "redis: another mirror of the run writes here too, or Redis has lost what it had"
            )

    def _states(self, batch: Batch) -> dict[str, Mapping[str, str]]:
        """Newest values by key."""
        found: dict[str, dict[str, str]] = {}
        self._from_ledger(batch, found)
        for which, name in enumerate(self._instruments):
            state = found.setdefault(f"instrument:{name}", {})
            events = batch.market[batch.market["instrument"] == which]
            if len(events):
                state.update(_of_event(events[-1]))
            rows = batch.actions[batch.actions["instrument"] == which]
            if len(rows):
                state.update(_of_row(rows[-1], batch.models))
        return {key: state for key, state in found.items() if state}

    def _from_ledger(self, batch: Batch, found: dict[str, dict[str, str]]) -> None:
        for event in batch.ledger:
            if event.kind == "report":
                report = event.body
                assert isinstance(report, OrderUpdate)
                if report.instrument:
                    state = found.setdefault(f"instrument:{report.instrument}", {})
                    state["last_report"] = event.payload.decode()
            elif event.kind == "control":
                control = event.body
                assert isinstance(control, Control)
                if control.action in ("halt", "resume", "flatten", "kill", "stop", "start"):
                    asked = {"last_control": control.action, "last_control_ts": str(control.ts)}
                    found.setdefault("run", {}).update(asked | {"last_control_reason": control.reason})

    def close(self) -> None:
        """Let go of the connection."""
        with suppress(redis.RedisError, OSError, AttributeError):
            self._redis.close()


def _of_event(event: Array) -> dict[str, str]:
    best = {"bid": "bid_px", "ask": "ask_px", "bid_sz": "bid_sz", "ask_sz": "ask_sz"}
    found = {name: str(int(event[column][0])) for name, column in best.items()}
    return found | {"ts": str(int(event["ts"])), "seq": str(int(event["seq"]))}


def _of_row(row: Array, models: tuple[str, ...]) -> dict[str, str]:
    model = int(row["model_id"])
    numbers = {name: repr(row[name].item()) for name in ("inventory", "pnl_ticks", "day_pnl", "drawdown")}
    return numbers | {
        "decision_ts": str(int(row["ts"])),
        "decision_seq": str(int(row["seq"])),
        "action": Action(int(row["action"])).name.lower(),
        "reason": Reason(int(row["reason_code"])).name.lower(),
        "halted": str(int(row["halted"])),
        "model_hash": models[model] if model < len(models) else "",
    }


def _failure(error: Exception) -> MirrorError:
    return MirrorError(f"redis: {(str(error).splitlines() or [type(error).__name__])[0]}")
