"""Wrong tokens, told in the log: once a minute at most, so that whoever guesses fills neither the log nor the disk."""

import asyncio

import structlog
from starlette.requests import HTTPConnection

EVERY_S = 60.0

_log = structlog.get_logger(__name__)


class Refusals:
    """Counts the requests of a run that showed a wrong token; used from the loop that serves them, but for `close`."""

    def __init__(self) -> None:
        self._times, self._client, self._waits = 0, "", False

    def add(self, request: HTTPConnection) -> None:
        """One more: told at once, or with all others when the minute of the last line is over."""
        self._times += 1
        self._client = request.client.host if request.client else ""
        if not self._waits:
            self._tell()

    def close(self) -> None:
        """Tell those that still wait for their minute: the log ends."""
        if self._times:
            self._write()

    def _tell(self) -> None:
        """A line where there were any since the last one, and the next in a minute."""
        self._waits = self._times > 0
        if self._waits:
            self._write()
            asyncio.get_running_loop().call_later(EVERY_S, self._tell)

    def _write(self) -> None:
        """How many there were since the last line, and whom the newest is from."""
        times, self._times = self._times, 0
        _log.warning("a wrong token was shown", client=self._client, times=times)
