"""What a session is told and whom it tells: configuration, phases, and the application's side."""

from enum import Enum, auto

import msgspec

from emp.access.fix.frame import Frame
from emp.access.fix.message import Message
from emp.access.fix.schedule import Hours
from emp.core.config.secrets import Secret

TAG_MISSING, VALUE_WRONG, COMP_ID_WRONG, TIME_WRONG, TAG_INVALID, TAG_EMPTY = 1, 5, 9, 10, 0, 4
"""SessionRejectReason (373)."""


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
    reset_on_logon: bool = False
    username: Secret | None = None
    password: Secret | None = None
    max_skew_s: float = 120.0  # 0: SendingTime is not compared with our clock
    logon_timeout_s: float = 10.0
    logout_timeout_s: float = 2.0
    stamp_digits: int = 3
    hours: Hours | None = None
    resend: frozenset[str] = frozenset()  # MsgTypes resent as they were; all others are gap-filled
    kept: int = 4096  # messages kept for that


class Application:
    """Who uses a session; what it does not care for does nothing.

    Calls come from inside `receive` and `tick`; `session.send` may be called in them.
    """

    def on_logon(self) -> None:
        """Both sides have logged on."""

    def on_logout(self, reason: str) -> None:
        """The session is over, for this reason."""

    def on_market(self, rows: int, result: int) -> None:
        """Market data was decoded into `rows` rows; `result` is that of `decode`."""

    def on_message(self, message: Message) -> None:
        """An application message arrived, in order."""

    def on_late_market(self, frame: Frame) -> None:
        """Market data arrived in order, but has to be decoded by the application (a resent message)."""

    def on_gap(self, first: int, last: int) -> None:
        """Messages `first` to `last` of the peer will never come."""

    def on_heartbeat(self, message: Message) -> None:
        """The peer has sent a heartbeat, perhaps as an answer (112)."""

    def on_reject(self, message: Message) -> None:
        """The peer refused one of our messages (35=3)."""

    def accept(self, logon: Message) -> str:
        """Why an acceptor refuses this logon; empty to accept."""
        return ""
