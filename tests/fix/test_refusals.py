"""What is refused, on either side, reaches whoever must know: books, orders, the engine, the user."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from emp.access.fix.client import FixAccess, FixSettings
from emp.core.codes import OrderStatus
from emp.core.errors import VenueError
from tests.fix.desk import EURUSD
from tests.fix.scripted import FAST, ScriptedVenue, connected
from tests.fix.test_quickfix import order, until
from tests.kit.listener import Listener
from tests.kit.orders import cleared

ACK = "37=V1|17=e1|150=0|39=0|55=EURUSD|54=1|38=3000|14=0|151=3000|6=0|"


@pytest.mark.parametrize(
    "refusal",
    [
        "j 372=V|380=0|58=no entitlement for EURUSD|",
        "j 45={seq}|380=0|58=no entitlement for EURUSD|",
        "3 45={seq}|373=5|58=no entitlement for EURUSD|",
        "3 45={seq}|372=V|58=no entitlement for EURUSD|",
        "Y 262={ask}|281=1|58=no entitlement for EURUSD|",
        "Y 262=what-the-venue-calls-it|281=1|58=no entitlement for EURUSD|",
    ],
)
def test_a_refused_market_data_request_ends_in_one_line(refusal: str) -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            await until(lambda: venue.count("V") == 1)
            asked = next(m for m in venue.heard if m[35] == "V")
            kind, _, body = refusal.format(seq=asked[34], ask=asked[262]).partition(" ")
            venue.say(kind, body)
            await until(lambda: access.over)
            assert isinstance(access.error, VenueError)
            assert "no entitlement for EURUSD" in str(access.error)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        ("Y 281=0|", "unknown symbol (281=0)"),
        ("j 45={seq}|372=V|380=6|", "not authorised (380=6)"),
        ("3 45={seq}|373=5|371=55|", "a value that is incorrect (373=5, field 55)"),
        ("3 45={seq}|373=99|", "no standard reason (373=99)"),
        ("3 45={seq}|", "no reason given"),
    ],
)
def test_a_refusal_without_words_is_told_in_those_of_its_code(refusal: str, why: str) -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            await until(lambda: venue.count("V") == 1)
            seq = next(m[34] for m in venue.heard if m[35] == "V")
            kind, _, body = refusal.format(seq=seq).partition(" ")
            venue.say(kind, body)
            await until(lambda: access.over)
            assert str(access.error).endswith(f": {why}")

    asyncio.run(run())


@pytest.mark.parametrize("refused", [1, 2], ids=["recovers", "not for ever"])
def test_a_start_at_a_peer_whose_numbers_are_lost_begins_anew_once(tmp_path: Path, refused: int) -> None:
    async def run() -> None:
        venue = ScriptedVenue()
        settings = FixSettings(
            host="127.0.0.1", port=await venue.start(), sender="ME", target="VENUE", tls=False, timeout_s=2.0,
            dialect=msgspec.structs.replace(FAST, reset_on_logon=False), store=tmp_path, reset_on_loss=True,
        )  # fmt: skip
        first = Listener(FixAccess(settings))
        await first.connect([EURUSD])
        await first.close()
        venue.heard.clear()
        left = refused

        def count(_: object) -> None:
            nonlocal left
            left -= 1
            venue.refuse = "MsgSeqNum too low, expecting 900 but received 1" if left > 0 else ""

        venue.on["A"] = count
        venue.refuse = "MsgSeqNum too low, expecting 900 but received 1"
        second = Listener(FixAccess(settings))
        if refused == 1:
            await second.connect([EURUSD])
            venue.book()
            await until(lambda: second.access.market.whole)
        else:
            with pytest.raises(VenueError, match="although it was asked to reset"):
                await second.connect([EURUSD])
        await second.close()
        await venue.close()
        logons = [(m[34], m.get(141)) for m in venue.heard if m[35] == "A"]
        assert [reset for _, reset in logons] == [None, "Y"]
        assert logons[1][0] == "1"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("AP 728=99|727=0|58=no entitlement for positions|", "no entitlement for positions"),
        ("AP 728=1|727=0|", "invalid or unsupported request"),
        ("AO 728=3|729=2|727=0|", "not authorised to ask for positions"),
        ("AO 729=2|727=0|58=try later|", "try later"),
        ("AO 728=2|729=2|727=0|", ""),
        ("AP 728=2|727=0|", ""),
    ],
)
def test_positions_that_are_not_told_are_not_flat(answer: str, why: str) -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            kind, _, body = answer.partition(" ")
            venue.on["AN"] = lambda asked: venue.say(kind, f"721=p|710={asked[710]}|{body}")
            if not why:
                assert await access.positions() == []
                return
            with pytest.raises(VenueError, match=why):
                await access.positions()

    asyncio.run(run())


def test_a_refused_incremental_invalidates_the_book_and_asks_once() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            await until(lambda: venue.count("V") == 1)
            venue.book()
            await until(lambda: access.access.market.whole)
            venue.say("X", "268=1|279=1|278=b|55=EURUSD|271=9000|", stamp="20240605")
            await until(lambda: venue.count("V") == 3)
            assert not access.access.market.whole
            assert venue.count("3") == 1
            venue.book()
            await until(lambda: access.access.market.whole)
            assert venue.count("V") == 3

    asyncio.run(run())


@pytest.mark.parametrize("flaw", ["31=1,08|", "31=NaN|", "38=1e999999|", "14=1500|"])
def test_a_refused_report_is_no_lost_fill(flaw: str) -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            access.send(cleared(order(1, 1, 3, 108_755, False)))
            await until(lambda: venue.count("D") == 1)
            name = next(m[11] for m in venue.heard if m[35] == "D")
            venue.say("8", ACK + f"11={name}|")
            await until(lambda: len(access.reports) == 1)
            tag = flaw.partition("=")[0]
            fill = "37=V1|17=e2|150=F|39=2|55=EURUSD|54=1|32=3000|151=0|6=1.0875|" + f"11={name}|"
            sound = {"31": "31=1.0875|", "38": "38=3000|", "14": "14=3000|"}
            venue.say("8", fill + "".join(flaw if t == tag else text for t, text in sound.items()))
            await until(lambda: venue.count("AF") == 1)
            assert venue.count("3") == 1
            assert len(access.reports) == 1
            request = next(m[584] for m in venue.heard if m[35] == "AF")
            state = fill.replace("17=e2|150=F", "17=0|150=I") + "14=3000|38=3000|31=1.0875|"
            venue.say("8", state + f"584={request}|911=1|")
            await until(lambda: len(access.reports) == 2)
            assert (access.reports[1].status, access.reports[1].filled) == (OrderStatus.FILLED, 3)
            assert access.reports[1].price == 108_750

    asyncio.run(run())


def test_a_book_that_cannot_be_applied_asks_at_a_pace() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            venue.on["V"] = lambda m: venue.book() if m[263] == "1" else None
            await until(lambda: venue.count("V") == 1)
            began = asyncio.get_running_loop().time()
            for _ in range(300):
                venue.say("X", "268=1|279=1|269=0|278=never|55=EURUSD|270=1.08|271=9000|")
                await asyncio.sleep(0.01)
            took = asyncio.get_running_loop().time() - began
            times = sum(
                0.5 * (2**k - 1) <= took for k in range(9)
            )  # at once, after half a second, one more, two
            assert venue.count("V") <= 1 + 2 * times
            assert venue.count("V") >= 5
            await until(lambda: access.access.market.whole, 10)

    asyncio.run(run())


def test_a_gap_is_one_conversation_about_books_and_one_about_orders() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            venue.on["V"] = lambda m: venue.book() if m[263] == "1" else None
            venue.on["AF"] = lambda m: venue.say("j", f"372=AF|379={m[584]}|380=0|58=none|")
            venue.on["H"] = lambda m: venue.say("8", ACK.replace("150=0", "150=I") + f"11={m[11]}|")
            access.send(cleared(order(1, 1, 3, 108_755, False)))
            await until(lambda: venue.count("D") == 1)
            venue.seq += 5  # five messages are lost
            first = venue.seq - 5

            def resend(message: dict[int, str]) -> None:
                dup = "43=Y|122=20240605-11:59:59|"
                name = next(m[11] for m in venue.heard if m[35] == "D")
                for seq in range(first, first + 5):
                    if seq % 2:
                        venue.say("4", f"123=Y|36={seq + 1}|", seq=seq, extra=dup)
                    else:
                        venue.say("8", ACK.replace("17=e1", f"17=r{seq}") + f"11={name}|", seq=seq, extra=dup)

            venue.on["2"] = resend
            for _ in range(200):
                venue.say("0")
                await asyncio.sleep(0.005)
            assert venue.count("2") == 1
            assert venue.count("V") <= 5
            assert venue.count("AF") <= 3
            assert venue.count("H") <= 3
            await until(lambda: access.access.market.whole)

    asyncio.run(run())


def test_losses_in_a_row_are_asked_about_at_a_pace() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            venue.on["V"] = lambda m: venue.book() if m[263] == "1" else None
            venue.on["AF"] = lambda m: venue.say("j", f"372=AF|379={m[584]}|380=0|58=none|")
            access.send(cleared(order(1, 1, 3, 108_755, False)))
            await until(lambda: venue.count("D") == 1)
            for _ in range(100):
                venue.seq += 2
                venue.say("4", f"123=Y|36={venue.seq}|", seq=venue.seq - 2)
                await asyncio.sleep(0.01)
            assert 2 <= venue.count("AF") <= 3
            assert venue.count("V") <= 1 + 2 * 3

    asyncio.run(run())


def test_an_order_to_a_venue_that_does_not_read_is_dead_in_a_quarter_of_a_second() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            await until(lambda: venue.count("V") == 1)
            venue.pause()
            link = access.access.links[0]
            for _ in range(400):
                link.session.send(b"0", b"58=" + b"x" * 30_000 + b"\x01")
            link.flush()
            assert not link.reading
            access.send(cleared(order(1, 1, 3, 108_755, True)))
            began = asyncio.get_running_loop().time()
            await until(lambda: bool(access.reports))
            assert asyncio.get_running_loop().time() - began < 0.5
            [update] = access.reports
            assert update.status is OrderStatus.REJECTED
            assert "has read nothing for 0.25 s" in update.text

    asyncio.run(run())


def test_a_logon_refused_for_good_ends_the_run_in_the_venues_words() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            venue.refuse = "Invalid password s3cret"
            venue.cut()
            await until(lambda: access.over)
            assert str(access.error).endswith("the peer refused the logon: Invalid password ***")
            states = [(s.channel, s.up) for s in access.link_states]
            assert states[:2] == [("market", True), ("trade", True)]
            assert set(states[-2:]) == {("market", False), ("trade", False)}

    asyncio.run(run())


def test_a_cancelled_trade_reaches_the_receiver_as_a_correction() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            access.send(cleared(order(1, 1, 3, 108_755, False)))
            await until(lambda: venue.count("D") == 1)
            name = next(m[11] for m in venue.heard if m[35] == "D")
            filled = "17=e2|150=F|39=1|14=2000|151=1000|6=1.0875|31=1.0875|32=2000|"
            venue.say("8", f"37=V1|55=EURUSD|54=1|38=3000|11={name}|" + filled)
            venue.say(
                "8", f"37=V1|17=e3|19=e2|150=H|39=0|55=EURUSD|54=1|38=3000|14=0|151=3000|6=0|11={name}|"
            )
            await until(lambda: len(access.reports) == 2)
            assert [(u.filled, u.correction) for u in access.reports] == [(2, False), (0, True)]

    asyncio.run(run())


def told(venue: ScriptedVenue, kind: str) -> list[dict[int, str]]:
    return [m for m in venue.heard if m[35] == kind]


def test_a_connection_of_every_kind_of_end_says_why() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            venue.say("5", "58=end of day|")
            await until(lambda: venue.logons == 2)
            down = [s for s in access.link_states if not s.up]
            assert {s.reason for s in down} == {"the peer logged out: end of day"}
            assert {s.attempt for s in down} == {1}
            assert told(venue, "5")

    asyncio.run(run())


def test_a_refusal_after_the_numbers_began_anew_is_of_the_message_that_has_its_number_now() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            await until(lambda: venue.count("V") == 1)
            venue.book()
            await until(lambda: access.access.market.whole)
            venue.say("X", "268=1|279=1|278=nothing|55=EURUSD|271=9000|")
            await until(lambda: venue.count("V") == 3)
            asked = {m[34] for m in venue.heard if m[35] == "V"}
            venue.begin_anew()
            await until(lambda: venue.count("A") == 2)
            access.send(cleared(order(1, 1, 3, 108_755, False)))
            await until(lambda: venue.count("D") == 1)
            number = next(m[34] for m in venue.heard if m[35] == "D")
            assert number in asked, "the numbers do not meet: the test shows nothing"
            venue.say("3", f"45={number}|58=no such side|")
            await until(lambda: len(access.reports) == 1)
            assert access.reports[0].status is OrderStatus.REJECTED
            assert access.error is None

    asyncio.run(run())


@pytest.mark.parametrize(
    "refusal",
    [
        "Y 262=emp17f0aa-1|281=1|58=of another start|",
        "Y 262={before}|281=1|58=of the session before|",
        "j 45={old}|372=V|380=0|58=sent again|",
        "3 45={old}|372=V|373=5|58=sent again|",
    ],
)
def test_the_refusal_of_an_earlier_request_is_not_that_of_ours(refusal: str) -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            await until(lambda: venue.count("V") == 1)
            before = next(m for m in venue.heard if m[35] == "V")[262]
            venue.cut()
            await until(lambda: venue.count("V") == 2)
            kind, _, body = refusal.format(before=before, old=1_000).partition(" ")
            again = "" if kind == "Y" else "43=Y|122=20200101-00:00:00.000|"
            venue.say(kind, body, extra=again)
            venue.book()
            await until(lambda: access.access.market.whole)
            assert not access.over

    asyncio.run(run())
