"""Wrong tokens, told in the log: once a minute at most, so that whoever guesses fills neither the log nor the disk."""

from math import inf
from time import monotonic

import structlog
from starlette.requests import HTTPConnection

EVERY_S = 60.0

_log = structlog.get_logger(__name__)


class Refusals:
    """Counts the requests of a run that showed a wrong token."""

    def __init__(self) -> None:
        self._told, self._times = -inf, 0

    def add(self, request: HTTPConnection) -> None:
        """One more; a line says how many there were since the last line, and whom the newest is from."""
        self._times += 1
        now = monotonic()
        if now - self._told < EVERY_S:
            return
        client = request.client.host if request.client else ""
        _log.warning("a wrong token was shown", client=client, times=self._times)
        self._told, self._times = now, 0
