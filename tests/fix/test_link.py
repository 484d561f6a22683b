"""The connection around a session: retries, refusals for good, and a peer that does not read."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import pytest

from emp.access.fix.dialect import PLAIN
from emp.access.fix.link import CLOSE_S, DEFER_S, Link
from emp.access.fix.schedule import Backoff
from emp.access.fix.session import Session
from emp.access.fix.store import MemoryStore
from emp.access.fix.terms import Application, Phase, SessionConfig
from emp.access.fix.text import Stamp
from emp.core.clock import LiveClock
from emp.core.config.secrets import Secret
from emp.core.errors import JournalError
from tests.fix.test_quickfix import until
from tests.fix.wire import framed
from tests.kit.anew import in_real_time

FAST = Backoff(first_s=0.02, factor=2.0, longest_s=5.0, spread=0.0)


def said(kind: str, seq: int, body: str = "") -> bytes:
    """A message of the scripted venue, stamped now."""
    stamp = Stamp()(LiveClock().now_ns()).decode()
    return framed(f"35={kind}|34={seq}|49=VENUE|52={stamp}|56=ME|{body}")


class Told(Application):
    """Writes down what the link and the session tell."""

    link: Link

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.logouts: list[str] = []

    def on_logon(self) -> None:
        self.link.logged_on()

    def on_logout(self, reason: str) -> None:
        self.logouts.append(reason)

    def on_ended(self, reason: str) -> None:
        self.ended.append(reason)


def scripted(
    serve: Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    work: Callable[[Link, Told, str], Awaitable[None]],
    *,
    backoff: Backoff = FAST,
    store: MemoryStore | None = None,
    logon_timeout_s: float = 0.2,
) -> list[float]:
    """Run `work` with a link to a venue whose n-th connection `serve` handles; returns when each was made."""
    times: list[float] = []

    async def run() -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            times.append(time.monotonic())
            try:
                await serve(len(times), reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        told = Told()
        config = SessionConfig(
            sender="ME", target="VENUE", logon_timeout_s=logon_timeout_s, password=Secret("s3cret")
        )
        session = Session(config, store or MemoryStore(), LiveClock(), told)
        dialect = type(PLAIN)(name="test", backoff=backoff)
        port = server.sockets[0].getsockname()[1]
        link = told.link = Link(session, "127.0.0.1", port, dialect, LiveClock(), None, 2.0)
        await work(link, told, await link.start())
        await link.close()
        server.close()
        await asyncio.sleep(0.05)

    asyncio.run(run())
    return times


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a logon."""
    await reader.readuntil(b"\x0110=")
    writer.write(said("A", 1, "98=0|108=30|141=Y|"))
    await writer.drain()


def test_one_unanswered_logon_at_the_start_is_tried_again() -> None:
    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if n > 1:
            await greet(reader, writer)
        await reader.read()

    async def work(link: Link, told: Told, why: str) -> None:
        assert why == ""

    assert len(scripted(serve, work)) == 2

    async def silent(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def refused(link: Link, told: Told, why: str) -> None:
        assert why == "no answer to the logon"

    assert len(scripted(silent, refused)) == 2


@in_real_time
def test_attempts_are_counted_until_a_session_was_steady() -> None:
    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await asyncio.sleep(0.3 if n == 5 else 0.0)

    async def work(link: Link, told: Told, why: str) -> None:
        await until(lambda: link.losses >= 7, 10)

    steady = Backoff(first_s=0.03, factor=2.0, longest_s=5.0, spread=0.0, steady_s=0.25)
    times = scripted(serve, work, backoff=steady)
    pauses = [b - a for a, b in itertools.pairwise(times)]
    for pause, expected in zip(pauses, [0.03, 0.06, 0.12, 0.24, 0.33, 0.06], strict=False):
        assert expected <= pause < expected + 0.12, pauses


def test_a_refusal_for_good_ends_in_one_line() -> None:
    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if n == 1:
            await greet(reader, writer)
        else:
            await reader.readuntil(b"\x0110=")
            writer.write(said("5", 2, "58=maintenance|" if n < 4 else "58=Invalid password: s3cret|"))
            await writer.drain()
            await reader.read()

    async def work(link: Link, told: Told, why: str) -> None:
        await until(lambda: bool(told.ended), 10)
        assert told.ended == ["the peer refused the logon: Invalid password: ***"]

    assert len(scripted(serve, work)) == 4


def test_a_store_that_fails_ends_the_link_in_one_line() -> None:
    class Full(MemoryStore):
        full = False

        def keep(self) -> None:
            if self.full:
                raise JournalError("the disk is full")

    store = Full()

    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await asyncio.sleep(0.05)
        store.full = True
        writer.write(said("1", 2, "112=x|"))
        await reader.read()

    async def work(link: Link, told: Told, why: str) -> None:
        await until(lambda: bool(told.ended), 10)
        store.full = False
        assert told.ended == ["the disk is full"]

    scripted(serve, work, store=store)


@pytest.mark.parametrize("reads", [True, False])
def test_closing_takes_two_seconds_at_most_whatever_the_peer_does(reads: bool) -> None:
    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        if reads:
            await reader.read()
        await asyncio.sleep(2.5)

    async def work(link: Link, told: Told, why: str) -> None:
        if not reads:
            for _ in range(300):
                link.session.send(b"D", b"58=" + b"x" * 30_000 + b"\x01")
            link.flush()
            assert not link.reading
        began = time.monotonic()
        await link.close()
        assert time.monotonic() - began < CLOSE_S

    scripted(serve, work)


@in_real_time
def test_orders_wait_a_quarter_of_a_second_for_a_peer_that_does_not_read_and_no_longer() -> None:
    reads = asyncio.Event()

    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await reads.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        while await reader.read(1 << 20):
            pass

    async def work(link: Link, told: Told, why: str) -> None:
        done: list[str] = []
        for _ in range(300):
            link.session.send(b"D", b"58=" + b"x" * 30_000 + b"\x01")
        link.flush()
        assert not link.reading
        link.defer(lambda: done.append("sent 1"), lambda: done.append("expired 1"))
        began = time.monotonic()
        await until(lambda: bool(done), 5)
        assert done == ["expired 1"]
        assert DEFER_S - 0.02 <= time.monotonic() - began < DEFER_S + 0.1
        link.defer(lambda: done.append("sent 2"), lambda: done.append("expired 2"))
        reads.set()
        await until(lambda: len(done) > 1, 5)
        assert done[1] == "sent 2"
        assert link.reading
        await asyncio.sleep(DEFER_S + 0.1)
        assert len(done) == 2
        link.defer(lambda: done.append("sent 3"), lambda: done.append("lost 3"))
        link.drop()
        await until(lambda: len(done) > 2, 5)
        assert done[2] == "lost 3"
        assert link.session.phase is Phase.DOWN

    scripted(serve, work)
