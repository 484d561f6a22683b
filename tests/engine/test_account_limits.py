"""Limits over all instruments of an account: exposure, the loss of the day, rates; what is passed closes everything."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emp.core.codes import Action, AssetClass, OrderStatus, Reason
from emp.core.contracts import Control, Message, NewOrder, OrderUpdate, RiskBreach
from emp.core.errors import UsageError
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.engine.driver import Driver
from emp.engine.engine import Engine, Output
from emp.engine.limits import EngineLimits
from emp.engine.portfolio import AccountLimits, needs_rates
from emp.engine.rates import Rate, RateFile
from emp.engine.rebuild import begin
from emp.journal.ledger import Ledger
from tests.live.world import BTC, book, buyer

pytestmark = pytest.mark.usefixtures("compiled_engine")

S = 1_000_000_000
START = 1_709_737_200 * S
MID = 100_000.5 + 0.5  # ticks, of `book`


def one(name: str, *currencies: str, **facts: Any) -> Instrument:
    return msgspec.structs.replace(
        BTC, name=name, currencies=currencies, tick=0.00001, point_value=1_000.0, taker_fee=0.0, **facts
    )


EURUSD = one("EURUSD", "EUR", "USD", asset_class=AssetClass.FX_SPOT)  # 1,000 USD a lot at about 1
STOCK = one("STOCK", "USD")
YEN = one("YEN", "GBP", "JPY", asset_class=AssetClass.FX_SPOT)


class Desk:
    """An engine that buys of everything what it may, each order filled at once."""

    def __init__(self, *instruments: Instrument, ledger: Ledger | None = None, **account: float) -> None:
        limits = EngineLimits(
            max_position_lots=1_000,
            max_order_lots=3,
            max_daily_loss=1e12,
            max_drawdown=1e12,
            orders_per_minute=1e6,
            turnover_per_minute=1e6,
            turnover_per_hour=1e6,
            account=AccountLimits(currency="EUR", **account),  # type: ignore[arg-type]
        )
        self.engine = Engine(instruments, buyer(), limits, "TEST0001")
        self.sent: list[NewOrder] = []
        self.told: list[Message] = []
        self.driver = Driver(self.engine, self._send, ledger=ledger)
        self.driver.attach(self.told.append, self._fail)
        self.ts, self.seq = START, 0

    def _send(self, cleared: Any) -> None:
        command = getattr(cleared, "intent", cleared)
        if isinstance(command, NewOrder):
            self.sent.append(command)

    @staticmethod
    def _fail(error: Exception) -> None:
        raise error

    def move(self, i: int, by: int = 0, wait: int = S // 10) -> Output:
        """An event of an instrument; what is ordered fills."""
        self.ts, self.seq = self.ts + wait, self.seq + 1
        rows = book(self.seq, self.ts)
        rows["instrument"] = i
        rows["bid_px"][:, 0] += by
        rows["ask_px"][:, 0] += by
        output = self.driver.events(rows)
        self.fill()
        return output

    def fill(self) -> None:
        while self.sent:
            order = self.sent.pop(0)
            update = OrderUpdate(
                clOrdID=order.cl_ord_id,
                execID=f"e{order.cl_ord_id}",
                status=OrderStatus.FILLED,
                filled=order.qty,
                price=order.px,
                ts=order.ts,
                instrument=order.instrument,
                side=order.side,
            )
            self.driver.report(update)

    @property
    def held(self) -> list[int]:
        return self.engine.desk.account["position"].tolist()

    @property
    def risk(self) -> Array:
        return self.engine.desk.risk

    def control(self, action: Any, reason: str = "", value: float = 0.0) -> None:
        self.driver.control(Control(action=action, ts=self.ts, reason=reason, value=value))
        self.fill()


def reason(output: Output) -> Reason:
    return Reason(int(output.rows["reason_code"][-1]))


def test_rates_come_from_the_run_or_must_be_told() -> None:
    desk = Desk(EURUSD, STOCK, YEN, max_gross=1e6)
    x = desk.engine.desk.exposure
    assert x["source"].tolist() == [0, 0, -1]
    assert needs_rates(desk.engine.instruments, x) == ("JPY",)
    desk.move(0)
    assert x["rate"][:2] == pytest.approx(1.0 / (MID * 1e-5), rel=1e-5)
    assert x["unit"].tolist() == pytest.approx([0.01] * 3)
    future = one("A50", "EUR", "USD", asset_class=AssetClass.FX_FUT)
    assert Desk(future, max_gross=1e6).engine.desk.exposure["source"][0] == -1, "an index is no rate"
    assert Desk(one("X"), STOCK).engine.desk.exposure["source"].tolist() == [-2, -2]
    with pytest.raises(UsageError, match="nothing says in which money prices of X are"):
        Desk(one("X"), max_gross=1e6)


@pytest.mark.parametrize(
    ("limit", "why"), [("max_gross", Reason.GROSS_EXPOSURE), ("max_net", Reason.NET_EXPOSURE)]
)
def test_no_order_passes_a_limit_on_exposure_over_all_instruments(limit: str, why: Reason) -> None:
    desk = Desk(EURUSD, STOCK, **{limit: 7_500.0})
    reasons = set()
    for _ in range(20):
        for i in (0, 1):
            reasons.add(reason(desk.move(i)))
            assert sum(desk.held) <= 7  # of about 1,000 EUR each
    assert sum(desk.held) == 7
    assert min(desk.held) > 0, "one instrument took it all: the test shows little"
    assert why in reasons
    assert not desk.risk["halted"].any()


def test_a_loss_of_the_day_over_all_closes_all() -> None:
    desk = Desk(EURUSD, STOCK, max_daily_loss=50.0)
    for _ in range(3):
        desk.move(0)
        desk.move(1)
    held = sum(desk.held)
    assert min(desk.held) > 0
    assert 5 < held < 25
    fall = -int(50.0 / 0.01 / held)  # ticks that lose about 50 EUR in all
    desk.move(0, fall - 200)
    assert not desk.risk["halted"].any(), "one alone has not lost as much"
    assert not [one for one in desk.told if isinstance(one, RiskBreach)]
    desk.move(1, fall - 200)
    assert desk.risk["halted"].all()
    assert set(desk.risk["halt_reason"].tolist()) == {Reason.ACCOUNT_LOSS}
    assert desk.held == [0, 0], "the other one was not closed"
    (breach,) = [one for one in desk.told if isinstance(one, RiskBreach)]
    assert (breach.reason, breach.metric, breach.instrument) == ("account_loss", "account_daily_pnl", "")
    assert breach.value < breach.limit == -50.0
    desk.control("resume")
    desk.move(0, fall - 200)
    assert desk.risk["halted"].all(), "what is lost is lost, whoever lets it trade again"


def test_prices_that_carry_exposure_beyond_its_limit_close_all() -> None:
    desk = Desk(EURUSD, STOCK, max_gross=6_500.0, halt_at=1.2)
    for _ in range(6):
        desk.move(0)
        desk.move(1)
    assert sum(desk.held) == 6
    desk.move(1, 100_000)  # worth twice as much
    assert desk.risk["halted"].all() == (desk.held == [0, 0])
    assert set(desk.risk["halt_reason"].tolist()) == {Reason.GROSS_EXPOSURE}


def test_without_a_rate_that_may_be_trusted_nothing_is_opened() -> None:
    desk = Desk(YEN, max_gross=1e9, rate_max_age_ns=60 * S)
    assert reason(desk.move(0)) is Reason.NO_RATE
    assert desk.held == [0]
    desk.control("rate", "CNY", 0.1)
    assert reason(desk.move(0)) is Reason.NO_RATE
    desk.control("rate", "JPY", 0.006)
    desk.move(0)
    assert desk.held[0] > 0
    held = desk.held
    assert reason(desk.move(0, wait=61 * S)) is Reason.NO_RATE
    assert desk.held == held
    desk.control("rate", "JPY", 0.006)
    desk.move(0)
    assert desk.held > held


def test_a_rate_that_is_old_in_one_instrument_bars_all() -> None:
    desk = Desk(EURUSD, YEN, max_gross=1e9, rate_max_age_ns=60 * S)
    desk.control("rate", "JPY", 0.006)
    desk.move(1)
    assert desk.held[1] > 0
    assert reason(desk.move(0, wait=61 * S)) is Reason.NO_RATE
    assert desk.held[0] == 0, "the account's sums rest on what nobody knows"


def test_a_breach_holds_over_a_restart_for_all(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path, run="TEST0001", mode="mock")
    desk = Desk(EURUSD, STOCK, ledger=ledger, max_daily_loss=50.0)
    for _ in range(3):
        desk.move(0)
        desk.move(1)
    desk.move(0, -5_000)
    assert desk.risk["halted"].all()
    ledger.close()
    ledger = Ledger(path, run="TEST0001", mode="mock")
    again = Desk(EURUSD, STOCK, ledger=ledger, max_daily_loss=50.0)
    begin(ledger, again.engine)
    assert set(again.risk["halt_reason"].tolist()) == {Reason.ACCOUNT_LOSS}
    assert again.risk["halted"].all()
    ledger.close()


def test_what_is_held_and_not_seen_since_the_start_bars_opening() -> None:
    desk = Desk(EURUSD, STOCK, max_gross=1e9)
    desk.engine.desk.account["position"][1] = 5
    assert reason(desk.move(0)) is Reason.NO_RATE, "nobody knows what the stock is worth"
    desk.move(1)
    desk.move(0)
    assert desk.held[0] > 0


@pytest.mark.parametrize(
    ("limit", "why"), [("max_gross", Reason.GROSS_EXPOSURE), ("max_net", Reason.NET_EXPOSURE)]
)
def test_below_zero_a_lot_is_at_stake_as_above(limit: str, why: Reason) -> None:
    by = int(-2 * MID)
    desk = Desk(EURUSD, STOCK, **{limit: 7_500.0})
    desk.move(0)  # the rate
    reasons = set()
    for _ in range(20):
        reasons |= {reason(desk.move(1, by)), reason(desk.move(0))}
        folio = desk.engine.desk.portfolio[0]
        assert folio["gross"] == pytest.approx(folio["net"])
        assert folio["gross"] <= 7_500.0
    assert sum(desk.held) == 7
    assert min(desk.held) > 0
    assert why in reasons
    assert Reason.NO_RATE not in reasons
    assert not desk.risk["halted"].any()


def test_at_a_price_of_zero_something_may_be_opened_and_no_number_of_lots() -> None:
    desk = Desk(one("STOCK", "EUR"), max_gross=0.05)  # a tick of a lot is 0.01
    for k in range(10):
        desk.move(0, int(-MID) - (k + 1) % 2)  # `book` moves by a tick
        assert desk.engine.desk.exposure["mid"][0] == 0.0
    assert desk.held == [5]
    assert not desk.risk["halted"].any()


def test_without_limits_nothing_is_watched() -> None:
    desk = Desk(STOCK)
    assert desk.move(0).rows["action"][-1] == Action.CROSS
    assert not desk.engine.desk.portfolio["limited"][0]
    assert np.isinf(desk.engine.desk.portfolio["max_gross"][0])


# --- margin


def margin(desk: Desk, equity: float, used: float) -> None:
    desk.control("margin", "equity", equity)
    desk.control("margin", "used", used)


def test_what_is_used_as_margin_never_passes_the_level_of_the_equity_that_was_given() -> None:
    euro, stock = (msgspec.structs.replace(x, margin=0.05) for x in (EURUSD, STOCK))
    desk = Desk(euro, stock, min_margin_level=2.0, equity=1_000.0)  # a lot asks about 50 EUR: ten of them
    reasons = set()
    for _ in range(10):
        reasons |= {reason(desk.move(0)), reason(desk.move(1))}
        folio = desk.engine.desk.portfolio[0]
        assert folio["used"] * 2.0 <= folio["equity"] + folio["pnl"] + 1e-6
    assert sum(desk.held) in (9, 10)
    assert Reason.MARGIN in reasons
    assert not desk.risk["halted"].any()


def test_nothing_is_opened_before_the_venue_has_stated_its_margin_nor_when_that_is_old() -> None:
    desk = Desk(STOCK, EURUSD, min_margin_level=1.0, margin_max_age_ns=60 * S)
    desk.move(1)
    assert reason(desk.move(0)) is Reason.MARGIN
    desk.driver.control(Control(action="margin", ts=desk.ts, instrument="STOCK", reason="lot", value=100.0))
    assert desk.engine.desk.exposure["margin"][0] == pytest.approx(0.1, rel=0.01)
    assert reason(desk.move(0)) is Reason.MARGIN, "what a lot asks is known, what there is is not"
    margin(desk, 520.0, 100.0)  # others use 100
    for _ in range(6):
        desk.move(0)
    assert desk.held[0] == 4
    assert reason(desk.move(0)) is Reason.MARGIN
    margin(desk, 740.0, 500.0)  # the venue counts what we hold as we do
    for _ in range(4):
        desk.move(0)
    assert desk.held[0] == 6
    margin(desk, 1e6, 600.0)
    assert reason(desk.move(0)) is not Reason.MARGIN
    desk.move(1, wait=61 * S)
    assert reason(desk.move(0)) is Reason.MARGIN, "the statement is old"


def test_a_loss_since_the_statement_leaves_less_margin() -> None:
    desk = Desk(msgspec.structs.replace(STOCK, margin=0.1), EURUSD, min_margin_level=1.0)
    desk.move(1)
    margin(desk, 1_000.0, 0.0)
    for _ in range(5):
        desk.move(0)
    assert desk.held[0] == 5
    # about 650 EUR are lost: five lots ask 435 then, and 350 are left
    assert reason(desk.move(0, by=-13_000)) is Reason.MARGIN
    assert desk.held[0] == 5
    assert desk.engine.desk.portfolio["pnl"][0] < -600.0


# --- rates in a file


def test_a_file_of_rates_is_told_when_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "rates.yaml"
    rates = RateFile(path, ["JPY"])
    assert rates.look() == []
    assert "No such file" in rates.problem
    path.write_text("JPY: 0.0067\nCNY: 0.139\n")
    written = path.stat().st_mtime_ns
    assert rates.look() == [Rate("JPY", 0.0067, written)]
    assert rates.problem == ""
    assert rates.look() == []


@pytest.mark.parametrize(
    "text", ["CNY: 1", "JPY: 0", "JPY: -1", "JPY: x", "JPY: .inf", "JPY: true", "[1", "- 1", ""]
)
def test_a_file_that_says_nothing_clear_tells_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rates.yaml"
    path.write_text(text)
    rates = RateFile(path, ["JPY"])
    assert rates.look() == []
    assert str(path) in rates.problem
    assert "\n" not in rates.problem
