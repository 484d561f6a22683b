"""Our client and our venue over real TCP: the mock market, cTrader's dialect, TLS, and every fault."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emp.access.fix.client import FixAccess, FixSettings
from emp.access.fix.dialect import CTRADER, MOCK, PLAIN, Dialect
from emp.access.fix.schedule import Backoff
from emp.access.port import MarketAccess
from emp.core.codes import OrderStatus
from emp.core.config.secrets import Secret
from emp.core.contracts import OrderUpdate
from emp.core.errors import VenueError
from emp.core.ids import cl_ord_id, generator
from emp.sim.venues.fix.faults import Faults
from emp.sim.venues.fix.venue import FixVenue, VenueSettings
from tests.fix.desk import EURUSD
from tests.fix.markets import Stepped, Toy
from tests.fix.test_quickfix import CLOCK, Desk, order, until
from tests.kit.instruments import currency_pair
from tests.kit.listener import Listener
from tests.kit.orders import cancel_order, cleared, new_order

FAST = Backoff(first_s=0.02, factor=1.5, longest_s=0.2)
GOLD = currency_pair("XAUUSD", 0.001, 1.0)
SYMBOLS = {"EURUSD": "1", "XAUUSD": "41"}


def quick(dialect: Dialect, **changes: Any) -> Dialect:
    return msgspec.structs.replace(dialect, backoff=FAST, hours=None, **changes)


def settings(port: int, dialect: Dialect, **changes: Any) -> FixSettings:
    return FixSettings(
        host="127.0.0.1", port=port, sender="EMP", target="EMPVENUE", dialect=dialect, tls=False, timeout_s=5.0,
        **changes,
    )  # fmt: skip


def together(
    market: MarketAccess,
    work: Callable[[FixVenue, Listener, Desk], Awaitable[None]],
    dialect: Dialect = MOCK,
    *,
    faults: Faults | None = None,
    client: dict[str, Any] | None = None,
    venue: dict[str, Any] | None = None,
    names: tuple[Any, ...] = (EURUSD,),
) -> None:
    """Run `work` with a venue in front of `market` and a connected client; no task may be left behind."""

    async def run() -> None:
        dialect_now = quick(dialect)
        stand = FixVenue(market, names, VenueSettings(dialect=dialect_now, **(venue or {})), faults=faults)
        access = Listener(FixAccess(settings(await stand.start(), dialect_now, **(client or {}))))
        desk = Desk(access)
        try:
            await access.connect(names)
            await work(stand, access, desk)
        finally:
            await access.close()
            await stand.close()
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    asyncio.run(run())


class Robot:
    """A stand-in for the engine: acts on every few events, a pure function of what it sees, and writes it down."""

    def __init__(self, access: Listener) -> None:
        self.access = access
        self.log: list[tuple[Any, ...]] = []
        self.resting: str = ""
        self.number = 0
        access.on_report(self.heard)

    def heard(self, u: OrderUpdate) -> None:
        self.log.append(
            (
                u.clOrdID,
                u.status,
                u.filled,
                u.price,
                u.ts,
                u.instrument,
                u.leaves,
                u.fee,
                u.maker,
                u.queue_ahead,
            )
        )
        if u.status.terminal and u.clOrdID == self.resting:
            self.resting = ""

    async def run(self) -> None:
        async for rows in self.access.events():
            for row in rows:
                self.log.append(tuple(row[n].tolist() for n in row.dtype.names if n != "ts_recv"))
                self.act(row)

    def act(self, row: Any) -> None:
        seq = int(row["seq"])
        if row["n_bid"] == 0 or row["n_ask"] == 0 or seq % 5:
            return
        self.number += 1
        side = 1 if (seq // 5) % 2 else -1
        immediate = seq % 3 == 0
        if self.resting and seq % 2:
            self.access.send(cancel_order(cl_ord_id("RB", self.number), self.resting, ts=int(row["ts"])))
            return
        touch = row["ask_px"][0] if (side > 0) == immediate else row["bid_px"][0]
        name = cl_ord_id("RB", self.number)
        order = new_order(
            name, side, 1 + seq % 3, int(touch), immediate=immediate, ts=int(row["ts"]), seq=seq
        )
        self.access.send(cleared(order))
        if not immediate:
            self.resting = name


def test_the_same_seed_gives_the_same_log_over_fix_and_without() -> None:
    events = 1500
    costly = msgspec.structs.replace(EURUSD, taker_fee=3.3, maker_fee=0.7)
    direct = Robot(Listener(Stepped(costly, 5, events)))

    async def straight() -> None:
        await direct.access.connect((costly,))
        await direct.run()
        await direct.access.close()

    asyncio.run(straight())
    over: list[tuple[Any, ...]] = []

    async def work(stand: FixVenue, access: Listener, desk: Desk) -> None:
        robot = Robot(access)
        task = asyncio.create_task(robot.run())
        await until(lambda: sum(len(e) > 12 for e in robot.log) == events, 60)
        await access.close()
        await task
        over.extend(robot.log)

    together(
        Stepped(costly, 5, events), work, names=(costly,), client={"lockstep": True}, venue={"lockstep": True}
    )
    reports = [e for e in direct.log if len(e) == 10]
    assert len(reports) > 300
    assert {e[1] for e in reports} >= {OrderStatus.NEW, OrderStatus.FILLED, OrderStatus.CANCELED}
    assert any(e[7] for e in reports)
    assert len(over) >= len(direct.log)
    assert over[: len(direct.log)] == direct.log


def test_ctraders_dialect_from_end_to_end() -> None:
    toy = Toy([EURUSD, GOLD], levels=10)

    async def work(stand: FixVenue, access: Listener, desk: Desk) -> None:
        seen: list[Any] = []

        async def watch() -> None:
            async for rows in access.events():
                seen.extend(rows)

        task = asyncio.create_task(watch())
        await until(lambda: len(seen) > 60)
        expected = {
            (int(r["instrument"][0]), tuple(r["bid_px"][0]), tuple(r["ask_sz"][0])) for r in toy.shown
        }
        for row in seen:
            found = (int(row["instrument"]), tuple(row["bid_px"]), tuple(row["ask_sz"]))
            assert found in expected
        assert {int(row["instrument"]) for row in seen} == {0, 1}
        assert len(access.links) == 2
        # the venue knows no IOC: what does not cross rests, and is cancelled
        access.send(cleared(order(1, 1, 3, 108_740, True)))
        await until(lambda: desk.status.get(cl_ord_id("QF", 1)) is OrderStatus.CANCELED)
        access.send(cleared(order(2, -1, 2, 108_750, False)))
        await until(lambda: desk.status.get(cl_ord_id("QF", 2)) is OrderStatus.FILLED)
        assert await access.open_orders() == []
        positions = await access.positions()
        assert {p.instrument: p.qty for p in positions} == {n: q for n, q in toy.held.items() if q}
        assert all(u.execID.startswith("D") for u in desk.updates)
        assert not any(u.clOrdID.endswith("C") for u in desk.updates)
        await access.close()
        await task

    together(
        toy, work, CTRADER, client={"symbols": SYMBOLS, "password": Secret("pw"), "username": Secret("me")},
        venue={"symbols": SYMBOLS, "password": Secret("pw")}, names=(EURUSD, GOLD),
    )  # fmt: skip


def test_a_cancel_of_our_own_that_comes_too_late_is_nobody_elses_business() -> None:
    async def work(stand: FixVenue, access: Listener, desk: Desk) -> None:
        access.send(cleared(order(1, 1, 3, 108_760, True)))
        await until(lambda: desk.status.get(cl_ord_id("QF", 1)) is OrderStatus.FILLED)
        await access.positions()  # whatever the venue had to say before has arrived
        assert {u.clOrdID for u in desk.updates} == {cl_ord_id("QF", 1)}

    together(
        Toy([EURUSD], eager=True), work, CTRADER, client={"symbols": SYMBOLS}, venue={"symbols": SYMBOLS}
    )


def test_symbols_are_looked_up_where_the_venue_has_numbers() -> None:
    async def work(stand: FixVenue, access: Listener, desk: Desk) -> None:
        assert access.market.symbols == ("41", "1")
        assert len(await anext(access.events())) > 0

    together(Toy([GOLD, EURUSD]), work, CTRADER, venue={"symbols": SYMBOLS}, names=(GOLD, EURUSD))

    async def run() -> None:
        stand = FixVenue(Toy([EURUSD]), [EURUSD], VenueSettings(dialect=quick(CTRADER), symbols=SYMBOLS))
        access = Listener(FixAccess(settings(await stand.start(), quick(CTRADER))))
        with pytest.raises(VenueError, match="lists no XAUUSD; give its symbol"):
            await access.connect([EURUSD, GOLD])
        await access.close()
        await stand.close()

    asyncio.run(run())


def test_a_wrong_password_fails_in_one_line_and_is_never_shown() -> None:
    async def run() -> None:
        dialect = quick(CTRADER)
        stand = FixVenue(Toy([EURUSD]), [EURUSD], VenueSettings(dialect=dialect, password=Secret("right")))
        port = await stand.start()
        lines: list[str] = []
        with pytest.raises(VenueError, match="invalid credentials") as failed:
            await Listener(
                FixAccess(
                    settings(port, dialect, password=Secret("wr0ng"), username=Secret("me")),
                    log=lambda way, text: lines.append(text),
                )
            ).connect([EURUSD])
        assert "\n" not in str(failed.value)
        assert lines
        assert not any("wr0ng" in line for line in lines)
        await stand.close()

    asyncio.run(run())


@pytest.mark.parametrize("dialect", [PLAIN, CTRADER, MOCK], ids=lambda d: d.name)
@pytest.mark.parametrize("kind", ["cut", "delay", "reorder", "silence", "checksum", "reject"])
def test_positions_agree_whatever_the_venue_does(kind: str, dialect: Dialect, tmp_path: Path) -> None:
    toy = Toy([EURUSD])
    chance = 0.3 if kind == "reject" else 0.04 if kind in ("cut", "silence") else 0.1
    faults = Faults(seed=3, delay_s=0.01, silence_s=0.05, **{kind: chance})
    symbols = SYMBOLS if dialect is CTRADER else {}

    async def work(stand: FixVenue, access: Listener, desk: Desk) -> None:
        watcher = asyncio.create_task(desk.watch())
        rng = generator(7, kind)
        for number in range(1, 61):
            side = 1 if rng.random() < 0.5 else -1
            access.send(
                cleared(order(number, side, int(rng.integers(1, 5)), 108_755, bool(rng.random() < 0.6)))
            )
            await asyncio.sleep(0.01)
        ids = [cl_ord_id("QF", n) for n in range(1, 61)]
        stand.plan.faults = Faults()
        await until(lambda: all(link.session.phase.name == "ACTIVE" for link in access.links), 20)
        await until(lambda: all(desk.status.get(i, OrderStatus.NEW).terminal for i in ids), 20)
        held = await access.positions()
        assert sum(p.qty for p in held) == toy.held["EURUSD"] == desk.position
        for name in ids:
            assert desk.filled.get(name, (0, 0))[1] == toy.filled.get(name, 0), name
        assert stand.plan.counts[kind] > 0
        seen = desk.events
        await until(lambda: desk.events > seen + 5)
        await access.close()
        await watcher

    together(
        toy, work, msgspec.structs.replace(dialect, heartbeat_s=1), faults=faults,
        client={"symbols": symbols, "store": tmp_path}, venue={"symbols": symbols},
    )  # fmt: skip


def test_lost_connections_show_as_gaps_and_the_book_comes_back_whole() -> None:
    toy = Toy([EURUSD])

    async def work(stand: FixVenue, access: Listener, desk: Desk) -> None:
        watcher = asyncio.create_task(desk.watch())
        for _ in range(5):
            seen = desk.events
            await until(lambda seen=seen: desk.events > seen + 5)
            access.links[0].drop()
        await until(lambda: desk.gaps >= 5)
        assert desk.gaps == access.links[0].losses == 5
        shown = {tuple(r["bid_px"][0]) for r in toy.shown}
        assert tuple(desk.last["bid_px"]) in shown
        await access.close()
        await watcher

    together(toy, work)


def test_an_order_sent_while_logged_off_is_dead_and_said_so() -> None:
    toy = Toy([EURUSD])

    async def work(stand: FixVenue, access: Listener, desk: Desk) -> None:
        access.links[0].drop()
        await until(lambda: access.links[0].session.phase.name != "ACTIVE")
        access.send(cleared(order(1, 1, 2, 108_755, True)))
        await until(lambda: bool(desk.updates))
        assert desk.updates[0].status is OrderStatus.REJECTED
        assert "nothing was sent" in desk.updates[0].text
        await until(lambda: access.links[0].session.phase.name == "ACTIVE")
        assert toy.orders == {}

    together(toy, work)


def test_unknown_symbols_are_refused_in_one_line() -> None:
    async def work(stand: FixVenue, access: Listener, desk: Desk) -> None:
        with pytest.raises(VenueError, match="unknown symbol EURO"):
            async for _ in access.events():
                pass

    together(Toy([EURUSD]), work, client={"symbols": {"EURUSD": "EURO"}})


def test_over_tls(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command here to make a test certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def run() -> None:
        stand = FixVenue(Toy([EURUSD]), [EURUSD], tls=server)
        port = await stand.start()
        secured = msgspec.structs.replace(settings(port, quick(MOCK)), tls=True)
        with pytest.raises(VenueError, match="cannot connect"):
            await Listener(FixAccess(secured)).connect([EURUSD])
        access = Listener(FixAccess(secured, tls=trusting))
        desk = Desk(access)
        await access.connect([EURUSD])
        watcher = asyncio.create_task(desk.watch())
        await until(lambda: desk.events > 10)
        access.send(cleared(order(1, 1, 2, 108_755, True)))
        await until(lambda: desk.status.get(cl_ord_id("QF", 1)) is OrderStatus.FILLED)
        await access.close()
        await watcher
        await stand.close()

    asyncio.run(run())


def test_closing_never_waits_for_a_silent_venue() -> None:
    async def run() -> None:
        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(swallow, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        silent = msgspec.structs.replace(settings(port, quick(MOCK)), timeout_s=0.2)
        began = CLOCK.monotonic_ns()
        with pytest.raises(VenueError, match="no answer to the logon"):
            await Listener(FixAccess(silent)).connect([EURUSD])
        assert CLOCK.monotonic_ns() - began < 3_000_000_000
        server.close()
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_closing_while_waiting_to_dial_again_is_immediate() -> None:
    async def run() -> None:
        patient = msgspec.structs.replace(quick(MOCK), backoff=Backoff(first_s=60.0, longest_s=60.0))
        stand = FixVenue(Toy([EURUSD]), [EURUSD])
        access = Listener(FixAccess(settings(await stand.start(), patient)))
        await access.connect([EURUSD])
        await stand.close()
        await until(lambda: access.links[0].losses == 1)
        async with asyncio.timeout(2):
            await access.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


@pytest.mark.parametrize("dialect", [PLAIN, CTRADER], ids=lambda d: d.name)
@pytest.mark.parametrize("asked", [True, False])
def test_a_venue_that_is_asked_to_withdraws_what_rests_where_we_are_lost(
    asked: bool, dialect: Dialect, tmp_path: Path
) -> None:
    toy = Toy([EURUSD], pause_s=60.0)  # nothing fills meanwhile

    async def work(stand: FixVenue, access: Listener, desk: Desk) -> None:
        watcher = asyncio.create_task(desk.watch())
        access.send(cleared(order(1, 1, 2, 90_000, False)))
        name = cl_ord_id("QF", 1)
        await until(lambda: desk.status.get(name) is OrderStatus.NEW, 10)
        for client in tuple(stand.clients):
            client.drop()
        await until(lambda: all(link.session.phase.name == "DOWN" for link in access.links), 10)
        await until(lambda: all(link.session.phase.name == "ACTIVE" for link in access.links), 20)
        if asked:
            await until(lambda: desk.status[name] is OrderStatus.CANCELED, 10)
            assert toy.status[name] is OrderStatus.CANCELED
        else:
            assert [o.clOrdID for o in await access.open_orders()] == [name]
        watcher.cancel()

    symbols = {"symbols": SYMBOLS} if dialect is CTRADER else {}
    client = {**symbols, "store": tmp_path, **({"cancel_on_disconnect": "8013=Y"} if asked else {})}
    together(toy, work, dialect, client=client, venue={**symbols, "cancel_on_disconnect": 8013})
