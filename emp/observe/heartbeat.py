"""A heartbeat for a second machine: once a second a datagram that says that the engine lives, and what it holds.

It is sent while the engine itself reports: a box that is dead, a process that is gone, a loop that hangs and a line
that is cut are all silence to whoever listens (`emp watch`). Each beat carries a MAC over all of it (HMAC-SHA256 under
a key that both ends know) and counts up, so that nobody else can keep a dead engine alive, and none that was overheard
can be told again. A run that ends in order says so.
"""

import hashlib
import hmac
import socket
from collections.abc import Callable

import msgspec

from emp.core.background import background
from emp.core.clock import Clock
from emp.core.config.secrets import Secret
from emp.core.errors import ConfigError
from emp.observe.board import SILENT_AFTER_MS, Board, View

EVERY_S = 1.0
LONGEST = 4_096
"""Bytes of a datagram."""

_MAC = hashlib.sha256().digest_size


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """One sign of life."""

    run: str
    n: int  # ns UTC at which it was sent: it only grows, over restarts of the run too
    held: dict[str, int]  # lots by instrument, signed; where there are any
    orders: int  # that may still fill
    over: bool = False  # the run has ended in order: there will be no other


def sealed(beat: Beat, key: Secret) -> bytes:
    """The datagram that carries a beat."""
    body = msgspec.json.encode(beat)
    return hmac.digest(key.reveal().encode(), body, "sha256") + body


def opened(datagram: bytes, key: Secret) -> Beat | None:
    """The beat of a datagram; None where nobody who knows the key has made it."""
    mac, body = datagram[:_MAC], datagram[_MAC:]
    if not hmac.compare_digest(mac, hmac.digest(key.reveal().encode(), body, "sha256")):
        return None
    try:
        return msgspec.json.decode(body, type=Beat)
    except msgspec.MsgspecError:
        return None


def address(told: str) -> tuple[str, int]:
    """HOST:PORT as a pair; ConfigError where it is none."""
    host, colon, port = told.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ConfigError(f"heartbeat: {told!r} is no HOST:PORT")
    return host.strip("[]"), int(port)


class Heart:
    """Beats for one run, from a thread, while its engine reports."""

    def __init__(self, board: Board, clock: Clock, to: str, key: Secret) -> None:
        """ConfigError where the address is none, or its name is not known."""
        host, port = address(to)
        try:
            (family, _, _, _, where), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise ConfigError(f"heartbeat.to: {to}: {error.strerror}") from error
        self._board, self._clock, self._key, self._where = board, clock, key, where
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._thread = background().every(EVERY_S, self._beat, "heartbeat")
        self._over = False
        self._n = 0
        self.lost = 0  # beats that could not be sent: nobody listens, or there is no way there
        self._newest: View | None = None
        self._seen_ns = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, over: bool) -> None:
        """End; with `over` it is said that nothing is held any more and no other beat will come."""
        self._over = over
        self._thread.stop()
        self._socket.close()

    def _beat(self, last: bool) -> bool:
        view, now = self._board.view, self._clock.monotonic_ns()
        if view is not self._newest:
            self._newest, self._seen_ns = view, now
        lives = view is not None and now - self._seen_ns <= SILENT_AFTER_MS * 1e6
        if view is not None and (self._over if last else lives):
            self._n = max(self._n + 1, self._clock.now_ns())  # also where the wall clock steps back
            beat = beat_of(view, self._n, over=last)
            try:
                self._socket.sendto(sealed(beat, self._key), self._where)
            except OSError:
                self.lost += 1
        return not last


def beat_of(view: View, n: int, *, over: bool = False) -> Beat:
    """What a view says to whoever listens."""
    held = {one.name: one.position for one in view.instruments if one.position}
    return Beat(
        run=view.run, n=n, held=held, orders=sum(len(one.open_orders) for one in view.instruments), over=over
    )


class Watch:
    """Listens for one engine's beats, and knows for how long there were none."""

    def __init__(self, key: Secret, silent_after_s: float, monotonic_ns: Callable[[], int]) -> None:
        self._key, self._silent_ns, self._now = key, int(silent_after_s * 1e9), monotonic_ns
        self._heard_ns = 0
        self.newest: Beat | None = None
        self.refused = 0  # datagrams that were none, or had been told before

    def take(self, datagram: bytes) -> Beat | None:
        """A datagram has come; the beat, where it is a new one."""
        beat = opened(datagram, self._key)
        if beat is None or (self.newest is not None and beat.n <= self.newest.n):
            self.refused += 1
            return None
        self.newest, self._heard_ns = beat, self._now()
        return beat

    @property
    def silent(self) -> bool:
        """Whether an engine that lived has said nothing for too long, and not that it would end."""
        if self.newest is None or self.newest.over:
            return False
        return self._now() - self._heard_ns >= self._silent_ns
