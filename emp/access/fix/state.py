"""What the parts of one session share: who speaks to whom, the numbers, how far the session is and how it ends."""

from collections.abc import Callable
from typing import Final

from emp.access.fix.gap import Gap
from emp.access.fix.message import Message
from emp.access.fix.outgoing import Outgoing
from emp.access.fix.store import SequenceStore
from emp.access.fix.terms import Application, Phase, SessionConfig
from emp.access.port import Cause
from emp.core.clock import Clock

SECOND: Final = 1_000_000_000
UNHURRIED_S: Final = 30
"""Between requests for a resend where no heartbeats were agreed."""


class State:
    """One session's facts; its parts change them, the session shows them."""

    def __init__(
        self,
        config: SessionConfig,
        store: SequenceStore,
        clock: Clock,
        application: Application,
        log: Callable[[str, str], None] | None,
    ) -> None:
        self.config = config
        self.store = store
        self.clock = clock
        self.app = application
        self.out = Outgoing(config, store, clock, log)
        self.gap = Gap()
        self.phase = Phase.DOWN
        self.reason = ""
        self.cause: Cause = ""  # the kind of `reason`
        self.fatal = False  # the reason stands: connecting again changes nothing
        self.unanswered = False  # nothing came back to the logon
        self.heartbeat_s = config.heartbeat_s
        self.active_ns = -1  # monotonic time of the logon of this connection, -1 before it
        self.since_ns = 0  # when the logon or logout that is awaited began

    def connected(self) -> None:
        """A new connection: what the old one left behind is over."""
        self.out.restart()
        self.out.spoke_ns = self.since_ns = self.clock.monotonic_ns()
        self.gap = Gap()
        self.reason, self.cause = "", ""
        self.fatal = self.unanswered = False
        self.active_ns = -1
        self.heartbeat_s = self.config.heartbeat_s
        self.phase = Phase.LOGON

    def reset_numbers(self) -> None:
        """Both sides begin at 1."""
        self.out.forget()
        self.gap = Gap()
        self.store.reset(self.clock.now_ns())

    def resend(self, request: Message) -> None:
        """Answer a ResendRequest, and tell what the peer has missed for good."""
        for first, last in self.out.again(request):
            self.app.on_withheld(first, last)

    def end(self, text: str) -> None:
        """Tell the peer why, and close."""
        self.out.send(b"5", b"58=%s\x01" % text.encode())
        self.close(text)

    def close(self, reason: str, cause: Cause = "fault") -> None:
        """Close without a word more than what is already queued."""
        self.phase = Phase.CLOSING
        self.reason, self.cause = reason, cause
