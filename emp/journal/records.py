"""What the ledger holds: intents, queries, reports, control inputs and notes, one JSON text each, in one sequence."""

from typing import Any, Literal

import msgspec

from emp.core.contracts import (
    Command,
    Control,
    NewOrder,
    OrderUpdate,
    RiskBreach,
)
from emp.core.errors import JournalError

Kind = Literal["intent", "query", "report", "control", "note"]

Scalar = str | int | float | bool | None


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something worth remembering that is neither intent nor report: a breach, a reset, an adjustment."""

    kind: str
    ts: int
    instrument: str = ""
    data: dict[str, Scalar] = {}

    @classmethod
    def of(cls, alarm: RiskBreach) -> "Note":
        """The note that keeps an alarm of the bus."""
        fields: dict[str, Any] = msgspec.to_builtins(alarm)
        ts, instrument = fields.pop("ts"), fields.pop("instrument")
        return cls(kind=alarm.topic, ts=ts, instrument=instrument, data=fields)


Body = Command | OrderUpdate | Control | Note

_encoder = msgspec.json.Encoder()
_command: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_report = msgspec.json.Decoder(OrderUpdate)
_control = msgspec.json.Decoder(Control)
_note = msgspec.json.Decoder(Note)


def encode(body: Body) -> bytes:
    """Canonical bytes of a body: equal bodies give equal bytes."""
    return _encoder.encode(body)


def note_head(kind: str) -> bytes:
    """How the payload of a note of that kind begins."""
    return b'{"kind":"%s"' % kind.encode()


class LedgerEvent(msgspec.Struct, frozen=True):
    """One line of the ledger."""

    seq: int  # 1, 2, 3 … without a gap: mirrors follow by it
    kind: Kind
    payload: bytes  # JSON
    at: int = 0  # market events that the engine had processed when this was recorded

    def is_note(self, kind: str) -> bool:
        """Whether it is a note of that kind; its body is not decoded, which most of a long ledger need not be."""
        return self.kind == "note" and self.payload.startswith(note_head(kind))

    @property
    def body(self) -> Body:
        """The payload as the message it was; JournalError where it is none."""
        try:
            if self.kind == "report":
                return _report.decode(self.payload)
            if self.kind == "control":
                return _control.decode(self.payload)
            if self.kind == "note":
                return _note.decode(self.payload)
            return _command.decode(self.payload)
        except msgspec.MsgspecError as error:
            raise JournalError(f"event {self.seq} of the ledger cannot be read ({error})") from error


class OpenOrder(msgspec.Struct, frozen=True):
    """An order that, as far as the ledger knows, may still fill."""

    order: NewOrder  # as the last replacement that is in force left it
    last: OrderUpdate | None  # the report with the highest cumulative quantity; None: never heard of


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity that a report added to an order's cumulative quantity."""

    seq: int
    cl_ord_id: str
    exec_id: str
    instrument: str
    side: int
    qty: int  # lots
    px: int  # ticks
    fee: float  # ticks times lots
    maker: bool
    ts: int
