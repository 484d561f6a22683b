"""Commands to a venue, with everything that a test does not care about filled in."""

from emp.core.approval import Cleared
from emp.core.codes import Action, Reason
from emp.core.contracts import CancelOrder, Command, NewOrder, QueryOrder, Replace
from emp.risk.approval import approved
from emp.risk.limits import new_risk


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


def cleared(command: Command) -> Cleared:
    """A command as the engine hands it over: an order of which risk has approved every word."""
    if isinstance(command, CancelOrder | QueryOrder):
        return command
    risk = new_risk()[0]
    risk["approved"] = (
        Action.REPLACE if isinstance(command, Replace) else Action.CROSS if command.immediate else Action.POST
    )
    risk["approved_side"], risk["approved_qty"] = command.side, command.qty
    risk["approved_px"], risk["approved_seq"] = command.px, command.decision_seq
    return approved(risk, command)
