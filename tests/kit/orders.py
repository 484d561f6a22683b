"""Commands to a venue, with everything that a test does not care about filled in."""

from emp.core.codes import Reason
from emp.core.contracts import CancelOrder, NewOrder, QueryOrder, Replace


def new_order(
    name: str,
    side: int,
    qty: int,
    px: int,
    *,
    instrument: str = "EURUSD",
    immediate: bool = False,
    ts: int = 0,
    reason: Reason = Reason.POST_EDGE,
    seq: int = 1,
) -> NewOrder:
    return NewOrder(
        cl_ord_id=name,
        instrument=instrument,
        side=side,
        qty=qty,
        px=px,
        immediate=immediate,
        ts=ts,
        reason=reason,
        decision_seq=seq,
    )


def cancel_order(
    name: str, orig: str, *, instrument: str = "EURUSD", ts: int = 0, reason: Reason = Reason.CANCEL_TTL
) -> CancelOrder:
    return CancelOrder(cl_ord_id=name, orig=orig, instrument=instrument, ts=ts, reason=reason)


def query_order(name: str, *, instrument: str = "EURUSD", ts: int = 0) -> QueryOrder:
    return QueryOrder(cl_ord_id=name, instrument=instrument, ts=ts)


def replace_order(
    name: str,
    orig: str,
    side: int,
    qty: int,
    px: int,
    *,
    instrument: str = "EURUSD",
    ts: int = 0,
    reason: Reason = Reason.CHASE,
    seq: int = 1,
) -> Replace:
    return Replace(
        cl_ord_id=name,
        orig=orig,
        instrument=instrument,
        side=side,
        qty=qty,
        px=px,
        ts=ts,
        reason=reason,
        decision_seq=seq,
    )
