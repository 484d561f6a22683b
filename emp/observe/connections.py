"""HTTP connections that cannot starve the engine of descriptors: few at a time, none that waits for long.

A process has some hundred descriptors; whoever can reach the port could hold them all by opening sockets and saying
nothing, and the journal and the orders need theirs.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

MOST = 64
"""Connections at a time; one more is closed as it comes."""

REQUEST_S = 5.0
"""How long a request may take to arrive whole; so long may a connection be idle, too."""

ANSWER_S = 10.0
"""How long an answer may take to begin, and how long one that goes on may not be read."""

_LOOK_S = 0.5


class Guarded(H11Protocol):
    """A connection of which too many at a time, or one that says or reads nothing, is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or close where there are too many."""
        super().connection_made(transport)
        self._at: tuple[object, bool] = (None, True)  # the newest request, and whether it is answered
        self._since = self.loop.time()
        self._look: asyncio.TimerHandle | None = None
        if len(self.connections) > MOST:
            transport.abort()
        else:
            self._look_at_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _look_at_time(self) -> None:
        """Close where nothing has come of the connection for too long: bytes alone do not count."""
        request: RequestResponseCycle | None = self.cycle
        at = (request, request is None or request.response_complete)
        streaming = (
            not at[1] and request is not None and request.response_started and not self.flow.write_paused
        )
        if at != self._at or streaming:  # an answer that goes on is read as long as there is room for more
            self._at, self._since = at, self.loop.time()
        if self.loop.time() - self._since > (REQUEST_S if at[1] else ANSWER_S):
            self.transport.abort()
        else:
            self._look = self.loop.call_later(_LOOK_S, self._look_at_time)
