"""Answers that a venue gives in several messages, collected until they are complete."""

import asyncio

from emp.access.fix.message import Message
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
            why = message.text(58, "no reason given")
            self.done.set_exception(RefusedError(f"the venue refused 35={message.text(372)}: {why}"))
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


_NOTHING = frozenset(["0", "1", "2"])
"""BusinessRejectReasons (380) that say there is nothing to report: other, unknown id, unknown security."""
