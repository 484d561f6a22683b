"""A link whose peer does not answer, does not read, or is not there: nothing hangs, piles up, or leaves late."""

import asyncio
import time
from collections.abc import Callable

import pytest
import structlog

from emp.access.fix import link as subject
from emp.access.fix.dialect import PLAIN
from emp.access.fix.link import CLOSE_S, Link
from emp.access.fix.schedule import Hours
from emp.access.fix.session import Session
from emp.access.fix.store import MemoryStore
from emp.access.fix.terms import Phase, SessionConfig
from emp.core.clock import LiveClock
from tests.fix.test_link import FAST, Told, greet, scripted
from tests.fix.test_quickfix import until
from tests.kit.anew import in_real_time

S = 1_000_000_000


async def reads_nothing(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the logon of the first connection, then read no more; serve the others well."""
    await greet(reader, writer)
    if n == 1:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(8.0)
    while await reader.read(1 << 20):
        pass


def fill(link: Link) -> None:
    """Write until the system takes no more."""
    for _ in range(300):
        link.session.send(b"D", b"58=" + b"x" * 30_000 + b"\x01")
    link.flush()
    assert not link.reading


@in_real_time
def test_closing_ends_a_dial_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        dialled = asyncio.Event()

        async def silent(*_args: object, **_rest: object) -> None:
            dialled.set()
            await asyncio.sleep(3600)

        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", silent)
        told = Told()
        session = Session(SessionConfig(sender="ME", target="VENUE"), MemoryStore(), LiveClock(), told)
        link = told.link = Link(session, "127.0.0.1", 9, PLAIN, LiveClock(), None, 60.0)
        starting = asyncio.create_task(link.start())
        await dialled.wait()
        began = time.monotonic()
        await link.close()
        assert time.monotonic() - began < CLOSE_S / 2
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

    asyncio.run(run())


@in_real_time
def test_a_session_that_ends_before_a_peer_that_does_not_read_is_dialled_anew_at_once() -> None:
    async def work(link: Link, told: Told, why: str) -> None:
        fill(link)
        began = time.monotonic()
        link.session._state.end("over")
        link.flush()
        await until(lambda: link.losses == 1, 4)
        assert time.monotonic() - began < 2.0, "a close that waits for the peer would wait for ever"
        await until(lambda: link.session.phase is Phase.ACTIVE, 4)

    assert len(scripted(reads_nothing, work)) == 2


def test_nothing_is_written_while_the_peer_does_not_read() -> None:
    async def work(link: Link, told: Told, why: str) -> None:
        fill(link)
        transport = link._transport
        assert transport is not None
        stuck = transport.get_write_buffer_size()
        for _ in range(20):
            link.session.send(b"0", b"58=" + b"y" * 1_000 + b"\x01")
            link.flush()
        assert transport.get_write_buffer_size() <= stuck
        assert len(link.session.take()) == 20, "what waits, waits in the session"

    scripted(reads_nothing, work)


@in_real_time
def test_what_is_deferred_leaves_when_the_peer_reads_again_in_order() -> None:
    done: list[str] = []

    def send(name: str) -> Callable[[], None]:
        return lambda: done.append(f"sent {name}")

    async def work(link: Link, told: Told, why: str) -> None:
        link.paused(True)
        for name in ("a", "b"):
            link.defer(send(name), lambda: done.append("expired"))
        link.session.send(b"0", b"")
        link.flush()
        assert done == []
        link.paused(False)
        assert done == ["sent a", "sent b"]
        assert link.session.drain() == b"", "what the session had to say was written"
        await asyncio.sleep(0.6 * subject.DEFER_S)
        link.paused(True)
        link.defer(lambda: (send("c")(), link.paused(True))[0], lambda: done.append("expired c"))
        link.defer(send("d"), lambda: done.append("expired d"))
        link.paused(False)
        assert done[2:] == ["sent c"], "it stopped reading with the first"
        await asyncio.sleep(0.6 * subject.DEFER_S)
        assert len(done) == 3, "it waits as long as any"
        await until(lambda: len(done) == 4, 2)
        assert done[3] == "expired d"
        link.paused(True)
        link.defer(send("e"), lambda: done.append("expired e"))
        link.session._state.close("over")
        link.paused(False)
        assert done[4:] == [], "the session is over: it is not sent any more"

    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await reader.read()

    scripted(serve, work)
    assert done[4:] == ["expired e"]


@in_real_time
def test_a_peer_that_reads_nothing_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_DEAF_S", 0.5)
    reasons: list[str] = []

    async def work(link: Link, told: Told, why: str) -> None:
        link.on_loss = lambda why, attempt: reasons.append(f"{link.cause}: {why}")
        link.paused(True)
        await asyncio.sleep(0.3)
        link.paused(False)
        await asyncio.sleep(0.4)
        assert link.losses == 0, "it has read in between"
        fill(link)
        began = time.monotonic()
        await until(lambda: link.losses == 1, 4)
        assert 0.4 <= time.monotonic() - began < 2.0
        assert reasons == ["silent: the peer has read nothing for 0.5 s"]
        await until(lambda: link.session.phase is Phase.ACTIVE, 4)

    scripted(reads_nothing, work)


class Shifted(LiveClock):
    """The time of day of a Wednesday just before hours end."""

    def __init__(self, wall_ns: int) -> None:
        super().__init__()
        self.ahead = wall_ns - super().now_ns()

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead


@in_real_time
def test_outside_hours_nobody_is_dialled_until_they_begin() -> None:
    async def run() -> None:
        noon = 1_717_588_800 * S  # Wednesday 2024-06-05, 12:00
        clock = Shifted(noon)
        connections = 0

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await greet(reader, writer)
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        hours = Hours(start="08:00", end="17:00", days=("mon", "tue", "wed", "thu", "fri"))
        told = Told()
        config = SessionConfig(sender="ME", target="VENUE", hours=hours, max_skew_s=0.0)
        session = Session(config, MemoryStore(), clock, told)
        dialect = type(PLAIN)(name="test", backoff=FAST, hours=hours)
        port = server.sockets[0].getsockname()[1]
        link = told.link = Link(session, "127.0.0.1", port, dialect, clock, None, 2.0)
        with structlog.testing.capture_logs() as log:
            assert await link.start() == ""
            clock.ahead += 5 * 3600 * S + S  # 17:00:01
            await until(lambda: link.losses == 1, 4)
            await asyncio.sleep(0.2)
            assert connections == 1
            [lost] = [entry for entry in log if entry["event"] == "connection lost"]
            assert abs(lost["wait_s"] - (15 * 3600 - 1)) < 5
            began = time.monotonic()
            await link.close()
            assert time.monotonic() - began < CLOSE_S / 2, "nor does the wait hold up the end"
        server.close()

    asyncio.run(run())
