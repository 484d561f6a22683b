"""What lots are worth that came into a position while the engine was down."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emp.access.port import OthersTrade
from emp.core.codes import OrderStatus
from emp.core.contracts import (
    Control,
    NewOrder,
    OrderUpdate,
    VenuePosition,
)
from emp.engine.rebuild import rebuild
from emp.engine.reconciliation.others import CLOCKS_APART_NS
from emp.engine.recover import Recovered, Recovery
from emp.execution.orders import OrderManager
from emp.journal.decisions import layout_note
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from emp.journal.records import Note
from emp.journal.run import CONTINUED
from tests.journal.crashing import INSTRUMENTS, RUN, RenamingVenue, closed, filled, order, restarted
from tests.live.world import book


class Closed(RenamingVenue):
    """One at which somebody has changed the position: it is `lots` now, at an average of `average`."""

    def __init__(self, lots: int, average: float) -> None:
        super().__init__([])
        self.lots, self.average = lots, average

    async def positions(self) -> Sequence[VenuePosition]:
        return [VenuePosition(instrument="GOOG", qty=self.lots, avg_px=self.average)]


def five_bought_at_100_000(path: Path) -> None:
    ledger = Ledger(path, run=RUN, mode="paper")
    bought = msgspec.structs.replace(order(0), px=100_000)
    ledger.record_intent(bought)
    ledger.record_report(filled(bought, "E1"))
    ledger.close()


@pytest.mark.parametrize(("lots", "average"), [(0, 0.0), (3, 100_000.0), (-2, 50.0), (9, 1.0)])
def test_a_position_that_was_changed_while_the_engine_was_down_is_no_gain(
    tmp_path: Path, lots: int, average: float
) -> None:
    """At the venue's average (0 where it is flat) it was a gain or a loss of everything that was held."""
    path = tmp_path / "ledger.sqlite"
    five_bought_at_100_000(path)
    driver = restarted(path, Closed(lots, average))
    driver.events(book(1, 1_000_000_000))
    account = driver.engine.desk.account[0]
    assert account["position"] == lots
    assert abs(account["pnl"]) <= 5 * 2  # five lots, a mid within two ticks of what was paid
    assert account["peak"] <= 10
    closed(driver)


def test_an_adjustment_has_one_price_whenever_the_process_dies(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    five_bought_at_100_000(path)
    driver = restarted(path, Closed(0, 0.0))
    closed(driver)
    driver = restarted(path, Closed(0, 0.0))  # it died before there was a price
    assert driver.engine.positions.unvalued
    driver.events(book(1, 1_000_000_000))
    cash = float(driver.engine.desk.account["cash"][0])
    closed(driver)
    driver = restarted(path, Closed(0, 0.0))  # and after it
    assert not driver.engine.positions.unvalued
    assert driver.engine.desk.account["cash"][0] == cash
    closed(driver)
    reader = LedgerReader(path)
    (note,) = reader.notes("valued")
    assert note.data == {"qty": -5, "px": 100_002.0}
    reader.close()


def test_an_adjustment_that_an_older_release_booked_at_0_is_valued_now(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", run=RUN, mode="paper")
    for px in (0.0, 70.0):
        data: dict[str, Any] = {"qty": -5, "px": px, "reason": "closed"}
        ledger.record_note(Note(kind="adjustment", ts=1, instrument="GOOG", data=data))
    manager = OrderManager(INSTRUMENTS)
    rebuilt = rebuild(ledger, manager)
    assert rebuilt.unvalued == {"GOOG": -5}
    assert manager.position("GOOG") == -10
    assert manager.accounts["cash"][0] == 350.0
    ledger.close()


class StoppedOut(Closed):
    """A venue that tells at which price a stop has closed what was held, once the ledger was left."""

    async def trades_of_others(self, since: int, is_ours: Callable[[str], bool]) -> Sequence[OthersTrade]:
        assert since == 1 - CLOCKS_APART_NS, "starts that failed since then are no trade"
        assert is_ours(f"{RUN}-00000001")
        return [OthersTrade(instrument="GOOG", qty=-5, px=99_900.5, order="77", ts=2)]


def test_a_stop_that_was_reached_while_the_engine_was_down_is_booked_at_its_price(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    five_bought_at_100_000(path)
    ledger = Ledger(path, run=RUN, mode="paper")  # a start that came no further, an hour later
    later = 3_600 * 10**9
    ledger.record_control(Control(action="begin", ts=later, value=1_000.0))
    ledger.record_note(layout_note(later))
    ledger.record_note(Note(kind=CONTINUED, ts=later, data={}))
    ledger.close()
    for _ in range(2):
        driver = restarted(path, StoppedOut(0, 0.0))
        assert not driver.engine.positions.unvalued
        driver.events(book(1, 1_000_000_000))
        account = driver.engine.desk.account[0]
        assert account["position"] == 0
        assert float(account["pnl"] + account["fees"]) == -5 * 99.5
        closed(driver)
    reader = LedgerReader(path)
    (note,) = reader.notes("adjustment")
    assert (note.data["qty"], note.data["px"]) == (-5, 99_900.5)
    assert not reader.notes("valued")
    reader.close()


# --- what a report had claimed when the process ended -----------------------------------------------------------------

HAND = OrderUpdate(
    clOrdID="hand",
    execID="h1",
    status=OrderStatus.FILLED,
    filled=3,
    price=99_000,
    fee=2.0,
    ts=2,
    instrument="GOOG",
    side=-1,
)
BACK = msgspec.structs.replace(HAND, clOrdID="back", execID="b1", price=99_900, fee=1.0, side=1)
AGAIN = msgspec.structs.replace(HAND, clOrdID="again", execID="a1", price=99_500, ts=3)


def claimed(path: Path, *told: OrderUpdate) -> None:
    """Five were bought at 100,000 each; then this was told, and the process died in doubt."""
    five_bought_at_100_000(path)
    ledger = Ledger(path, run=RUN, mode="paper")
    for update in told:
        ledger.record_report(update)
    ledger.close()


def money_after(path: Path, lots: int) -> tuple[int, float, float, bool]:
    """Position, cash, fees, and whether anything waits for a price, once a start has found so many lots."""
    driver = restarted(path, Closed(lots, 50_000.0))
    account = driver.engine.desk.account[0]
    found = int(account["position"]), float(account["cash"]), float(account["fees"])
    waits = bool(driver.engine.positions.unvalued)
    assert not driver.engine.positions.claims
    closed(driver)
    return *found, waits


@pytest.mark.parametrize(
    ("told", "lots", "expected"),
    [
        ([HAND], 2, (2, -500_000.0 + 3 * 99_000.0, 2.0, False)),
        ([HAND], 3, (3, -500_000.0 + 2 * 99_000.0, 2.0, False)),  # it has heard of two of the three
        ([HAND], 5, (5, -500_000.0, 0.0, False)),  # none of it is so
        (
            [HAND, BACK],
            5,
            (5, -500_000.0 + 3 * (99_000.0 - 99_900.0), 3.0, False),
        ),  # nothing is left but the loss
        ([HAND], 9, (9, -500_000.0, 0.0, True)),  # something else has happened
    ],
    ids=["all", "a part", "nothing", "there and back", "another"],
)
def test_what_was_claimed_is_booked_at_what_was_told_of_it(
    tmp_path: Path, told: list[OrderUpdate], lots: int, expected: tuple[int, float, float, bool]
) -> None:
    path = tmp_path / "ledger.sqlite"
    claimed(path, *told)
    assert money_after(path, lots) == expected
    assert money_after(path, lots) == expected, "once"


@pytest.mark.parametrize(
    ("told", "lots"), [([HAND, BACK], 5), ([HAND], 2), ([HAND], 3), ([HAND, BACK, AGAIN], 2)]
)
def test_a_claim_is_booked_once_whatever_row_the_process_died_at(
    tmp_path: Path, told: list[OrderUpdate], lots: int
) -> None:
    """Between the venue's word and the last of its bookings the process may die at every row, and the next one too."""
    path = tmp_path / "ledger.sqlite"
    claimed(path, *told)
    ledger = Ledger(path, run=RUN, mode="paper")
    first = ledger.last_seq
    ledger.close()
    expected = money_after(path, lots)
    reader = LedgerReader(path)
    rows = [event.body for event in reader.events()]
    reader.close()
    assert len(rows) - first >= 4
    for cut in range(first, len(rows)):
        copied = tmp_path / f"{cut}.sqlite"
        ledger = Ledger(copied, run=RUN, mode="paper")
        for body in rows[:cut]:
            recorded(ledger, body)
        ledger.close()
        for start in ("first", "second"):
            assert money_after(copied, lots) == expected, (start, rows[cut - 1])


class Busy(Closed):
    """A venue at which somebody trades while it is asked what a difference has cost."""

    def __init__(self, held: int) -> None:
        super().__init__(held, 50_000.0)
        self.tell: Callable[[OrderUpdate], None] = lambda _: None

    def on_report(self, sink: Callable[[OrderUpdate], None]) -> None:
        super().on_report(sink)
        self.tell = sink

    async def trades_of_others(self, since: int, is_ours: Callable[[str], bool]) -> Sequence[OthersTrade]:
        if self.lots == 4:
            self.lots = 1
            self.tell(HAND)
        return []


def test_what_is_told_while_the_venue_says_what_a_difference_cost_is_asked_about_too(tmp_path: Path) -> None:
    """The ledger takes the venue's word of a start for all that it holds: nothing may be claimed behind it."""
    path = tmp_path / "ledger.sqlite"
    five_bought_at_100_000(path)
    venue = Busy(4)
    driver = restarted(path, venue)
    assert not driver.engine.positions.claims
    assert driver.engine.desk.account["position"][0] == 1
    closed(driver)
    driver = restarted(path, Closed(1, 50_000.0))
    assert driver.engine.desk.account["position"][0] == 1
    closed(driver)


def recorded(ledger: Ledger, body: object) -> None:
    """Say again what another ledger holds."""
    if isinstance(body, OrderUpdate):
        ledger.record_report(body)
    elif isinstance(body, Control):
        ledger.record_control(body)
    elif isinstance(body, Note):
        ledger.record_note(body)
    else:
        assert isinstance(body, NewOrder)
        ledger.record_intent(body)


def test_a_report_that_cannot_be_true_halts_until_the_owner_has_looked_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the process died before it could say so; and every later start found it again, and killed again."""
    found: list[Recovered] = []
    run = Recovery.run

    async def noted(recovery: Recovery, answer_s: float) -> Recovered:
        found.append(await run(recovery, answer_s))
        return found[-1]

    monkeypatch.setattr(Recovery, "run", noted)
    path = tmp_path / "ledger.sqlite"
    claimed(path, HAND)
    driver = restarted(path, Closed(2, 50_000.0))
    assert set(driver.engine.desk.risk["halted"]) == {1}
    driver.control(Control(action="flatten", ts=3, reason="operator"))
    ledger = driver.ledger
    assert isinstance(ledger, Ledger)
    ledger.record_note(Note(kind="adjustment", ts=3, instrument="GOOG", data={"qty": -2, "px": 99_000.0}))
    ledger.record_control(Control(action="resume", ts=4, reason="operator"))
    closed(driver)
    driver = restarted(path, Closed(0, 50_000.0))
    assert not driver.engine.desk.risk["halted"].any()
    closed(driver)
    assert [one.quarantined for one in found] == [(), ()]


@pytest.mark.parametrize("started", [True, False])
def test_a_resume_during_a_start_is_heard_once_that_is_over(tmp_path: Path, started: bool) -> None:
    """Trading begins halted, closes what the start has found, and is then asked again; a start that never ended leaves
    it to the next.
    """
    ledger = Ledger(tmp_path / "ledger.sqlite", run=RUN, mode="paper")
    ledger.record_control(Control(action="kill", ts=1, reason="operator"))
    ledger.record_control(Control(action="begin", ts=2, value=1_000.0))
    ledger.record_control(Control(action="resume", ts=3, reason="operator"))
    if started:
        data: dict[str, Any] = {"qty": 3, "px": 70.0, "reason": "by hand"}
        ledger.record_note(Note(kind="adjustment", ts=4, instrument="GOOG", data=data))
        ledger.record_control(Control(action="start", ts=5))
    halted = rebuild(ledger, OrderManager(INSTRUMENTS)).halted
    assert bool(halted) is started
    ledger.record_control(Control(action="begin", ts=6, value=1_000.0))
    assert bool(rebuild(ledger, OrderManager(INSTRUMENTS)).halted) is started
    ledger.close()


def test_what_somebody_else_paid_below_zero_is_a_price(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    claimed(path, msgspec.structs.replace(HAND, price=-37, side=1))
    for _ in range(2):
        assert money_after(path, 8) == (8, -500_000.0 + 3 * 37.0, 2.0, False)
