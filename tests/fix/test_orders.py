"""Orders out and reports back, for FIX by the book and for cTrader's dialect."""

import time
from pathlib import Path

import msgspec
import pytest

from emp.access.fix.dialect import CTRADER, MOCK, PLAIN, Dialect, dialect
from emp.access.fix.frame import Framer
from emp.access.fix.message import Message
from emp.access.fix.orders import Orders
from emp.access.fix.text import FieldError, Scale, utc_ns
from emp.core.codes import AssetClass, OrderStatus, Reason
from emp.core.contracts import CancelOrder, NewOrder, OrderUpdate, QueryOrder
from emp.core.errors import ConfigError, DataError
from tests.fix.desk import EURUSD
from tests.fix.wire import fields, framed, raw
from tests.kit.instruments import currency_pair
from tests.kit.orders import cancel_order, new_order, replace_order

TS = utc_ns(b"20240605-12:00:00.123456789")


def book(kind: Dialect = PLAIN, account: str = "") -> Orders:
    return Orders({"EURUSD": Scale(EURUSD)}, {"EURUSD": "1"}, kind, account, "ME")


def new(
    cl_ord_id: str = "R-1", side: int = 1, qty: int = 3, px: int = 108_755, immediate: bool = False
) -> NewOrder:
    return new_order(cl_ord_id, side, qty, px, immediate=immediate, ts=TS, reason=Reason.CROSS_EDGE)


def cancel(cl_ord_id: str = "R-2", orig: str = "R-1") -> CancelOrder:
    return cancel_order(cl_ord_id, orig, ts=TS)


def pairs(body: bytes) -> dict[int, str]:
    return dict(fields(body))


def heard(body: str, seq: int = 5, secrets: tuple[bytes, ...] = ()) -> Message:
    framer = Framer()
    [frame] = framer.frames(framed(body.replace("|", f"|34={seq}|49=V|52=20240605-12:00:01|56=ME|", 1)))
    return Message(framer, frame, secrets)


def report(orders: Orders, body: str) -> list[OrderUpdate]:
    return orders.report(heard("35=8|" + body))


def test_new_order_by_the_book() -> None:
    kind, body = book(account="ACC").body(new())
    assert kind == b"D"
    assert pairs(body) == {
        11: "R-1", 1: "ACC", 55: "1", 54: "1", 60: "20240605-12:00:00.123", 38: "3000", 40: "2", 44: "1.08755",
        18: "6", 59: "1",
    }  # fmt: skip
    _, body = book().body(new(side=-1, immediate=True))
    assert (pairs(body)[54], pairs(body)[59], pairs(body).get(18)) == ("2", "3", None)


def test_a_secret_is_hidden_in_what_is_said_and_left_in_names() -> None:
    """A run's id of random letters may contain a short user name: its orders must be known by it all the same."""
    orders = book()
    orders.body(new("MEMP22Z8-1"))
    accepted = "35=8|37=EMP9|17=EMP1|150=0|39=0|11=MEMP22Z8-1|55=1|54=1|38=3000|44=1.08755|151=3000|14=0|6=0|"
    [update] = orders.report(heard(accepted, secrets=(b"EMP",)))
    assert (update.clOrdID, update.execID, update.status) == ("MEMP22Z8-1", "EMP1", OrderStatus.NEW)
    orders.body(cancel("MEMP22Z8-2", "MEMP22Z8-1"))
    refused = "35=9|37=EMP9|11=MEMP22Z8-2|41=MEMP22Z8-1|39=0|434=1|58=EMP may not withdraw|"
    [update] = orders.report(heard(refused, 6, secrets=(b"EMP",)))
    assert (update.clOrdID, update.text) == ("MEMP22Z8-2", "*** may not withdraw")


def test_new_order_in_ctraders_dialect() -> None:
    _, body = book(CTRADER).body(new(immediate=True))
    assert 59 not in pairs(body)
    assert 18 not in pairs(body)
    assert (pairs(body)[40], pairs(body)[44], pairs(body)[55]) == ("2", "1.08755", "1")


def test_cancel_replace_and_query() -> None:
    orders = book()
    orders.body(new(side=-1))
    report(orders, "37=V9|17=e1|150=0|39=0|11=R-1|55=1|54=2|38=3000|44=1.08755|151=3000|14=0|6=0|")
    kind, body = orders.body(cancel())
    assert kind == b"F"
    assert pairs(body) == {
        41: "R-1", 11: "R-2", 37: "V9", 55: "1", 54: "2", 60: "20240605-12:00:00.123", 38: "3000",
    }  # fmt: skip
    swap = replace_order("R-3", "R-1", -1, 2, 108_800, ts=TS)
    kind, body = orders.body(swap)
    assert kind == b"G"
    assert (pairs(body)[41], pairs(body)[38], pairs(body)[44]) == ("R-1", "2000", "1.08800")
    kind, body = orders.body(QueryOrder(cl_ord_id="R-1", instrument="EURUSD", ts=TS))
    assert (kind, pairs(body)) == (b"H", {11: "R-1", 55: "1", 54: "2"})
    ctrader = book(CTRADER)
    ctrader.body(new())
    assert pairs(ctrader.body(cancel())[1]) == {41: "R-1", 11: "R-2"}


def test_fill_reports_become_updates_once() -> None:
    orders = book()
    orders.body(new())
    base = "37=V9|11=R-1|55=1|54=1|38=3000|44=1.08755|"
    [ack] = report(orders, base + "17=e1|150=0|39=0|151=3000|14=0|6=0|60=20240605-12:00:00.5|")
    assert ack == OrderUpdate(
        clOrdID="R-1", execID="e1", status=OrderStatus.NEW, filled=0, price=108_755, side=1, leaves=3,
        ts=utc_ns(b"20240605-12:00:00.5"), instrument="EURUSD",
    )  # fmt: skip
    part = base + "17=e2|150=F|39=1|151=2000|14=1000|6=1.0875|31=1.0875|32=1000|851=1|12=0.05|13=3|"
    [fill] = report(orders, part)
    assert (fill.status, fill.filled, fill.price, fill.leaves, fill.maker) == (
        OrderStatus.PARTIALLY_FILLED, 1, 108_750, 2, True,
    )  # fmt: skip
    assert fill.fee == pytest.approx(0.05 / 0.00001)
    assert report(orders, part) == []
    assert orders.counts["duplicates"] == 1


PART = "37=V9|11=R-1|55=1|54=1|17=e1|150=F|39=1|151=2000|14=1000|6=1.0875|31=1.0875|32=1000|"


@pytest.mark.parametrize(
    "change",
    ["31=1,08", "31=NaN", "38=1e999999", "31=9e9999999", "14=1e3", "14=-1000", "14=1500", "151=x", "32=0x1", "6=1..2",
     "12=free", "44=--1", "14=99999999999999999999", "31=99999999999999999"],
)  # fmt: skip
def test_a_report_with_a_number_that_is_none_is_refused_whole_and_its_successor_taken(change: str) -> None:
    orders = book()
    orders.body(new())
    tag = change.split("=")[0] + "="
    kept = "".join(f"{p}|" for p in PART.split("|")[:-1] if not p.startswith(tag))
    began = time.thread_time()
    with pytest.raises(FieldError):
        report(orders, kept + change + "|")
    assert time.thread_time() - began < 0.5
    [sound] = report(orders, PART)
    assert (sound.filled, sound.price) == (1, 108_750)


@pytest.mark.parametrize("tag", [150, 39, 14, 11])
@pytest.mark.parametrize("how", ["empty", "absent"])
def test_a_report_that_does_not_say_what_happened_is_refused(tag: int, how: str) -> None:
    """Half of it would be a false fact: a fill of no quantity, a bust that is none, an order that nobody sent."""
    orders = book()
    orders.body(new())
    text = PART.replace(f"{tag}=", f"{tag}=|0=", 1) if how == "empty" else PART
    text = "".join(
        f"{p}|"
        for p in text.split("|")[:-1]
        if not p.startswith("0=") and (how == "empty" or not p.startswith(f"{tag}="))
    )
    if (tag, how) == (11, "absent"):  # somebody else's, or so it seems: the engine is told
        assert [u.clOrdID for u in report(orders, text)] == [""]
    else:
        with pytest.raises(FieldError):
            report(orders, text)
    [sound] = report(orders, PART)
    assert (sound.clOrdID, sound.filled) == ("R-1", 1)


@pytest.mark.parametrize(
    ("kind", "cum", "average", "leaves"),
    [("H", 0, "0", 0), ("H", 1000, "1.0875", 2000), ("G", 1000, "1.0870", 2000)],
)
def test_a_trade_cancelled_or_corrected_says_what_stands(
    kind: str, cum: int, average: str, leaves: int
) -> None:
    orders = book()
    orders.body(new())
    report(orders, PART)
    report(orders, PART.replace("14=1000", "14=2000").replace("e1", "e2").replace("151=2000", "151=1000"))
    tail = f"17=e3|19=e2|150={kind}|39=1|151={leaves}|14={cum}|6={average}|"
    [bust] = report(orders, "37=V9|11=R-1|55=1|54=1|" + tail)
    assert (bust.correction, bust.filled, bust.leaves) == (True, cum // 1000, leaves // 1000)
    assert bust.average == pytest.approx(float(average) * 100_000)
    with pytest.raises(FieldError):
        report(orders, "37=V9|11=R-1|55=1|54=1|" + tail.replace("17=e3", "17=e4").replace(f"14={cum}|", ""))


def test_without_exec_id_one_is_derived_and_the_price_follows_from_the_average() -> None:
    orders = book(CTRADER)
    orders.body(new())
    base = "37=101|11=R-1|55=1|54=1|38=3000|40=2|721=77|60=20240605-12:00:00.5|"
    [first] = report(orders, base + "150=0|39=0|14=0|151=3000|")
    [part] = report(orders, base + "150=F|39=1|14=1000|151=2000|32=1000|6=1.0875|")
    [rest] = report(orders, base + "150=F|39=2|14=3000|151=0|32=2000|6=1.0877|")
    assert [u.price for u in (first, part, rest)] == [108_755, 108_750, 108_780]
    assert len({u.execID for u in (first, part, rest)}) == 3
    assert all(len(u.execID) == 25 for u in (first, part, rest))
    again = book(CTRADER)
    again.body(new())
    [same] = report(again, base + "150=0|39=0|14=0|151=3000|")
    assert same.execID == first.execID
    assert report(again, base + "150=0|39=0|14=0|151=3000|") == []


def test_reports_on_a_cancel_are_about_the_order() -> None:
    for named in ("11=R-2|41=R-1|", "11=R-2|", "11=R-1|41=R-1|"):
        orders = book()
        orders.body(new())
        orders.body(cancel())
        tail = "37=V9|55=1|54=1|38=3000|14=1000|6=1.08755|151=0|"
        [pending] = report(orders, named + tail + "17=e5|150=6|39=6|")
        [gone] = report(orders, named + tail + "17=e6|150=4|39=4|")
        assert (pending.clOrdID, pending.status) == ("R-1", OrderStatus.PENDING_CANCEL)
        assert (gone.clOrdID, gone.status, gone.filled) == ("R-1", OrderStatus.CANCELED, 1)


def test_a_refused_cancel_is_rejected_under_its_own_id() -> None:
    orders = book()
    orders.body(new())
    orders.body(cancel())
    refusal = heard("35=9|37=V9|11=R-2|41=R-1|39=2|434=1|102=0|58=too late|")
    [update] = orders.report(refusal)
    assert (update.clOrdID, update.status, update.text) == ("R-2", OrderStatus.REJECTED, "too late")
    assert orders.report(refusal) == []
    assert orders.original("R-2") == "R-1"


@pytest.mark.parametrize("code", ["1", "5"])  # as since FIX 4.3, and as before
def test_a_replaced_order_goes_on_under_the_new_id(code: str) -> None:
    orders = book()
    orders.body(new())
    report(
        orders, "37=V9|17=e1|11=R-1|55=1|54=1|38=3000|150=F|39=1|14=1000|151=2000|6=1.0875|31=1.0875|32=1000|"
    )
    orders.body(replace_order("R-3", "R-1", 1, 4, 108_800, ts=TS))
    [pending] = report(
        orders, "37=V9|17=e1b|11=R-3|41=R-1|55=1|54=1|38=3000|150=E|39=E|14=1000|151=2000|6=1.0875|"
    )
    assert (pending.status, pending.filled) == (OrderStatus.PENDING_REPLACE, 1)
    [fresh] = report(
        orders,
        f"37=V9|17=e2|11=R-3|41=R-1|55=1|54=1|38=4000|44=1.088|150=5|39={code}|14=1000|151=3000|6=1.0875|",
    )
    assert (fresh.clOrdID, fresh.replacement) == ("R-3", "R-3")
    assert (fresh.status, fresh.filled, fresh.leaves) == (OrderStatus.PARTIALLY_FILLED, 1, 3)
    [more] = report(
        orders, "37=V9|17=e3|11=R-3|55=1|54=1|38=4000|150=F|39=1|14=2000|151=2000|6=1.0876|31=1.0877|32=1000|"
    )
    assert (more.filled, more.price) == (2, 108_770)


@pytest.mark.parametrize(
    ("kind", "text", "status"),
    [
        (b"D", "35=j|45=9|372=D|379=R-1|380=0|58=TRADING_BAD_VOLUME|", OrderStatus.REJECTED),
        (b"D", "35=j|45=9|372=D|380=0|58=no id|", OrderStatus.REJECTED),
        (b"D", "35=3|45=9|371=38|372=D|373=5|58=bad|", OrderStatus.REJECTED),
        (b"D", "35=3|45=9|", OrderStatus.REJECTED),
        (b"H", "35=j|45=9|372=H|380=1|58=ORDER_NOT_FOUND|", OrderStatus.REJECTED),
    ],
)
def test_refusals_name_the_order_they_kill(kind: bytes, text: str, status: OrderStatus) -> None:
    orders = book(CTRADER)
    orders.body(new())
    orders.sent(9, kind, "R-1")
    [update] = orders.report(heard(text))
    assert (update.clOrdID, update.status, update.leaves) == ("R-1", status, 0)
    assert orders.report(heard(text)) == []


def test_a_refused_query_about_a_known_order_leaves_it_unknown() -> None:
    orders = book()
    orders.body(new())
    report(orders, "37=V9|17=e1|11=R-1|55=1|54=1|38=3000|150=0|39=0|14=0|151=3000|6=0|")
    orders.sent(9, b"H", "R-1")
    [update] = orders.report(heard("35=j|45=9|372=H|380=1|"))
    assert update.status is OrderStatus.UNKNOWN


def test_a_refusal_of_something_else_is_counted() -> None:
    orders = book()
    assert orders.report(heard("35=j|45=4|372=V|380=3|")) == []
    assert orders.counts["refused"] == 1


def test_status_answers_are_told_apart_by_when_they_were_given() -> None:
    orders = book()
    orders.body(new())
    answer = "37=V9|17=0|11=R-1|55=1|54=1|38=3000|150=I|39=0|14=0|151=3000|6=0|"
    [one] = report(orders, answer)
    assert report(orders, answer) == []
    framer = Framer()
    later = framed("35=8|34=6|49=V|52=20240605-12:00:02|56=ME|" + answer)
    [frame] = framer.frames(later)
    [two] = orders.report(Message(framer, frame))
    assert one.execID != two.execID


def test_orders_of_an_earlier_run_are_understood_from_their_report() -> None:
    orders = book()
    status = heard(
        "35=8|584=q1|911=1|37=V1|17=0|11=OLD-7|55=1|54=2|38=5000|44=1.09|150=I|39=1|14=2000|151=3000|6=1.09|"
    )
    [update] = orders.status_of(status)
    assert (update.clOrdID, update.side, update.filled, update.leaves, update.price) == (
        "OLD-7",
        -1,
        2,
        3,
        109_000,
    )


def test_only_a_venue_without_ioc_needs_the_rest_cancelled() -> None:
    for kind, must in ((CTRADER, True), (PLAIN, False)):
        orders = book(kind)
        orders.body(new(immediate=True))
        [ack] = report(orders, "37=V9|17=e1|11=R-1|55=1|54=1|38=3000|150=0|39=0|14=0|151=3000|6=0|")
        assert orders.must_cancel(ack) is must


@pytest.mark.real_data
def test_published_reports_with_wrong_ends_are_garbled_and_read_once_mended(data_dir: Path) -> None:
    lines = (data_dir / "fix" / "fix44_real_messages_dev.psv").read_text().splitlines()
    published = [raw(line.split("\t")[2]) for line in lines if "ExecutionReport" in line]
    assert len(published) == 2
    orders = book(CTRADER)
    orders.body(msgspec.structs.replace(new("876316397"), qty=10))
    updates = []
    for message in published:
        assert list(Framer().frames(message)) == []
        framer = Framer()
        [frame] = framer.frames(framed("|".join(f"{t}={v}" for t, v in fields(message)[2:-1])))
        updates += orders.report(Message(framer, frame))
    assert [(u.status, u.filled, u.leaves, u.price) for u in updates] == [
        (OrderStatus.NEW, 0, 10, 108_755),
        (OrderStatus.FILLED, 10, 0, 106_740),
    ]


def test_requests_for_status_and_positions() -> None:
    assert pairs(book().bodies.mass_status("q1")) == {584: "q1", 585: "7"}
    assert pairs(book(CTRADER).bodies.positions("q2", TS)) == {710: "q2"}
    plain = pairs(book(account="ACC").bodies.positions("q2", TS))
    assert (plain[724], plain[1], plain[715], plain[448]) == ("0", "ACC", "20240605", "ACC")


@pytest.mark.parametrize(
    ("tick", "lot", "px", "qty"),
    [
        (0.00001, 1000.0, b"1.08755", b"3000"),
        (0.00005, 1.0, b"5.43775", b"3"),
        (0.25, 0.1, b"27188.75", b"0.3"),
        (5.0, 1e-8, b"543775", b"0.00000003"),
        (0.001, 0.00001, b"108.755", b"0.00003"),
    ],
)
def test_scales_read_back_what_they_write(tick: float, lot: float, px: bytes, qty: bytes) -> None:
    scale = Scale(currency_pair("X", tick, lot))
    assert (scale.px(108_755), scale.qty(3)) == (px, qty)
    assert (scale.ticks(px), scale.lots(qty)) == (108_755, 3)
    assert scale.ticks(None) == scale.lots(None) == scale.average(None) == 0
    assert scale.px(-7).startswith(b"-")
    orders = Orders({"X": scale}, {"X": "1"}, PLAIN, "", "ME")
    for price, text in ((108_755, px), (-7, scale.px(-7))):
        order = new_order("R-1", 1, 3, price, instrument="X", ts=TS)
        body = pairs(orders.body(order)[1])
        assert (body[44].encode(), body[38].encode()) == (text, qty)


@pytest.mark.parametrize(
    "text",
    [b"", b"nonsense", b"1,08", b"NaN", b"-Infinity", b"1e999999", b"9e9999999", b"1e2", b"+1", b" 1", b"1 ", b"1.2.3",
     b".", b"-", b"--1", b"0x10", b"1_000", "\u0661".encode(), b"9" * 19, b"1." + b"1" * 31, b"9" * 18, b"\xff"],
)  # fmt: skip
def test_what_is_no_number_is_refused_and_costs_no_time(text: bytes) -> None:
    scale = Scale(currency_pair("X", 1e-05, 1e-05))
    began = time.thread_time()
    for read in (scale.ticks, scale.lots, scale.average):
        with pytest.raises(FieldError):
            read(text)
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize(("text", "ticks"), [(b"1.", 1), (b".5", 0), (b"-3", -3), (b"007", 7), (b"-0.0", 0)])
def test_digits_and_one_point_are_a_number(text: bytes, ticks: int) -> None:
    assert Scale(currency_pair("X", 1.0, 1.0)).ticks(text) == ticks


@pytest.mark.parametrize(
    "text",
    [b"20240605-12:00:00.", b"20240605-12:00:00.+1", b"20240605-12:00:00. 1", b"20240605-12:00:00.1_0",
     b"2024 605-12:00:00", b"20241305-12:00:00", b"20240605-12:00:00Z", b"20240605-12:00:00." + b"1" * 13],
)  # fmt: skip
def test_what_is_no_time_is_none(text: bytes) -> None:
    assert utc_ns(text) == -1
    assert utc_ns(b"20240605-12:00:00.123456789012") % 1_000_000_000 == 123_456_789


def test_scales_that_fix_cannot_write_are_refused() -> None:
    with pytest.raises(DataError, match="at most 9 decimals"):
        Scale(currency_pair("X", 1e-11, 1.0))


def test_unknown_dialect_is_refused() -> None:
    assert dialect(" cTrader ") is CTRADER
    assert dialect("mock") is MOCK
    with pytest.raises(ConfigError, match="known: ctrader, fix44, lmax, mock"):
        dialect("fix50")


@pytest.mark.parametrize("field", ["31=-1", "31=-1.0875", "31=0", "6=-1.0875", "44=-0.5"])
def test_a_price_that_cannot_be_is_refused(field: str) -> None:
    orders = book()
    orders.body(new())
    base = f"37=V|11=R-1|55=1|54=1|17=e1|150=F|39=1|32=1000|14=1000|151=2000|{field}|"
    others = "".join(f"{tag}=1.0875|" for tag in (31, 6, 44) if not field.startswith(f"{tag}="))
    with pytest.raises(FieldError, match="cannot be"):
        report(orders, base + others)
    assert orders.net == {"EURUSD": 0}
    spread = msgspec.structs.replace(EURUSD, asset_class=AssetClass.FX_FUT)
    orders = Orders({"EURUSD": Scale(spread)}, {"EURUSD": "1"}, PLAIN, "", "ME")
    orders.body(new())
    assert report(orders, base + others)[0].filled == 1


def test_an_average_of_zero_of_what_has_filled_is_none() -> None:
    orders = book()
    orders.body(new())
    base = "37=V|11=R-1|55=1|54=1|150=F|39=1|6=0|"
    [first] = report(orders, base + "17=e1|32=1000|31=1.0875|14=1000|151=2000|")
    [second] = report(orders, base + "17=e2|32=1000|31=1.0879|14=2000|151=1000|")
    assert (first.price, second.price) == (108_750, 108_790)
    assert orders._known["R-1"].average == 108_770.0
