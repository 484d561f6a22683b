"""From one run of an account to the next: what was held, lost and halted, as loss limits see it.

A run's money begins at 0. What the run before it had lost that day, and from its peak, enters as where the day and the
peak stand; what was held enters at the newest mid, so that it gains and loses from there on.
"""

from collections.abc import Mapping, Sequence

import msgspec

from emp.core.codes import Reason
from emp.engine.checkpoint import earned_here
from emp.engine.engine import Engine
from emp.execution.orders import Fill, OrderManager
from emp.journal.account_file import Carried, Claimed
from emp.journal.records import Note, Scalar

CARRIED = "carried_over"
"""Kind of the ledger's note of what an account's earlier run left."""


def carried(engine: Engine, i: int) -> Carried:
    """What instrument `i` would take into the account's next run, were this one to end now.

    A process that has seen no market yet values what it holds at the last price that its ledger knows: what is in the
    ACCOUNT record is as old as its last mark.
    """
    account, risk = engine.desk.account[i], engine.desk.risk[i]
    seen = engine.desk.perception[i]
    unvalued = engine.positions.unvalued.lots(i)  # without a price yet: the next run will find them again
    lots, cash = int(account["position"]) - unvalued, float(account["cash"])
    mid = 0.5 * float(seen["bid"] + seen["ask"]) if seen["ts"] else 0.0
    value = lots * (mid if seen["ts"] else engine.orders.prices[i])
    one = engine.instruments[i]
    pnl = cash + value - float(account["fees"]) + float(account["financing"])
    return Carried(
        position=lots,
        value=value,
        day=int(account["day"]),
        day_pnl=pnl - float(account["day_start"]),
        drawdown=min(0.0, pnl - float(account["peak"])),
        halted=Reason(int(risk["halt_reason"])).name.lower() if risk["halted"] else "",
        failed=failed_models(engine),
        earned=earned_here(engine, i),
        claims=_claimed(engine, i),
        price=mid,
        price_ns=int(seen["ts"]),
        tick=one.tick,
        lot=one.lot,
        point_value=one.point_value,
    )


def _claimed(engine: Engine, i: int) -> list[Claimed]:
    """Claims that the venue has neither borne out nor denied."""
    filled = engine.orders.strangers
    return [
        Claimed(
            order=one.cl_ord_id,
            side=one.side,
            qty=one.qty,
            px=one.px,
            fee=one.fee,
            ts=one.ts,
            filled=filled.get(one.cl_ord_id, one.qty),
        )
        for one in engine.positions.claims.told(i)
    ]


def failed_models(engine: Engine) -> str:
    """Hashes of the models that have failed and that nobody has let open again, blanks between."""
    return " ".join(sorted(engine.failed_models))


def carried_note(instrument: str, state: Carried, ts: int) -> Note:
    """What a new run's ledger begins with, so that it can be rebuilt and replayed from itself alone."""
    apart = ("earned", "claims")
    data: dict[str, Scalar] = {
        name: getattr(state, name) for name in state.__struct_fields__ if name not in apart
    }
    if state.claims:
        data["claims"] = msgspec.json.encode(state.claims).decode()
    return Note(kind=CARRIED, ts=ts, instrument=instrument, data=data)


def take_over(manager: OrderManager, note: Note, halted: dict[str, Reason]) -> None:
    """Let a fresh order manager, and what is halted, begin where a note says that the run before ended."""
    state = _of(note.data)
    i = manager.instruments.index(note.instrument)
    account = manager.accounts[i]
    if state.position or state.price:
        manager.prices[i] = state.value / state.position if state.position else state.price
    account["position"], account["cash"] = state.position, -state.value
    account["day"], account["day_start"] = state.day, -state.day_pnl
    account["peak"] = -state.drawdown
    if state.halted:
        halted[note.instrument] = Reason[state.halted.upper()]
    manager.count_from({one.order: one.filled for one in state.claims})


def claims_of(note: Note) -> Sequence[Fill]:
    """What was claimed when the run before ended, and is for the venue to say still."""
    return [
        Fill(
            cl_ord_id=one.order,
            instrument=note.instrument,
            side=one.side,
            qty=one.qty,
            px=one.px,
            fee=one.fee,
            maker=False,
            ts=one.ts,
        )
        for one in _of(note.data).claims
    ]


def _of(data: Mapping[str, Scalar]) -> Carried:
    return Carried(
        position=int(data["position"] or 0),
        value=float(data["value"] or 0.0),
        day=int(data["day"] or 0),
        day_pnl=float(data["day_pnl"] or 0.0),
        drawdown=float(data["drawdown"] or 0.0),
        halted=str(data["halted"] or ""),
        price=float(data.get("price") or 0.0),
        claims=msgspec.json.decode(str(data.get("claims") or "[]"), type=list[Claimed]),
    )


def is_worth_carrying(state: Carried) -> bool:
    """Whether a run that begins with nothing would begin otherwise."""
    lost = state.day_pnl or state.drawdown
    return bool(state.position or lost or state.halted or state.failed or state.claims)
