"""Journalled records as the messages of Kafka's topics: topic, key, JSON.

Every value begins with `run` and `n`, the record's number in its stream: together they name it for ever.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from emp.core.codes import Action, Reason
from emp.core.contracts import Control, DegradedMode, OrderUpdate, RiskBreach
from emp.core.market_topic import MARKET, encode_market
from emp.core.records import Array
from emp.journal.mirror.follow import Batch, Line
from emp.journal.records import LedgerEvent, Note

ORDER = "order_update"
BREACH = "risk_breach"
DEGRADED = "degraded_mode"
ACTIONS = "action_log"
LEDGER = "ledger"
METRICS = "metrics"

TOPICS = (MARKET, ORDER, BREACH, DEGRADED, ACTIONS, LEDGER, METRICS)

_encode = msgspec.json.Encoder().encode


class Record(NamedTuple):
    """A record on its way to a topic; records of one key keep their order."""

    topic: str
    key: bytes
    value: bytes


def records_of(run: str, instruments: tuple[str, ...], batch: Batch) -> Iterator[Record]:
    """Yield everything in a batch as records: equal batches give equal bytes."""
    yield from _ledger(run, batch.ledger)
    for key, event in encode_market(run, instruments, batch.numbers("market"), batch.market):
        yield Record(MARKET, key.encode(), event)
    yield from _actions(run, instruments, batch)
    for stream in ("monitor", "latency"):
        lines: list[Line] = getattr(batch, stream)
        for line in lines:
            value = {"run": run, "n": line.n, "kind": stream, "data": msgspec.Raw(line.text)}
            yield Record(METRICS, run.encode(), _encode(value))


def _ledger(run: str, events: list[LedgerEvent]) -> Iterator[Record]:
    for event in events:
        body = event.body
        told = {"run": run, "n": event.seq, "at": event.at}
        whole = _encode(told | {"kind": event.kind, "body": msgspec.Raw(event.payload)})
        yield Record(LEDGER, run.encode(), whole)
        bus = _on_bus(body)
        if bus is not None:
            key = (bus.instrument or run).encode()
            yield Record(bus.topic, key, _encode(told | msgspec.to_builtins(bus)))


def _on_bus(body: object) -> OrderUpdate | RiskBreach | DegradedMode | None:
    """What the bus of the engine told when this was recorded; None where it told nothing."""
    if isinstance(body, OrderUpdate):
        return body
    if isinstance(body, Note) and body.kind == BREACH:
        return msgspec.convert({**body.data, "ts": body.ts, "instrument": body.instrument}, RiskBreach)
    if isinstance(body, Control) and body.action == "degraded":
        return DegradedMode(
            reason=body.reason,
            queue_depth=-1,  # the ledger keeps that it was so, not how deep it was
            lag_ms=-1.0,
            instrument=body.instrument,
            active=body.value != 0,
            ts=body.ts,
        )
    return None


def _actions(run: str, instruments: tuple[str, ...], batch: Batch) -> Iterator[Record]:
    rows, models = batch.actions, batch.models
    for n, row in zip(batch.numbers("actions"), _dicts(rows), strict=True):
        which, model = row["instrument"], row.pop("model_id")
        row["instrument"] = instruments[which]
        row["action"] = Action(row["action"]).name.lower()
        row["reason_code"] = Reason(row["reason_code"]).name.lower()
        row["model_hash"] = models[model] if model < len(models) else ""
        value = _encode({"run": run, "n": n} | row)
        yield Record(ACTIONS, instruments[which].encode(), value)


def _dicts(rows: Array) -> Iterator[dict[str, Any]]:
    names = rows.dtype.names or ()
    for values in zip(*(rows[name].tolist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))
