"""What a session is told and whom it tells: configuration, phases, and the application's side."""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from emp.access.fix.frame import Frame
from emp.access.fix.message import Message
from emp.access.fix.schedule import Hours
from emp.core.config.secrets import Secret

TAG_INVALID, TAG_MISSING, TAG_NOT_OF_TYPE, TAG_EMPTY, VALUE_WRONG, FORMAT_WRONG = 0, 1, 2, 4, 5, 6
COMP_ID_WRONG, TIME_WRONG, TYPE_INVALID, TAG_REPEATED, ORDER_WRONG, COUNT_WRONG, OTHER = (
    9,
    10,
    11,
    13,
    14,
    16,
    99,
)
"""SessionRejectReason (373)."""


NEVER = 1 << 62
"""A monotonic time that does not come."""


class Fault(NamedTuple):
    """What is wrong with a message: the reason (373) and the tag (371, 0 for none) of the Reject it gets."""

    why: int
    tag: int
    text: str
    end: bool = False  # the session cannot go on
    silent: bool = False  # no Reject is sent


class Phase(Enum):
    """Where a session is in its life."""

    DOWN = auto()  # no transport
    LOGON = auto()  # logon sent (initiator) or awaited (acceptor)
    ACTIVE = auto()
    LOGOUT = auto()  # our logout is on its way
    CLOSING = auto()  # write what `drain` gives, then close the transport; `reason` says why


class SessionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks to whom, and by which rules."""

    sender: str
    target: str
    begin: str = "FIX.4.4"
    sender_sub: str = ""
    target_sub: str = ""
    initiator: bool = True
    heartbeat_s: int = 30
    reset_on_logon: bool = False  # every logon asks that both sides begin at 1 (141=Y)
    reset_on_loss: bool = (
        False  # so does the next one, where the sides turn out not to agree; else the session ends
    )
    logon_field: bytes = b""  # TAG=VALUE that an initiator's logon carries beside the usual ones
    username: Secret | None = None
    password: Secret | None = None
    max_skew_s: float = 120.0  # 0: SendingTime is not compared with our clock
    logon_timeout_s: float = 10.0
    logout_timeout_s: float = 1.0
    stamp_digits: int = 3
    hours: Hours | None = None
    resend: frozenset[str] = frozenset()  # MsgTypes resent as they were; all others are gap-filled
    kept: int = 4096  # messages kept for that
    sends: frozenset[bytes] | None = None  # MsgTypes that may leave; None: every one
    validate: Callable[[Message], Fault | None] | None = (
        None  # further rules for bodies, of a strict acceptor
    )

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """Values that must show nowhere, also where a peer repeats them; shorter ones would spoil every text."""
        known = (secret.reveal().encode() for secret in (self.password, self.username) if secret is not None)
        return tuple(value for value in known if len(value) >= 3)


class Application:
    """Who uses a session; what it does not care for does nothing.

    Calls come from inside `receive` and `tick`; `session.send` may be called in them.
    """

    def on_logon(self) -> None:
        """Both sides have logged on."""

    def on_logout(self, reason: str) -> None:
        """The session is over, for this reason."""

    def on_ended(self, reason: str) -> None:
        """The link has given up for this reason: it will not connect again by itself."""

    def on_tick(self) -> None:
        """Time has passed in an active session; called at `due_ns` or soon after."""

    def due_ns(self) -> int:
        """Monotonic time at which `on_tick` will have something to do."""
        return NEVER

    def on_market(self, rows: int, result: int) -> None:
        """Market data was decoded into `rows` rows; `result` is that of `decode`."""

    def on_message(self, message: Message) -> None:
        """An application message arrived, in order; a FieldError raised here makes it a refused one."""

    def on_refused(self, message: Message, why: str) -> None:
        """A message of the peer took its number but was refused: what it said is lost."""

    def on_late_market(self, frame: Frame) -> None:
        """Market data arrived in order, but has to be decoded by the application, from `session.framer`."""

    def on_new_numbers(self) -> None:
        """Both sides have begun at 1 inside the session: what was sent before goes by other numbers now."""

    def on_gap(self, first: int, last: int) -> None:
        """Messages `first` to `last` of the peer will never come."""

    def on_withheld(self, first: int, last: int) -> None:
        """The peer has missed our messages `first` to `last`, and they are not sent again: they may never have
        arrived.
        """

    def on_heartbeat(self, message: Message) -> None:
        """The peer has sent a heartbeat, perhaps as an answer (112)."""

    def on_reject(self, message: Message) -> None:
        """The peer refused one of our messages (35=3)."""

    def accept(self, logon: Message) -> str:
        """Why an acceptor refuses this logon; empty to accept."""
        return ""
