"""Where a FIX venue is and who we are there; and the link that this makes."""

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from emp.access.fix.dialect import Dialect
from emp.access.fix.frame import Books
from emp.access.fix.link import Link
from emp.access.fix.session import Session
from emp.access.fix.store import FileStore, MemoryStore, SequenceStore
from emp.access.fix.terms import Application, SessionConfig
from emp.access.port import Reach
from emp.core.clock import Clock
from emp.core.config.secrets import Secret
from emp.core.errors import ConfigError

SESSION = frozenset((b"A", b"0", b"1", b"2", b"3", b"4", b"5"))
MARKET = SESSION | {b"V", b"x"}
SENDS: Mapping[Reach, frozenset[bytes] | None] = {
    Reach.MARKET: MARKET,
    Reach.ACCOUNT: MARKET | {b"AF", b"AN"},
    Reach.ORDERS: None,
}
"""MsgTypes that a session may send at all."""


class FixSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a venue is, who we are there, and how it speaks."""

    host: str
    port: int
    sender: str
    target: str
    dialect: Dialect
    trade_port: int | None = None  # where the trade session has a port of its own
    tls: bool = True
    account: str = ""
    symbols: Mapping[str, str] = msgspec.field(default_factory=dict)  # instrument -> symbol; absent: its name
    username: Secret | None = None
    password: Secret | None = None
    store: Path | None = None  # folder of the sequence numbers, for venues that keep them
    reset_on_logon: bool | None = None  # numbers begin at 1 with each logon; None: as the dialect says
    reset_on_loss: bool = (
        False  # they do so once where the venue turns out to count otherwise; else that is the end
    )
    cancel_on_disconnect: str = (
        ""  # TAG=VALUE of a logon that asks the venue to withdraw our orders where the connection is lost
    )
    timeout_s: float = 10.0  # for a connection, a logon, an answer
    patience_s: float = 0.0  # at a start, while the venue still has somebody logged on under our name
    reach: Reach = Reach.ORDERS
    lockstep: bool = False  # tell the venue when an event has been dealt with (our mock venue only)

    @property
    def resets(self) -> bool:
        """Whether numbers begin at 1 with each logon."""
        return self.dialect.reset_on_logon if self.reset_on_logon is None else self.reset_on_logon


class Dialer:
    """Makes the links of one access: all that its sessions have in common."""

    def __init__(
        self,
        settings: FixSettings,
        clock: Clock,
        log: Callable[[str, str], None] | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log
        self._tls = tls

    def link(self, sub: str, port: int, application: Application, market: Books | None) -> Link:
        """A link, not yet started, whose session speaks to `application` under a sub id."""
        settings, dialect = self._settings, self._settings.dialect
        trades = settings.reach is Reach.ORDERS and (not dialect.split or sub == dialect.trade_sub)
        config = SessionConfig(
            sender=settings.sender,
            target=settings.target,
            begin=dialect.begin,
            sender_sub=sub,
            target_sub=sub,
            heartbeat_s=dialect.heartbeat_s,
            reset_on_logon=settings.resets,
            reset_on_loss=settings.reset_on_loss,
            logon_field=settings.cancel_on_disconnect.encode() if trades else b"",
            username=settings.username,
            password=settings.password,
            max_skew_s=dialect.max_skew_s,
            logon_timeout_s=settings.timeout_s,
            stamp_digits=dialect.stamp_digits,
            hours=dialect.hours,
            sends=SENDS[settings.reach],
        )
        session = Session(config, self._store(sub), self._clock, application, market, self._log)
        tls = (self._tls or ssl.create_default_context()) if settings.tls else None
        return Link(
            session,
            settings.host,
            port,
            dialect,
            self._clock,
            tls,
            settings.timeout_s,
            len(sub),
            settings.patience_s,
        )

    def _store(self, sub: str) -> SequenceStore:
        settings = self._settings
        if settings.resets:
            return MemoryStore()
        if settings.store is None:
            raise ConfigError(
                f"the FIX dialect {settings.dialect.name} keeps sequence numbers: name a folder for them"
            )
        name = "-".join(p for p in (settings.sender, settings.target, sub) if p)
        return FileStore(settings.store / f"{name.replace('/', '_')}.seq")
