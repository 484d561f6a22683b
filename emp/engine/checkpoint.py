"""What all rows of a ledger come to at one of them, so that a start need not read what is older.

A run records one every so many rows, while nothing is under way between ledger and engine. It holds money, halts and
ids, and of orders the names of those that are open: what was sent and told of them is read again from their own rows.
What loss limits measure from is recorded with it, so that it says exactly what the rows before it say.
"""

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from emp.core.codes import Reason
from emp.core.errors import JournalError
from emp.core.records import Array
from emp.engine.earned import earned_note, earned_of
from emp.engine.engine import Engine
from emp.execution.orders import OrderManager
from emp.journal.ledger import Ledger
from emp.journal.reader import CHECKPOINT
from emp.journal.records import Note, Scalar

EVERY = 20_000
"""Rows of a ledger from one checkpoint to the next: a start reads at most so many, in about 0.3 s."""

ACCOUNT_MARK = "account_mark"

_BOOKED = ("position", "cash", "fees", "financing", "traded", "fills")
_MARKED = ("pnl", "peak", "day", "day_start")


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a start takes from older rows; by instrument where it is one's."""

    next_sequence: int  # of the run's next command id
    accounts: dict[str, dict[str, float]]  # fields of the ACCOUNT records
    prices: dict[str, float]  # at which lots were traded or valued last
    open: list[str]  # ids under which open orders were first sent
    foreign: list[str]  # ids of orders that were not ours, and of our cancels of them
    strangers: dict[str, int]  # lots that orders which are none of ours have filled, by their ids
    halted: dict[str, str]  # names of reasons
    unvalued: dict[str, int]  # signed lots that have no price yet
    barred: dict[str, list[str]]  # names of reasons, in order
    financing: dict[str, dict[str, bool | int | float | None]] = {}  # of FINANCING records; None: not stated
    earned: dict[str, dict[str, Scalar]] = {}  # what outcomes allow, where anything is known

    def restore(self, manager: OrderManager, financing: Array) -> None:
        """Let a fresh order manager have money and strangers, FINANCING[n] the rolls; open orders come apart."""
        for i, name in enumerate(manager.instruments):
            for field, stated in self.financing.get(name, {}).items():
                financing[i][field] = np.nan if stated is None else stated
            for field, value in self.accounts[name].items():
                manager.accounts[i][field] = value
            manager.prices[i] = self.prices[name]
        manager.strangers.update(self.strangers)


def account_note(instrument: str, account: Array, ts: int) -> Note:
    """What fills alone cannot restore of an ACCOUNT record: record it when a day begins and at new peaks."""
    data: dict[str, Scalar] = {name: account[name].item() for name in _MARKED}
    return Note(kind=ACCOUNT_MARK, ts=ts, instrument=instrument, data=data)


def apply_mark(manager: OrderManager, note: Note, unvalued: Mapping[str, int]) -> None:
    """Take in what a mark says of an account; what is held was worth what its profit says."""
    i = manager.instruments.index(note.instrument)
    account = manager.accounts[i]
    for name, value in note.data.items():
        account[name] = value
    if account["position"] and note.instrument not in unvalued:
        manager.prices[i] = _price(account)


def _price(account: Array) -> float:
    """Ticks a lot at which the lots of an ACCOUNT record were marked."""
    value = float(account["pnl"] - account["cash"] + account["fees"] - account["financing"])
    return value / int(account["position"])


def record_checkpoint(engine: Engine, ledger: Ledger, foreign: Iterable[str], ts: int) -> int:
    """Record what everything comes to now, marks first; return its event number. Nothing may be under way: what is
    recorded is applied, what is applied is recorded.
    """
    with ledger.batch():
        for i, one in enumerate(engine.instruments):
            ledger.record_note(account_note(one.name, engine.desk.account[i], ts))
            ledger.record_note(earned_note(one.name, earned_here(engine, i), ts))
        state = msgspec.json.encode(checkpoint_of(engine, foreign)).decode()
        return ledger.record_checkpoint(Note(kind=CHECKPOINT, ts=ts, data={"state": state}))


def checkpoint_of(engine: Engine, foreign: Iterable[str]) -> Checkpoint:
    """What an engine is at, as its ledger would bring it back."""
    orders, risk, names = engine.orders, engine.desk.risk, engine.orders.instruments
    unvalued = {name: engine.positions.unvalued.lots(i) for i, name in enumerate(names)}
    waiting = {name: lots for name, lots in unvalued.items() if lots}
    prices = {}
    for i, name in enumerate(names):
        account = engine.desk.account[i]
        told = bool(account["position"]) and name not in waiting
        prices[name] = _price(account) if told else orders.prices[i]
    return Checkpoint(
        next_sequence=engine.sequence + 1,
        accounts={
            name: {field: engine.desk.account[i][field].item() for field in _BOOKED + _MARKED}
            for i, name in enumerate(names)
        },
        prices=prices,
        open=[order.original.cl_ord_id for order in orders.open_orders()],
        foreign=sorted(foreign),
        strangers=dict(orders.strangers),
        halted={
            name: Reason(int(risk["halt_reason"][i])).name
            for i, name in enumerate(names)
            if risk["halted"][i]
        },
        unvalued=waiting,
        barred={name: [one.name for one in engine.bars.reasons(i)] for i, name in enumerate(names)},
        financing={name: _stated(engine.desk.financing[i]) for i, name in enumerate(names)},
        earned={name: earned_here(engine, i) for i, name in enumerate(names)},
    )


def earned_here(engine: Engine, i: int) -> dict[str, Scalar]:
    """What outcomes allow instrument `i` by the model that serves."""
    return earned_of(engine.desk.standing[i], engine.model.artifact.hash)


def _stated(financing: Array) -> dict[str, bool | int | float | None]:
    """The fields of a FINANCING record; JSON has no number that is none."""
    values = {name: financing[name].item() for name in financing.dtype.names}
    return {name: None if value != value else value for name, value in values.items()}


def read_checkpoint(note: Note) -> Checkpoint:
    """The checkpoint that a note of the ledger keeps; JournalError where it is none."""
    try:
        return msgspec.json.decode(str(note.data.get("state", "")), type=Checkpoint)
    except msgspec.MsgspecError as error:
        raise JournalError(f"a checkpoint of the ledger cannot be read: {error}") from error
