"""Answers that a venue gives in several messages, collected until they are complete."""

import asyncio

from emp.access.fix.message import Message
from emp.access.fix.refusal import NO_REASON, reason_of
from emp.core.errors import VenueError


class UnheardError(VenueError):
    """The request did not arrive."""


class RefusedError(VenueError):
    """The venue will not answer."""


class Pending:
    """Answers to one request, until they are complete."""

    def __init__(self, done: asyncio.Future[list[Message]]) -> None:
        self.done = done
        self._found: list[Message] = []

    def lost(self) -> None:
        """The request did not arrive."""
        if not self.done.done():
            self.done.set_exception(UnheardError("not heard"))

    def take(self, message: Message) -> None:
        """Take one answer in."""
        if self.done.done():
            return
        if message.kind in ("3", "j") and message.text(380, "3") not in _NOTHING:
            refused = f"the venue refused 35={message.words(372)}: {reason_of(message)}"
            self.done.set_exception(RefusedError(refused))
            return
        if message.kind in ("AP", "AO") and _is_refused(message):
            result = _RESULTS.get(message.integer(728), NO_REASON)
            self.done.set_exception(RefusedError(f"the venue refused 35=AN: {message.words(58, result)}"))
            return
        empty = message.kind == "j" or message.text(728) == "2" or message.integer(727) == 0
        if message.kind == "8":
            empty = message.integer(911) == 0 or message.text(39) == "8"
        elif message.kind == "AO" and not empty:
            return
        if not empty:
            self._found.append(message)
        total = message.integer(911 if message.kind == "8" else 727)
        if empty or message.get(912) == b"Y" or 0 <= total <= len(self._found):
            self.done.set_result(self._found)


def _is_refused(message: Message) -> bool:
    """Whether a report or acknowledgement says that positions are not told: that is not the same as none."""
    result = message.text(728, "0")
    return result not in ("0", "2") or (message.kind == "AO" and message.text(729) == "2" and result != "2")


_RESULTS = {1: "invalid or unsupported request", 3: "not authorised to ask for positions", 4: "not supported"}
"""PosReqResult (728), where there is no text."""

_NOTHING = frozenset(["0", "1", "2"])
"""BusinessRejectReasons (380) that say there is nothing to report: other, unknown id, unknown security."""
