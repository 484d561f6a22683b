"""The access against the venue over TLS: every flow and every fault as a user would meet it."""

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from ctrader_rig import (
    EURUSD,
    MS,
    QUICK,
    XAUUSD,
    Rig,
    credentials,
    run,
)

from emp.access.ctrader.access import CTraderAccess
from emp.access.ctrader.enums import AccountType
from emp.access.ctrader.messages import (
    ProtoOAAccountLogoutReq,
    ProtoOAUnsubscribeDepthQuotesReq,
    ProtoOAUnsubscribeSpotsReq,
)
from emp.access.ctrader.settings import Settings
from emp.access.port import MarketAccess
from emp.core.codes import EventFlag
from emp.core.config.secrets import Secret
from emp.core.errors import VenueError
from tests.kit.listener import Listener
from tests.kit.tls import client_tls

SLOW_BACK = msgspec.structs.replace(QUICK, backoff_first_ns=60_000 * MS, backoff_last_ns=60_000 * MS)


def test_it_is_a_market_access() -> None:
    access: MarketAccess = CTraderAccess(QUICK, credentials(), host="127.0.0.1")
    assert access


def test_logon_and_books_of_two_instruments(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD, XAUUSD)).start()
        await rig.until(lambda: len(rig.rows) >= 2, "first books")
        rig.market.show("EURUSD", [(110_001, 7)], [(110_003, 1)])
        rig.market.show("XAUUSD", [(2_000_010, 7)], [(2_000_300, 1)])
        await rig.until(lambda: len(rig.rows) >= 4, "changes")
        euro, gold = rig.rows[-2:]
        assert (euro["bid_px"][0], euro["bid_sz"][0], euro["ask_px"][0]) == (110_001, 7, 110_003)
        assert (gold["bid_px"][0], gold["ask_px"][0]) == (2_000_010, 2_000_300)
        assert (euro["instrument"], gold["instrument"]) == (0, 1)
        assert (euro["seq"], gold["seq"]) == (2, 2)
        assert abs(int(euro["ts_recv"]) - time.clock_gettime_ns(time.CLOCK_REALTIME)) < 5_000 * MS
        await rig.stop()

    run(main)


def test_leaving_unsubscribes_and_logs_off(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        await rig.stop()
        said = [type(m) for m in rig.venue.received[-3:]]
        assert said == [ProtoOAUnsubscribeDepthQuotesReq, ProtoOAUnsubscribeSpotsReq, ProtoOAAccountLogoutReq]
        await rig.access.close()
        with pytest.raises(VenueError, match="not connected"):
            rig.order(1, 1, 110_002, immediate=True)

    run(main)


def test_closing_breaks_the_connection_and_waits_for_tokens_to_be_kept(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        kept: list[object] = []

        def slowly(credentials: object) -> None:
            time.sleep(0.3)
            kept.append(credentials)

        rig.access.access._keep_tokens = slowly
        rig.venue.invalidate_token()
        await rig.until(lambda: len(rig.rows) == 2, "book again")
        await rig.access.close()
        assert len(kept) == 1
        await rig.until(lambda: not rig.venue.connections, "the end of the connection")
        await rig.stop()

    run(main)


def test_orders_from_first_to_last(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        crossing = rig.order(1, 7, 110_003, immediate=True)
        await rig.until(lambda: "filled" in rig.statuses(crossing), "fill")
        assert [(r.status, r.filled, r.price) for r in rig.of(crossing)] == [
            ("new", 0, 110_003),
            ("partially_filled", 5, 110_002),
            ("filled", 7, 110_003),
        ]
        resting = rig.order(-1, 3, 110_050, immediate=False)
        await rig.until(lambda: rig.statuses(resting) == ["new"], "new")
        (working,) = await rig.access.open_orders()
        assert (working.clOrdID, working.side, working.leaves, working.price) == (resting, -1, 3, 110_050)
        rig.market.fill(1)
        rig.cancel(resting)
        await rig.until(lambda: rig.statuses(resting)[-1] == "canceled", "cancel")
        assert [(r.filled, r.leaves) for r in rig.of(resting)] == [(0, 3), (1, 2), (1, 0)]
        (held,) = await rig.access.positions()
        assert (held.instrument, held.qty) == ("EURUSD", 6)
        assert len({(r.clOrdID, r.execID) for r in rig.reports}) == len(rig.reports)
        await rig.stop()

    run(main)


def test_an_immediate_order_that_finds_nothing_ends(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        name = rig.order(1, 2, 109_000, immediate=True)
        await rig.until(lambda: rig.statuses(name)[-1:] == ["canceled"], "end")
        assert rig.of(name)[-1].filled == 0
        await rig.stop()

    run(main)


def test_orders_and_positions_survive_a_restart_of_the_client(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,), kind=AccountType.HEDGED).start()
        bought = rig.order(1, 2, 110_002, immediate=True)
        resting = rig.order(1, 4, 109_000, immediate=False)
        await rig.until(lambda: bool(rig.statuses(resting) and "filled" in rig.statuses(bought)), "orders")
        await rig.access.close()
        rig.reports.clear()
        await rig.attach()
        assert [o.clOrdID for o in await rig.access.open_orders()] == [resting]
        assert [p.qty for p in await rig.access.positions()] == [2]
        rig.query(bought)
        rig.cancel(resting)
        await rig.until(lambda: bool(rig.statuses(bought)) and "canceled" in rig.statuses(resting), "both")
        assert rig.of(bought)[-1].filled == 2
        await rig.stop()

    run(main)


def test_a_token_that_expires_while_running(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        rig.venue.invalidate_token()
        await rig.until(lambda: bool(rig.kept), "new tokens")
        assert rig.kept[0].access_token == Secret("access-2")
        assert rig.access.credentials.refresh_token == Secret("refresh-2")
        await rig.until(
            lambda: bool(rig.rows and rig.rows[-1]["flags"] & EventFlag.GAP), "book after the gap"
        )
        name = rig.order(1, 1, 110_002, immediate=True)
        await rig.until(lambda: "filled" in rig.statuses(name), "fill")
        await rig.stop()

    run(main)


def test_account_disconnect_and_server_restart(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        resting = rig.order(1, 2, 109_000, immediate=False)
        await rig.until(lambda: rig.statuses(resting) == ["new"], "new")
        rig.venue.end_account()
        await rig.until(lambda: len(rig.rows) == 2, "book again")
        await rig.venue.restart()
        await rig.until(lambda: len(rig.rows) == 3, "book after the restart")
        rig.venue.end_client("maintenance")
        await rig.until(lambda: len(rig.rows) == 4, "book after the disconnect")
        assert [bool(r["flags"] & EventFlag.GAP) for r in rig.rows] == [False, True, True, True]
        assert [int(r["seq"]) for r in rig.rows] == [1, 2, 3, 4]
        rig.cancel(resting)
        await rig.until(lambda: rig.statuses(resting) == ["new", "canceled"], "cancel")
        await rig.stop()

    run(main)


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 20])
def test_a_connection_that_breaks_in_the_middle_of_a_frame(pem: Path, cut: int) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        rig.venue.faults.cut_frame = cut
        name = rig.order(1, 2, 110_002, immediate=True)
        await rig.until(lambda: "filled" in rig.statuses(name), "the fill, by asking")
        assert rig.statuses(name) == ["unknown", "filled"]
        assert len(rig.market.orders) == 1
        assert [p.qty for p in await rig.access.positions()] == [2]
        await rig.stop()

    run(main)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff\xff\xff",
        bytes(4),
        b"\x00\x00\x00\x02\xff\xff",
        b"\x00\x00\x00\x07\x08\xeb\x10\x12\x02\x10\xff",
    ],
)
def test_broken_frames_are_survived(pem: Path, raw: bytes) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        await rig.until(lambda: len(rig.rows) == 1, "first book")
        rig.venue.write_raw(raw)
        await rig.until(lambda: len(rig.rows) == 2, "book after the reconnect")
        assert rig.rows[-1]["flags"] & EventFlag.GAP
        await rig.stop()

    run(main)


def test_frames_that_come_byte_by_byte(pem: Path) -> None:
    async def main() -> None:
        rig = Rig(pem, (EURUSD,))
        rig.venue.faults.slow = True
        await rig.start()
        name = rig.order(1, 7, 110_003, immediate=True)
        await rig.until(lambda: "filled" in rig.statuses(name), "fill")
        rig.market.show("EURUSD", [(110_001, 7)], [(110_003, 1)])
        await rig.until(lambda: len(rig.rows) == 2, "book")
        await rig.stop()

    run(main)


def test_duplicates_and_shuffled_deletes(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        rig.venue.faults.duplicate = rig.venue.faults.shuffle_deletes = True
        name = rig.order(1, 7, 110_003, immediate=True)
        await rig.until(lambda: "filled" in rig.statuses(name), "fill")
        for i in range(20):
            rig.market.show("EURUSD", [(110_000 + i, 2), (109_990 + i, 1)], [(110_005 + i, 3)])
        await rig.until(lambda: "filled" in rig.statuses(name) and len(rig.rows) == 21, "fill and books")
        assert rig.statuses(name) == ["new", "partially_filled", "filled"]
        last = rig.rows[-1]
        assert (list(last["bid_px"][:3]), list(last["ask_px"][:2])) == ([110_019, 110_009, 0], [110_024, 0])
        await rig.stop()

    run(main)


def test_a_venue_that_falls_silent_is_left_and_found_again(pem: Path) -> None:
    quick = msgspec.structs.replace(QUICK, silence_ns=100 * MS, answer_ns=150 * MS)

    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start(quick)
        rig.venue.faults.silent = True
        await rig.until(lambda: not rig.venue.connections, "giving up")
        rig.venue.faults.silent = False
        await rig.until(lambda: len(rig.rows) == 2, "book after the reconnect")
        await rig.stop()

    run(main)


def test_a_slow_answer_does_not_make_a_second_order(pem: Path) -> None:
    quick = msgspec.structs.replace(QUICK, answer_ns=150 * MS, settle_ns=300 * MS)

    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start(quick)
        rig.venue.faults.delay_s = 0.2
        name = rig.order(1, 2, 110_002, immediate=True)
        await rig.until(lambda: "unknown" in rig.statuses(name), "unknown")
        rig.venue.faults.delay_s = 0.0
        await rig.until(lambda: "filled" in rig.statuses(name), "fill")
        await asyncio.sleep(0.3)
        assert len(rig.market.orders) == 1
        assert [r.filled for r in rig.of(name)][-1] == 2
        await rig.stop()

    run(main)


def fails(pem: Path, match: str, *, settings: Settings = QUICK, secrets: Any = None, **venue: Any) -> None:
    """A connect that must end in one line, leave nothing running and show no secret."""

    async def main() -> None:
        rig = Rig(pem, (EURUSD,), **venue)
        with pytest.raises(VenueError, match=match) as caught:
            await rig.start(settings, secrets or credentials())
        text = str(caught.value)
        assert "\n" not in text
        for secret in ("app-secret", "access-1", "refresh-1"):
            assert secret not in text
        await rig.access.close()
        await rig.venue.stop()

    run(main)


def test_logons_that_fail(pem: Path) -> None:
    fails(pem, "CH_CLIENT_AUTH_FAILURE: bad secret \\*\\*\\*", client=("app", "x"))
    fails(pem, "CH_CTID_TRADER_ACCOUNT_NOT_FOUND", settings=msgspec.structs.replace(QUICK, account=1))
    fails(pem, "CH_ACCESS_TOKEN_INVALID: bad token \\*\\*\\*", token="x", refresh="y-1")
    fails(pem, "no refresh token", token="x", secrets=credentials(refresh_token=None))


def test_instruments_the_venue_does_not_have(pem: Path) -> None:
    async def main() -> None:
        rig = Rig(pem, (EURUSD,))
        rig.instruments = (XAUUSD,)
        with pytest.raises(VenueError, match="the venue has no symbol for XAUUSD"):
            await rig.start()
        rig.instruments = (msgspec.structs.replace(EURUSD, lot=500.0),)
        with pytest.raises(VenueError, match="steps of 1000 units"):
            await rig.attach()
        await rig.venue.stop()

    run(main)


def test_nobody_there_and_a_certificate_that_is_not_trusted(pem: Path) -> None:
    async def main() -> None:
        access = Listener(CTraderAccess(QUICK, credentials(), host="127.0.0.1", port=1, tls=client_tls(pem)))
        with pytest.raises(VenueError, match=r"127\.0\.0\.1:1: cannot connect"):
            await access.connect([EURUSD])
        rig = await Rig(pem, (EURUSD,)).start()
        stranger = Listener(
            CTraderAccess(
                QUICK, credentials(), host="127.0.0.1", port=rig.venue.port, tls=ssl.create_default_context()
            )
        )
        with pytest.raises(VenueError, match="certificate is not trusted"):
            await stranger.connect([EURUSD])
        await rig.stop()

    run(main)


def test_a_token_that_cannot_be_renewed_ends_the_events_with_an_error(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        rig.venue.refresh = "taken-7"
        rig.venue.invalidate_token()
        await rig.until(lambda: rig.error is not None, "error")
        assert "CH_ACCESS_TOKEN_INVALID" in str(rig.error)
        await rig.stop()

    run(main)


def test_closing_at_any_moment_leaves_nothing(pem: Path) -> None:
    async def while_connecting() -> None:
        rig = Rig(pem, (EURUSD,))
        rig.venue.faults.silent = True
        starting = asyncio.create_task(rig.start())
        await asyncio.sleep(0.1)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await rig.venue.stop()

    async def while_waiting_to_reconnect() -> None:
        rig = await Rig(pem, (EURUSD,)).start(SLOW_BACK)
        await rig.venue.stop()
        await asyncio.sleep(0.05)
        name = rig.order(1, 1, 110_002, immediate=True)
        await rig.until(lambda: rig.statuses(name) == ["rejected"], "refusal")
        with pytest.raises(VenueError, match="not logged on"):
            await rig.access.positions()
        await rig.stop()

    async def while_a_question_is_open() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        rig.venue.faults.silent = True
        question = asyncio.create_task(rig.access.positions())  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        started = time.monotonic()
        await rig.stop()
        assert time.monotonic() - started < 4
        (answer,) = await asyncio.gather(question, return_exceptions=True)
        assert isinstance(answer, VenueError)

    for scene in (while_connecting, while_waiting_to_reconnect, while_a_question_is_open):
        run(scene)


def test_commands_sent_from_within_a_report_keep_the_order_of_reports(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()

        def again(update: Any) -> None:
            rig.reports.append(update)
            if len(rig.reports) < 5:
                rig.cancel("nobody")

        rig.access.on_report(again)
        rig.cancel("nobody")
        assert not rig.reports, "a report came before the call was over"
        await rig.until(lambda: len(rig.reports) == 5, "reports")
        assert [r.clOrdID for r in rig.reports] == [f"RUN-{i:08d}" for i in range(1, 6)]
        await rig.stop()

    run(main)


def test_secrets_are_in_no_log_line(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        rig.venue.refresh = "taken-7"
        rig.venue.invalidate_token()
        await rig.until(lambda: rig.error is not None, "error")
        await rig.stop()

    with structlog.testing.capture_logs() as lines:
        run(main)
    said = str(lines)
    assert "***" in said
    for secret in ("app-secret", "access-1", "refresh-1"):
        assert secret not in said


def test_tokens_that_cannot_be_kept_are_told(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()

        def fail(_: object) -> None:
            raise OSError("disk full, could not write access-2")

        rig.access.access._keep_tokens = fail
        rig.venue.invalidate_token()
        await rig.until(lambda: len(rig.rows) == 2, "book again")
        await rig.stop()

    with structlog.testing.capture_logs() as lines:
        run(main)
    told = [line for line in lines if line["event"] == "new tokens could not be kept"]
    assert told[0]["reason"] == "disk full, could not write ***"


def test_random_breaks_while_trading_lose_no_fill(pem: Path) -> None:
    """Connection cut at random moments, some order traffic always on its way: positions agree at the end."""

    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start(msgspec.structs.replace(QUICK, settle_ns=200 * MS))
        rig.market.show("EURUSD", [(110_000, 500)], [(110_002, 500)])
        names = []
        for i in range(60):
            names.append(
                rig.order(1 if i % 3 else -1, 1 + i % 4, 110_002 if i % 3 else 110_000, immediate=True)
            )
            if i % 10 == 5:
                rig.venue.faults.cut_frame = 1 + 7 * i % 90
            if i % 10 == 8:
                for connection in list(rig.venue.connections):
                    connection.abort()
            await asyncio.sleep(0.01)
        ended = {"filled", "rejected", "canceled"}
        await rig.until(lambda: all(rig.statuses(n)[-1] in ended for n in names), "all orders end", 10)
        filled = {n: max(r.filled for r in rig.of(n)) for n in names}
        side = {n: rig.of(n)[0].side for n in names}
        net = sum(filled[n] * side[n] for n in names)
        await rig.until(lambda: bool(rig.venue.connections), "connection")
        await asyncio.sleep(0.2)
        held = await rig.access.positions()
        assert sum(p.qty for p in held) == net
        sent = [o.qty * o.side for o in rig.market.orders]
        assert sum(sent) == net
        await rig.stop()

    run(main)
