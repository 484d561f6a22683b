"""An independent peer: QuickFIX in its own process, both ways round, with connections lost at random moments."""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emp.access.fix.client import FixAccess, FixSettings
from emp.access.fix.dialect import PLAIN, Dialect
from emp.access.fix.schedule import Backoff
from emp.core.clock import LiveClock
from emp.core.codes import EventFlag, OrderStatus, Reason
from emp.core.contracts import NewOrder, OrderUpdate
from emp.core.errors import VenueError
from emp.core.ids import cl_ord_id, generator
from emp.sim.venues.fix.venue import FixVenue, VenueSettings
from tests.fix.desk import EURUSD
from tests.fix.markets import Toy
from tests.kit.listener import Listener
from tests.kit.orders import cancel_order, cleared, new_order, replace_order

pytest.importorskip(
    "quickfix", reason="needs quickfix-ssl, which has a wheel for CPython 3.11 on x86_64 only"
)

QUICK = msgspec.structs.replace(
    PLAIN, name="quickfix", backoff=Backoff(first_s=0.05, factor=1.5, longest_s=0.5), heartbeat_s=5
)
CLOCK = LiveClock()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Peer:
    """The QuickFIX process, spoken to in lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, role: str, port: int, *arguments: str) -> AsyncIterator["Peer"]:
        script = Path(__file__).with_name("quickfix_peer.py")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", str(script), role, str(port), *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            limit=1 << 24,
        )  # fmt: skip
        peer = cls(process)
        try:
            await peer.line("ready")
            yield peer
        finally:
            assert process.stdin is not None
            process.stdin.write(b'{"stop": 1}\n')
            process.stdin.close()
            try:
                async with asyncio.timeout(10):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    async def line(self, key: str) -> dict[str, Any]:
        """The next line that has `key`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while True:
                found = json.loads(await self.process.stdout.readline())
                if key in found:
                    return dict(found)

    async def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command or {"facts": 1}).encode() + b"\n")
        return await self.line("logons")


class Proxy:
    """A wire that breaks: forwards both ways, and cuts both after a given number of bytes, mid-message or not."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.cuts = 0
        self.left = 1 << 62
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        self.cuts += 1
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        for one in (writer, up_writer):
            self._writers.discard(one)
            one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data[: self.left])
                if len(data) >= self.left:
                    self.left = 1 << 62
                    await writer.drain()
                    self.cut()
                    return
                self.left -= len(data)
        writer.close()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0.05)


class Desk:
    """Our side: an access, the reports it gave, and the last event."""

    def __init__(self, access: Listener) -> None:
        self.access = access
        self.updates: list[OrderUpdate] = []
        self.filled: dict[str, tuple[int, int]] = {}  # order -> (side, cumulative lots)
        self.status: dict[str, OrderStatus] = {}
        self.events = 0
        self.gaps = 0
        self.last: Any = None
        access.on_report(self.take)

    def take(self, update: OrderUpdate) -> None:
        self.updates.append(update)
        if not (self.status.get(update.clOrdID, OrderStatus.NEW)).terminal:
            self.status[update.clOrdID] = update.status
        if update.side:
            _, before = self.filled.get(update.clOrdID, (0, 0))
            self.filled[update.clOrdID] = update.side, max(before, update.filled)

    async def watch(self) -> None:
        async for rows in self.access.events():
            self.events += len(rows)
            self.gaps += int((rows["flags"] & int(EventFlag.GAP) != 0).sum())
            self.last = rows[-1]

    @property
    def position(self) -> int:
        return sum(side * lots for side, lots in self.filled.values())


def order(number: int, side: int, qty: int, px: int, immediate: bool) -> NewOrder:
    return new_order(
        cl_ord_id("QF", number), side, qty, px, immediate=immediate, ts=CLOCK.now_ns(),
        reason=Reason.CROSS_EDGE, seq=number,
    )  # fmt: skip


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def fix_settings(port: int, store: Path) -> FixSettings:
    return FixSettings(
        host="127.0.0.1",
        port=port,
        sender="ME",
        target="QF",
        dialect=QUICK,
        tls=False,
        store=store,
        timeout_s=5.0,
    )


def test_our_initiator_trades_with_a_quickfix_acceptor(tmp_path: Path) -> None:
    async def run() -> None:
        port = free_port()
        async with Peer.running("accept", port, "QF", "ME", "0.01") as venue:
            access = Listener(FixAccess(fix_settings(port, tmp_path)))
            desk = Desk(access)
            await access.connect([EURUSD])
            watcher = asyncio.create_task(desk.watch())
            await until(lambda: desk.events > 20)
            row = desk.last
            assert (row["n_bid"], row["n_ask"]) == (2, 2)
            assert row["ask_px"][0] - row["bid_px"][0] == 2
            assert 1000 <= row["bid_sz"][0] < 2000 <= row["bid_sz"][1] < 3000
            await trade_every_way(access, desk)
            assert desk.position == 2 - 3 + desk.filled[cl_ord_id("QF", 5)][1]
            [held] = await access.positions()
            assert held.qty == desk.position
            before = len(asyncio.all_tasks())
            await access.close()
            await watcher
            facts = await venue.ask()
            assert facts["rejects"] == 0
            assert facts["subscribed"] == ""
            assert facts["position"] == desk.position * 1000
            assert before > len(asyncio.all_tasks()) == 1

    asyncio.run(run())


async def trade_every_way(access: Listener, desk: Desk) -> None:
    """Fill at once, be refused, rest and cancel, rest and replace, cancel in vain."""
    ids = [cl_ord_id("QF", n) for n in range(20)]
    access.send(cleared(order(1, 1, 2, 108_800, True)))
    access.send(cleared(order(2, -1, 3, 108_700, True)))
    access.send(cleared(order(3, 1, 999, 108_700, True)))
    await until(lambda: {desk.status.get(ids[n]) for n in (1, 2)} == {OrderStatus.FILLED})
    await until(lambda: desk.status.get(ids[3]) is OrderStatus.REJECTED)
    access.send(cleared(order(4, 1, 40, 108_600, False)))
    await until(lambda: ids[4] in desk.status)
    [working] = await access.open_orders()
    assert (working.clOrdID, working.side) == (ids[4], 1)
    cancel = cancel_order(ids[10], ids[4], ts=CLOCK.now_ns())
    access.send(cleared(replace_order(ids[5], ids[4], 1, 45, 108_601, ts=CLOCK.now_ns())))
    await until(lambda: ids[5] in desk.status)
    access.send(cleared(msgspec.structs.replace(cancel, orig=ids[5])))
    await until(lambda: desk.status.get(ids[5]) is OrderStatus.CANCELED)
    access.send(cleared(msgspec.structs.replace(cancel, cl_ord_id=ids[11], orig=ids[5])))
    await until(lambda: desk.status.get(ids[11]) is OrderStatus.REJECTED)
    assert await access.open_orders() == []
    desk.filled.pop(ids[4], None)  # its fills went on under the id that replaced it


def test_positions_agree_after_connections_lost_at_random_moments(tmp_path: Path) -> None:
    async def run() -> None:
        port = free_port()
        rng = generator(11, "cuts")
        async with Peer.running("accept", port, "QF", "ME", "0.005") as venue:
            proxy = Proxy(port)
            access = Listener(FixAccess(fix_settings(await proxy.start(), tmp_path)))
            desk = Desk(access)
            await access.connect([EURUSD])
            watcher = asyncio.create_task(desk.watch())
            number = 0
            for _ in range(12):
                proxy.left = int(rng.integers(300, 6000))
                cuts = proxy.cuts
                async with asyncio.timeout(20):
                    while proxy.cuts == cuts:
                        number += 1
                        side = 1 if rng.random() < 0.5 else -1
                        immediate = bool(rng.random() < 0.7)
                        access.send(cleared(order(number, side, int(rng.integers(1, 6)), 108_755, immediate)))
                        await asyncio.sleep(float(rng.uniform(0.002, 0.02)))
            link = access.links[0]
            await until(lambda: link.session.phase.name == "ACTIVE")
            ids = [cl_ord_id("QF", n) for n in range(1, number + 1)]
            await until(lambda: all(desk.status.get(i, OrderStatus.NEW).terminal for i in ids), 20)
            [held] = await access.positions()
            facts = await venue.ask()
            known = facts["orders"]
            assert held.qty * 1000 == facts["position"] == desk.position * 1000
            for name in ids:  # what the venue never saw is dead here, what it filled is filled here
                cumulative = known.get(name, ["8", 0])[1]
                assert desk.filled.get(name, (0, 0))[1] * 1000 == cumulative, name
            assert any(name not in known for name in ids) or number < 20
            assert link.losses >= 12
            assert desk.gaps >= 1  # of those losses before which a book had come
            assert facts["rejects"] == 0
            seen = desk.events
            await until(lambda: desk.events > seen + 10)
            await access.close()
            await watcher
            await proxy.close()

    asyncio.run(run())


NO_ORDERS = (
    ("x1", {"54": "Q"}, "Side"),
    ("x2", {"54": "9"}, "Side"),
    ("x3", {"38": "-1000"}, "OrderQty"),
    ("x4", {"38": "99999999999999999999"}, "OrderQty"),
    ("x5", {"38": "1.5"}, "OrderQty"),
    ("x6", {"38": "999999999000"}, "OrderQty"),
    ("x7", {"44": "1.087551"}, "tick"),
    ("x8", {"44": "1,08"}, "Price"),
    ("x9", {"40": "3"}, "OrdType"),
    ("x10", {"60": "yesterday"}, "TransactTime"),
    ("x11", {"55": "NOTHING"}, "unknown symbol"),
    ("x12", {"59": "4"}, "TimeInForce"),
    ("NONE", {"11": "_"}, "ClOrdID"),
    ("x13", {"38": "_"}, "OrderQty"),
    ("x14", {"44": "_"}, "Price"),
)
"""ClOrdID of the answer, what is changed (`_`: left out) of a sound order, what the answer must name."""

IN_FULL = msgspec.structs.replace(
    QUICK,
    name="quickfix-in-full",
    entry_time=True,
    seq_tag=20_003,
    aggressor_tag=58,
    queue_tag=20_001,
    fee_tag=20_002,
)


@pytest.mark.parametrize("dialect", [QUICK, IN_FULL], ids=lambda d: d.name)
def test_a_quickfix_initiator_trades_on_our_venue(dialect: Dialect) -> None:
    async def run() -> None:
        toy = Toy([EURUSD], in_full=dialect is IN_FULL)
        settings = VenueSettings(sender="EMPVENUE", target="QF", dialect=dialect)
        venue = FixVenue(toy, [EURUSD], settings)
        port = await venue.start()
        proxy = Proxy(port)
        async with Peer.running("initiate", await proxy.start(), "QF", "EMPVENUE", "0") as trader:
            await trader.line("logon")
            await trader.ask(send="V", fields={"262": "r1", "263": "1", "264": "0", "265": "0"})
            await until(lambda: toy.steps > 30)
            facts = await trader.ask()
            assert facts["snapshots"] > 20
            assert facts["entries"] == [8 if toy.in_full else 6]
            tops = {(row["bid_px"][0, 0], row["ask_px"][0, 0]) for row in toy.shown}
            assert tuple(round(float(px) * 100_000) for px in facts["top"]) in tops
            common = {"55": "EURUSD", "40": "2", "44": "1.08755"}
            big = {"11": "b", "54": "2", "38": "9000000", "59": "1", "18": "6"}  # rests, whatever it crosses
            await trader.ask(send="D", fields={**common, "11": "a", "54": "1", "38": "3000", "59": "3"})
            await trader.ask(send="D", fields={**common, **big})
            await trader.ask(send="D", fields={**common, "11": "a", "54": "1", "38": "3000", "59": "3"})
            await until(lambda: toy.filled.get("b", 0) > 1)
            sound = {**common, "54": "1", "38": "3000", "59": "3"}
            for name, change, _ in NO_ORDERS:
                order = {**sound, "11": name, **change}
                await trader.ask(send="D", fields={tag: text for tag, text in order.items() if text != "_"})
            await trader.ask(send="H", fields={"11": "b", "55": "EURUSD", "54": "2"})
            proxy.cut()  # what is filled meanwhile must be resent
            await trader.line("logon")
            await until(lambda: toy.filled["b"] > 5)
            cancel = {"41": "b", "11": "c", "55": "EURUSD", "54": "2", "38": "9000000"}
            await trader.ask(send="F", fields=cancel)
            await until(lambda: toy.status["b"] is OrderStatus.CANCELED)
            await trader.ask(send="F", fields={**cancel, "11": "d"})
            await trader.ask(send="H", fields={"11": "nobody", "55": "EURUSD", "54": "1"})
            await trader.ask(send="AF", fields={"584": "m", "585": "7"})
            await trader.ask(
                send="AN", fields={"710": "p", "724": "0", "1": "QF", "581": "1", "715": "20240101"}
            )
            await asyncio.sleep(0.3)
            facts = await trader.ask()
            assert facts["rejects"] == 0
            by_status = [(r.get("11"), r.get("39")) for r in facts["reports"]]
            assert ("a", "2") in by_status
            assert ("c", "4") in by_status
            assert next(r for r in facts["reports"] if r.get("11") == "d")["39"] == "4"
            fills = {r["17"]: r for r in facts["reports"] if r.get("150") == "F"}
            bought = sum(int(r["32"]) for r in fills.values() if r["11"] == "a")
            sold = sum(int(r["32"]) for r in fills.values() if r["11"] == "b")
            assert (bought, sold) == (3000, toy.filled["b"] * 1000)
            answers = " ".join(facts["answers"])
            assert "ORDER_NOT_FOUND" in answers
            refused = {r["11"]: r for r in facts["reports"] if r["39"] == "8" and r.get("150") == "8"}
            assert refused["a"]["103"] == "6"
            for name, _, named in NO_ORDERS:
                assert named in refused[name]["58"], refused[name]
            assert set(toy.orders) == {"a", "b"}
            # told once, and perhaps again after the cut
            assert {(r["11"], r["39"]) for r in facts["reports"] if r.get("150") == "I"} == {("b", "1")}
            assert f"705={-toy.held['EURUSD'] * 1000}" in answers
        await venue.close()
        await proxy.close()

    asyncio.run(run())


def test_a_refused_connection_and_a_wrong_name_fail_in_one_line(tmp_path: Path) -> None:
    async def run() -> None:
        port = free_port()
        with pytest.raises(VenueError, match=r"cannot connect to 127\.0\.0\.1"):
            await Listener(FixAccess(fix_settings(port, tmp_path))).connect([EURUSD])
        async with Peer.running("accept", port, "QF", "ME", "1"):
            wrong = msgspec.structs.replace(fix_settings(port, tmp_path), sender="STRANGER")
            with pytest.raises(VenueError, match=r"FIX logon at 127\.0\.0\.1"):
                await Listener(FixAccess(wrong)).connect([EURUSD])
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
