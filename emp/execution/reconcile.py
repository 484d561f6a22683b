"""What the ledger says against what the venue says: a list of corrections, each with its reason."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from emp.core.contracts import OrderUpdate, QueryOrder, VenuePosition
from emp.execution.orders import OrderManager


class CorrectionKind(StrEnum):
    """What has to be done about a difference."""

    REPORT = "report"  # the venue knows more of our order: record and apply its report
    QUERY = "query"  # the venue does not list an order that is open here: ask what became of it
    FOREIGN = "foreign"  # the venue works an order that the ledger does not know: withdraw it
    ADJUST = "adjust"  # the position differs though every order is accounted for: book the difference


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """One difference and what to do about it."""

    kind: CorrectionKind
    instrument: str
    reason: str
    cl_ord_id: str = ""
    update: OrderUpdate | None = None
    query: QueryOrder | None = None
    qty: int = 0  # signed lots to add to our position
    px: float = 0.0  # ticks


def reconcile_orders(manager: OrderManager, venue: Sequence[OrderUpdate], ts: int) -> list[Correction]:
    """Compare open orders; `venue` is the venue's complete list of working orders, as reports.

    An order that is open here and not listed there may have ended any way, so it is asked for, never assumed.
    """
    found: list[Correction] = []
    listed: set[str] = set()
    for update in venue:
        order = manager.order(update.clOrdID)
        if order is None or order.status.terminal:
            why = "the ledger has no such order" if order is None else f"the ledger has it {order.status}"
            found.append(_order(CorrectionKind.FOREIGN, update.instrument, update.clOrdID, why))
            continue
        listed.add(order.command.cl_ord_id)
        why = f"here {order.status} with {order.filled} filled, there {update.status} with {update.filled}"
        report = _order(CorrectionKind.REPORT, order.command.instrument, order.command.cl_ord_id, why)
        found.append(msgspec.structs.replace(report, update=update))
    for order in manager.open_orders():
        name, instrument = order.command.cl_ord_id, order.command.instrument
        if name not in listed:
            why = f"here {order.status} with {order.filled} filled, there not working"
            asked = _order(CorrectionKind.QUERY, instrument, name, why)
            query = QueryOrder(cl_ord_id=name, instrument=instrument, ts=ts)
            found.append(msgspec.structs.replace(asked, query=query))
    return found


def _order(kind: CorrectionKind, instrument: str, cl_ord_id: str, reason: str) -> Correction:
    return Correction(kind=kind, instrument=instrument, cl_ord_id=cl_ord_id, reason=reason)


def reconcile_positions(manager: OrderManager, venue: Sequence[VenuePosition]) -> list[Correction]:
    """Compare positions once no order is in doubt; an instrument the venue does not name is flat there."""
    there = {p.instrument: p for p in venue}
    found = []
    for instrument in manager.instruments:
        here = manager.position(instrument)
        position = there.get(instrument, VenuePosition(instrument=instrument, qty=0))
        if position.qty != here:
            found.append(
                Correction(
                    kind=CorrectionKind.ADJUST,
                    instrument=instrument,
                    reason=f"{here} lots by our fills, {position.qty} by the venue",
                    qty=position.qty - here,
                    px=position.avg_px,
                )
            )
    return found
