"""`emp reconcile`: a statement that agrees says so; every difference that is planted is named, with its worth."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from emp.app.cli import main
from emp.core.codes import OrderStatus
from emp.core.contracts import Control, OrderUpdate
from emp.core.instrument import catalogue
from emp.engine.financing import FINANCING_NOTE
from emp.engine.reconciliation.valuation import ADJUSTMENT, VALUED
from emp.journal.ledger import Ledger
from emp.journal.records import Note
from emp.journal.run import RunFolder, build_manifest
from tests.kit.orders import new_order, replace_order

SECOND = 1_000_000_000
START = int(datetime(2024, 3, 6, 9, tzinfo=UTC).timestamp()) * SECOND
EURUSD = catalogue()["EURUSD"]
TICK_WORTH = EURUSD.tick * EURUSD.point_value  # dollars
FEE = 50.0  # ticks a lot
DAY = [  # (seconds, side, lots, ticks), flat at the end
    (10, 1, 2, 108_500),
    (95, -1, 1, 108_520),
    (180, -1, 1, 108_490),
    (400, -1, 3, 108_450),
    (800, 1, 3, 108_470),
]
Cells = dict[str, object]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of EURUSD with the fills of DAY."""
    return made(tmp_path / "live-EURUSD-AAAAAAAA", lambda _: None)


def made(path: Path, more: Callable[[Ledger], None]) -> Path:
    manifest = build_manifest(
        run="AAAAAAAA",
        mode="live",
        config={"account": {"currency": "USD"}},
        instruments=["EURUSD"],
        model_hashes=[],
        facts=[msgspec.to_builtins(EURUSD)],
    )
    RunFolder.create(path, manifest)
    ledger = Ledger(path / "ledger.sqlite", run="AAAAAAAA", mode="live")
    for n, (at, side, qty, px) in enumerate(DAY, 1):
        filled(ledger, n, START + at * SECOND, side, qty, px)
    more(ledger)
    ledger.seal()
    ledger.close()
    return path


def filled(ledger: Ledger, n: int, ts: int, side: int, qty: int, px: int) -> None:
    ledger.record_intent(new_order(f"AAAA-{n}", side, qty, px, ts=ts, seq=n))
    ledger.record_report(report(n, ts, qty, px))


def report(n: int, ts: int, filled: int, px: int, **more: Any) -> OrderUpdate:
    told = {
        "status": OrderStatus.FILLED,
        "fee": FEE * filled,
        "instrument": "EURUSD",
        "execID": f"E{n}",
    } | more
    return OrderUpdate(clOrdID=f"AAAA-{n}", filled=filled, price=px, ts=ts, **told)


def rows(zone: ZoneInfo | None = None) -> list[Cells]:
    """DAY as a broker tells it: net positions, profit by average price."""
    found: list[Cells] = []
    for n, (at, side, qty, px) in enumerate(DAY, 1):
        when = datetime(2024, 3, 6, 9, tzinfo=UTC) + timedelta(seconds=at)
        when = when.astimezone(zone) if zone else when
        found.append(
            {
                "time": when.strftime("%Y-%m-%d %H:%M:%S"),
                "id": f"E{n}",
                "client order id": f"AAAA-{n}",
                "symbol": "EURUSD",
                "side": "buy" if side > 0 else "sell",
                "quantity": f"{qty * EURUSD.lot:g}",
                "price": f"{px * EURUSD.tick:.5f}",
                "fee": f"{-FEE * qty * TICK_WORTH:.4f}",
                "profit": f"{PROFITS[n - 1] * TICK_WORTH:.4f}",
            }
        )
    return found


PROFITS = [0, 20, -10, 0, -60]  # ticks times lots


def written(path: Path, told: Sequence[Cells], delimiter: str = ",") -> Path:
    text = io.StringIO()
    table = csv.DictWriter(text, list(told[0]), delimiter=delimiter, lineterminator="\n")
    table.writeheader()
    table.writerows(told)
    path.write_text(text.getvalue())
    return path


def reconcile(capsys: pytest.CaptureFixture[str], statement: Path, run: Path, *words: str) -> tuple[int, Any]:
    with pytest.raises(SystemExit) as ended:
        main(["reconcile", str(statement), str(run), "--json", *words])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), json.loads(out.splitlines()[-1]) if out else err


def kinds(said: Any) -> list[str]:
    return [one["kind"] for one in said["differences"]]


def test_a_statement_that_agrees(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path) -> None:
    code, said = reconcile(capsys, written(tmp_path / "s.csv", rows()), run)
    assert (code, said["differences"]) == (0, [])
    assert said["mapping"] == "fills"
    assert said["fills"]["matched"] == said["fills"]["statement"] == len(DAY)
    sums = {one["what"]: one for one in said["totals"]}
    assert sums["profit"]["ours"] == pytest.approx(-50 * TICK_WORTH)
    assert sums["fees"]["ours"] == pytest.approx(-10 * FEE * TICK_WORTH)
    assert sums["profit"]["theirs"] == pytest.approx(sums["profit"]["ours"])


@pytest.mark.parametrize(
    ("change", "kind", "money"),
    [
        ({"price": f"{(108_520 - 3) * EURUSD.tick:.5f}"}, "price", -3 * TICK_WORTH),
        ({"fee": f"{-0.30 - FEE * TICK_WORTH:.4f}"}, "fee", -0.30),
        ({"quantity": f"{2 * EURUSD.lot:g}"}, "quantity", None),
    ],
)
def test_what_differs_is_named_with_its_worth(
    capsys: pytest.CaptureFixture[str],
    run: Path,
    tmp_path: Path,
    change: Cells,
    kind: str,
    money: float | None,
) -> None:
    told = rows()
    told[1] |= change
    code, said = reconcile(capsys, written(tmp_path / "s.csv", told), run)
    found = [one for one in said["differences"] if one["kind"] == kind]
    assert code == 1
    assert [(one["line"], one["instrument"], one["seq"]) for one in found] == [(3, "EURUSD", 4)]
    assert found[0]["money"] == (None if money is None else pytest.approx(money))


def test_a_fill_that_one_of_them_lacks(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path) -> None:
    told = rows()
    extra = told[0] | {"id": "E9", "client order id": "", "time": "2024-03-06 11:00:00"}
    _, said = reconcile(capsys, written(tmp_path / "more.csv", [*told, extra]), run)
    assert kinds(said) == ["not_in_ledger", "fees_total"]
    _, said = reconcile(capsys, written(tmp_path / "less.csv", told[:-1]), run)
    assert kinds(said) == ["not_in_statement", "fees_total", "profit_total"]
    assert [one["seq"] for one in said["differences"] if one["kind"] == "not_in_statement"] == [10]


def test_swap_is_held_against_what_rolls_brought(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def rolled(ledger: Ledger) -> None:
        at = START + 1000 * SECOND
        ledger.record_note(
            Note(kind=FINANCING_NOTE, ts=at, instrument="EURUSD", data={"lots": 1, "received": -14.0})
        )

    run = made(tmp_path / "live-EURUSD-AAAAAAAA", rolled)
    told = [one | {"swap": ""} for one in rows()]
    told[-1]["swap"] = f"{-14.0 * TICK_WORTH:.4f}"
    code, said = reconcile(capsys, written(tmp_path / "s.csv", told), run)
    assert (code, kinds(said)) == (0, [])
    told[-1]["swap"] = f"{-14.0 * TICK_WORTH - 1:.4f}"
    code, said = reconcile(capsys, written(tmp_path / "s.csv", told), run)
    assert (code, kinds(said)) == (1, ["swap_total"])
    assert said["differences"][0]["money"] == pytest.approx(-1.0)


def test_a_balance_that_does_not_follow(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    balance, told = 1000.0, []
    for one in rows():
        balance += float(str(one["fee"])) + float(str(one["profit"]))
        told.append(one | {"balance": f"{balance:.4f}"})
    code, said = reconcile(capsys, written(tmp_path / "s.csv", told), run)
    assert (code, kinds(said)) == (0, [])
    code, said = reconcile(capsys, written(tmp_path / "back.csv", told[::-1]), run)
    assert (code, kinds(said)) == (0, [])
    told[3]["balance"] = f"{float(str(told[3]['balance'])) - 5:.4f}"
    _, said = reconcile(capsys, written(tmp_path / "s.csv", told), run)
    assert [(one["kind"], one["line"], round(one["money"], 2)) for one in said["differences"]] == [
        ("balance", 5, -5.0),
        ("balance", 6, 5.0),
    ]


def test_the_clock_of_athens(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path) -> None:
    """A broker's server two hours ahead: its rows are found, the clock is named, and --zone puts it right."""
    path = written(
        tmp_path / "s.csv",
        [one | {"id": "", "client order id": ""} for one in rows(ZoneInfo("Europe/Athens"))],
    )
    code, said = reconcile(capsys, path, run)
    assert (code, kinds(said), said["clock_shift_s"]) == (1, ["clock"], 7200.0)
    assert said["fills"]["matched"] == len(DAY)
    code, said = reconcile(capsys, path, run, "--zone", "Europe/Athens")
    assert (code, kinds(said)) == (0, [])


def test_deals_of_metatrader(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path) -> None:
    told = [
        {
            "Time": "2024.03.01 00:00:00", "Deal": "1", "Symbol": "", "Type": "balance", "Direction": "", "Volume": "",
            "Price": "", "Order": "", "Commission": "0.00", "Fee": "", "Swap": "0.00", "Profit": "10 000.00",
            "Balance": "10 000.00", "Comment": "Deposit",
        }
    ]  # fmt: skip
    balance = 10_000.0
    for n, one in enumerate(rows(), 2):
        fee, profit = float(str(one["fee"])), float(str(one["profit"]))
        balance += fee + profit
        told.append(
            {
                "Time": str(one["time"]).replace("-", "."), "Deal": str(n), "Symbol": "EURUSD.r",
                "Type": str(one["side"]),
                "Direction": "in", "Volume": f"{float(str(one['quantity'])) / 100_000:.2f}", "Price": str(one["price"]),
                "Order": str(n), "Commission": f"{fee:.4f}", "Fee": "0.00", "Swap": "0.00", "Profit": f"{profit:.4f}",
                "Balance": f"{balance:,.4f}".replace(",", " "), "Comment": str(one["client order id"]),
            }
        )  # fmt: skip
    path = written(tmp_path / "deals.csv", told, ";")
    path.write_text(
        "Trade History Report;;;;;\nName:;;;A. Person;;\n\n" + path.read_text(), encoding="utf-16"
    )
    code, said = reconcile(capsys, path, run)
    assert (code, said["mapping"], kinds(said)) == (0, "mt5-deals", [])
    assert said["fills"]["matched"] == len(DAY)


def test_trades_of_a_flex_query(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path) -> None:
    told: list[Cells] = [
        {
            "CurrencyPrimary": "USD",
            "Symbol": "EUR.USD",
            "TradeID": n,
            "DateTime": (datetime(2024, 3, 6, 9, tzinfo=UTC) + timedelta(seconds=DAY[n][0]))
            .astimezone(ZoneInfo("America/New_York"))
            .strftime("%Y%m%d;%H%M%S"),
            "Buy/Sell": str(one["side"]).upper(),
            "Quantity": one["quantity"] if one["side"] == "buy" else f"-{one['quantity']}",
            "TradePrice": one["price"],
            "IBCommission": one["fee"],
        }
        for n, one in enumerate(rows())
    ]
    code, said = reconcile(capsys, written(tmp_path / "flex.csv", told), run, "--symbol", "EUR.USD=EURUSD")
    assert (code, said["mapping"], kinds(said)) == (0, "ibkr-flex-trades", [])
    assert said["fills"]["matched"] == len(DAY)


def test_closed_positions_are_two_fills_each(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    def closed(name: str, opened: int, ended: int, lots: int) -> Cells:
        a, b = DAY[opened], DAY[ended]
        start = datetime(2024, 3, 6, 9, tzinfo=UTC)
        return {
            "ID": name,
            "Symbol": "EURUSD",
            "Opening direction": "Buy" if a[1] > 0 else "Sell",
            "Opening time": f"{start + timedelta(seconds=a[0]):%d/%m/%Y %H:%M:%S}",
            "Closing time": f"{start + timedelta(seconds=b[0]):%d/%m/%Y %H:%M:%S}",
            "Entry price": f"{a[3] * EURUSD.tick:.5f}",
            "Closing price": f"{b[3] * EURUSD.tick:.5f}",
            "Closing Quantity": f"{lots * EURUSD.lot:,.0f}",
            "Commission": f"{-2 * FEE * lots * TICK_WORTH:.4f}",
        }

    told = [closed("7", 0, 1, 1), closed("7", 0, 2, 1), closed("8", 3, 4, 3)]
    path = written(tmp_path / "history.csv", told, ";")
    code, said = reconcile(capsys, path, run)
    assert code == 3  # 06/03 may be June
    assert "day or the month" in said
    own = tmp_path / "own.yaml"
    own.write_text(
        "name: mine\ntime: {column: closing time, order: dmy}\nopened: {time: opening time, price: entry price}\n"
        "id: id\nsymbol: symbol\nside: opening direction\nquantity: closing quantity\nprice: closing price\n"
        "fees: [commission]\n"
    )
    code, said = reconcile(capsys, path, run, "--mapping", str(own))
    assert (code, kinds(said)) == (0, [])
    assert said["fills"] == said["fills"] | {"statement": len(DAY), "matched": len(DAY)}
    assert {one["what"]: one["theirs"] for one in said["totals"]}["fees"] == pytest.approx(
        -10 * FEE * TICK_WORTH
    )


def test_rows_that_cannot_be_read_are_kept_apart(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    told = rows()
    bad = [
        told[0] | change
        for change in ({"price": "?"}, {"time": "soon"}, {"side": "both"}, {"quantity": "0"}, {})
    ]
    code, said = reconcile(capsys, written(tmp_path / "s.csv", [*told, *bad]), run)
    assert code == 1
    assert said["quarantined"] == {"price": 1, "time": 1, "side": 1, "quantity": 1, "told_twice": 1}
    assert said["rows"] == said["fills"]["statement"] + sum(said["quarantined"].values())
    assert kinds(said) == []


def test_a_replacement_and_a_bust(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What a venue took back is no fill of ours any more; an order keeps its story over a replacement."""

    def busted(ledger: Ledger) -> None:
        at = START + 1000 * SECOND
        ledger.record_intent(new_order("AAAA-6", 1, 4, 108_400, ts=at))
        ledger.record_report(report(6, at, 2, 108_400, status=OrderStatus.PARTIALLY_FILLED))
        ledger.record_intent(replace_order("AAAA-7", "AAAA-6", 1, 4, 108_401, ts=at))
        ledger.record_report(
            report(7, at, 2, 108_400, status=OrderStatus.PARTIALLY_FILLED, replacement="AAAA-7", fee=0.0)
        )
        ledger.record_report(report(7, at + SECOND, 4, 108_401, execID="E8", fee=2 * FEE))
        bust = report(
            7, at + 2 * SECOND, 3, 108_401, execID="E9", correction=True, average=108_400.0, fee=0.0
        )
        ledger.record_report(bust)

    run = made(tmp_path / "live-EURUSD-AAAAAAAA", busted)
    stands = rows()[0] | {
        "time": "2024-03-06 09:16:40",
        "id": "",
        "client order id": "",
        "quantity": f"{3 * EURUSD.lot:g}",
        "price": f"{108_400 * EURUSD.tick:.5f}",
        "fee": f"{-4 * FEE * TICK_WORTH:.4f}",
    }
    _, said = reconcile(capsys, written(tmp_path / "s.csv", [*rows(), stands]), run)
    assert kinds(said) == []


def test_an_adjustment_explains_a_fill_of_somebody_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def adjusted(ledger: Ledger) -> None:
        at = START + 1000 * SECOND
        data: dict[str, Any] = {"qty": -1, "average": 0.0, "reason": "closed by hand"}
        ledger.record_note(Note(kind=ADJUSTMENT, ts=at, instrument="EURUSD", data=data))
        ledger.record_note(
            Note(kind=VALUED, ts=at + SECOND, instrument="EURUSD", data={"qty": -1, "px": 108_455.5})
        )

    run = made(tmp_path / "live-EURUSD-AAAAAAAA", adjusted)
    by_hand = rows()[1] | {
        "time": "2024-03-06 09:16:30",
        "id": "E99",
        "client order id": "",
        "price": f"{108_455 * EURUSD.tick:.5f}",
    }
    _, said = reconcile(capsys, written(tmp_path / "s.csv", [*rows(), by_hand]), run)
    assert said["fills"]["adjustments"] == 1
    assert "not_in_ledger" not in kinds(said)
    assert [one["money"] for one in said["differences"] if one["kind"] == "price"] == [
        pytest.approx(-0.5 * TICK_WORTH)
    ]


def test_lots_that_nobody_priced_make_no_profit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def adjusted(ledger: Ledger) -> None:
        for k, qty in enumerate((1, -1)):
            at = START + (1000 + k) * SECOND
            ledger.record_note(
                Note(kind=ADJUSTMENT, ts=at, instrument="EURUSD", data={"qty": qty, "average": 0.0})
            )

    run = made(tmp_path / "live-EURUSD-AAAAAAAA", adjusted)
    _, said = reconcile(capsys, written(tmp_path / "s.csv", rows()), run)
    assert kinds(said) == ["not_in_statement", "not_in_statement"]
    profit = next(one for one in said["totals"] if one["what"] == "profit")
    assert (profit["ours"], profit["why"][:16]) == (None, "an adjustment of")


def test_money_of_another_currency_is_converted_or_left_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path
) -> None:
    euros = [one | {"fee": f"{float(str(one['fee'])) / 1.085:.4f}", "profit": ""} for one in rows()]
    path = written(tmp_path / "s.csv", euros)
    code, said = reconcile(capsys, path, run, "--currency", "EUR")
    fees = next(one for one in said["totals"] if one["what"] == "fees")
    assert (code, kinds(said)) == (0, [])  # the price itself converts
    assert fees["ours"] == pytest.approx(-10 * FEE * TICK_WORTH / 1.085, rel=1e-3)
    in_euros = [
        one | {"currency": "EUR"} for one in euros
    ]  # the account's is the dollar, the rows say otherwise
    code, said = reconcile(capsys, written(tmp_path / "rows.csv", in_euros), run)
    assert (code, kinds(said)) == (0, [])
    code, said = reconcile(capsys, path, run, "--currency", "JPY")
    fees = next(one for one in said["totals"] if one["what"] == "fees")
    assert (code, fees["ours"], fees["why"][:7]) == (0, None, "no rate")
    code, said = reconcile(capsys, path, run, "--currency", "JPY", "--rate", "USD=150")
    assert "fees_total" in kinds(said)

    def told(ledger: Ledger) -> None:
        ledger.record_control(Control(action="rate", ts=START, reason="USD", value=1 / 1.085))
        ledger.record_control(Control(action="rate", ts=START + 3600 * SECOND, reason="USD", value=7.0))

    other = made(tmp_path / "other" / "live-EURUSD-BBBBBBBB", told)
    code, said = reconcile(capsys, path, other, "--currency", "CHF")
    fees = next(one for one in said["totals"] if one["what"] == "fees")
    assert (code, kinds(said)) == (0, [])
    assert fees["ours"] == pytest.approx(-10 * FEE * TICK_WORTH / 1.085)


def test_profit_is_not_compared_where_something_was_held(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    told = [one | {"profit": "1.00"} for one in rows()]
    for name, some, words in (
        ("end", told[:1], ("--until", "2024-03-06T09:01:00")),
        ("beginning", told[1:3], ("--since", "2024-03-06T09:01:00", "--until", "2024-03-06T09:05:00")),
    ):
        _, said = reconcile(capsys, written(tmp_path / f"{name}.csv", some), run, *words)
        profit = next(one for one in said["totals"] if one["what"] == "profit")
        assert profit["ours"] is None
        assert profit["why"].startswith(f"+2 lots were held at the {name}")


def test_a_day_is_cut_by_the_statements_clock(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Fills at 23:30 UTC stand on the next day of a statement two hours ahead: they are not outside."""

    def late(ledger: Ledger) -> None:
        for n, at in enumerate(range(52_200, 52_600, 100), 6):  # 23:30 UTC
            filled(ledger, n, START + at * SECOND, 1 if n % 2 else -1, 1, 108_400 + n)

    run = made(tmp_path / "live-EURUSD-AAAAAAAA", late)
    evening = [
        rows()[0]
        | {
            "time": f"2024-03-07 01:{30 + 100 * k // 60:02d}:{100 * k % 60:02d}",
            "id": "",
            "client order id": "",
            "side": "buy" if n % 2 else "sell",
            "quantity": f"{EURUSD.lot:g}",
            "price": f"{(108_400 + n) * EURUSD.tick:.5f}",
            "fee": f"{-FEE * TICK_WORTH:.4f}",
            "profit": "",
        }
        for k, n in enumerate(range(6, 10))
    ]
    _, said = reconcile(capsys, written(tmp_path / "s.csv", evening), run)
    assert (kinds(said), said["fills"]["outside"], said["fills"]["matched"]) == (["clock"], len(DAY), 4)


def test_other_instruments_and_other_days_are_counted(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    told = rows()
    told.append(told[0] | {"symbol": "XAUUSD", "id": "E50"})
    code, said = reconcile(capsys, written(tmp_path / "s.csv", told), run)
    assert (code, said["fills"]["foreign"]) == (0, {"XAUUSD": 1})
    code, said = reconcile(
        capsys, written(tmp_path / "s.csv", rows()[:2]), run, "--until", "2024-03-06T09:02:00"
    )
    assert (code, said["fills"]["outside"]) == (0, 3)


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        ("", (), "empty"),
        ("a,b,c,d,e\n1,2,3,4,5\n", (), "not a statement that is known"),
        ("time,symbol,side,quantity,price\n", (), "no row below the header"),
        ("time,symbol,side,quantity,price\n1,2,3,4,5\n", ("--zone", "Mars/Base"), "unknown zone"),
        ("time,symbol,side,quantity,price\n1,2,3,4,5\n", ("--rate", "USD"), "expected CURRENCY=VALUE"),
        ("time,symbol,side,quantity,price\n1,2,3,4,5\n", ("--rate", "USD=-1"), "a number above 0"),
        ("time,symbol,side,quantity,price\n1,2,3,4,5\n", ("--symbol", "A=NONE"), "these runs trade EURUSD"),
        (
            "time,symbol,side,quantity,price\n1,2,3,4,5\n",
            ("--since", "12:00", "--until", "11:00"),
            "must lie before",
        ),
    ],
)
def test_what_is_wrong_ends_in_one_line(
    capsys: pytest.CaptureFixture[str],
    run: Path,
    tmp_path: Path,
    content: str,
    words: tuple[str, ...],
    said: str,
) -> None:
    path = tmp_path / "s.csv"
    path.write_text(content)
    code, line = reconcile(capsys, path, run, *words)
    assert code in (2, 3)
    assert said in line.splitlines()[-1]
    assert "Traceback" not in line


def test_bytes_that_are_no_text(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    for content in (bytes(range(256)) * 40, b"\xff\xfe\x00", b"time,side\n\x00\x00" * 50):
        path.write_bytes(content)
        code, _ = reconcile(capsys, path, run)
        assert code == 3
