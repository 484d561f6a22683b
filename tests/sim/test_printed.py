"""A simulated market as an order-by-order recording: rebuilt by the replay, written and read as LOBSTER files."""

from pathlib import Path

import numpy as np
import pytest

from emp.core.errors import DataError, UsageError
from emp.core.records import empty_events
from emp.sim.facts.judge import held_out, judge, simulate, two_sided
from emp.sim.flow.params import Source
from emp.sim.flow.shipped import named_flow
from emp.sim.flow.state import ADD, DELETE, TRADE
from emp.sim.flow.zi import zi_params
from emp.sim.tape.lobster_files import opening_ns, save_lobster
from emp.sim.tape.recording import Recording, load_recording
from emp.sim.tape.verify import verify
from emp.sim.world.market import Market
from emp.sim.world.printed import printed

NAME = "XYZ_2024-01-02_message_10.csv"
ROWS = 6_000


def made(model: str = "goog", seed: int = 1, rows: int = ROWS) -> Recording:
    start = opening_ns(Path(NAME))
    return printed(Market(named_flow(model), seed, 58_000, start_ns=start), rows, "XYZ")


@pytest.mark.parametrize("model", ["zi", "goog"])
def test_the_book_rebuilt_from_the_messages_is_the_one_shown(model: str) -> None:
    found = made(model)
    assert {ADD, DELETE, TRADE} == set(np.unique(found.msgs["kind"]))
    report, _ = verify(found)
    assert report.misfits == 0
    # of prices beyond the tenth, only orders that stood at the start are unknown
    assert report.rates()[:9] == [1.0] * 9
    assert report.rates()[9] > 0.99


def test_a_market_prints_what_it_does_anyway() -> None:
    found = made()
    lone = Market(named_flow("goog"), 1, 58_000, start_ns=opening_ns(Path(NAME)))
    rows = empty_events(ROWS)
    lone.run(2**62, ROWS, rows=rows)
    last = {int(row["ts"]): row for row in rows}
    assert found.book is not None
    ends = np.flatnonzero(np.append(np.diff(found.msgs["ts"]) > 0, False))
    assert len(ends) > ROWS // 2
    for i in ends:
        row = last[int(found.msgs["ts"][i])]
        assert found.book[i, 0::4].tolist() == row["ask_px"].tolist()
        assert found.book[i, 1::4].tolist() == row["ask_sz"].tolist()
        assert found.book[i, 2::4].tolist() == row["bid_px"].tolist()
        assert found.book[i, 3::4].tolist() == row["bid_sz"].tolist()


def test_an_order_that_takes_from_several_has_a_row_for_each() -> None:
    found = made("goog", rows=20_000)
    msgs = found.msgs
    trades = msgs["kind"] == TRADE
    same = trades[1:] & trades[:-1] & (msgs["ts"][1:] == msgs["ts"][:-1])
    assert same.sum() > 50
    assert (msgs["handle"][1:][same] != msgs["handle"][:-1][same]).all()
    assert found.book is not None
    left = np.zeros(int(msgs["handle"].max()) + 1, np.int64)
    known = np.zeros(len(left), bool)
    for m in msgs:
        if m["kind"] == ADD:
            assert not known[m["handle"]]
            left[m["handle"]], known[m["handle"]] = m["qty"], True
        elif known[m["handle"]]:
            assert 0 < m["qty"] <= left[m["handle"]]
            assert m["kind"] != DELETE or m["qty"] == left[m["handle"]]
            left[m["handle"]] -= m["qty"]


def test_lobster_files_are_read_back_as_they_were(tmp_path: Path) -> None:
    found = made()
    assert found.book is not None
    assert (found.book[:, 0::2] == 0).any()
    beside = save_lobster(found, tmp_path / NAME)
    again = load_recording(tmp_path / NAME)
    assert again.book is not None
    assert again.name == "XYZ"
    assert again.msgs.tobytes() == found.msgs.tobytes()
    assert (again.book == found.book).all()
    first = (tmp_path / NAME).read_text().splitlines()[0].split(",")
    assert first[0].startswith("34200.")
    assert len(first[0].split(".")[1]) == 9
    book = np.loadtxt(beside, delimiter=",", dtype=np.int64)
    for column, absent in ((0, 9_999_999_999), (2, -9_999_999_999)):
        gone = book[:, column + 1 :: 4] == 0
        assert gone.any()
        assert (book[:, column::4][gone] == absent).all()


def test_names_and_days_that_cannot_be_are_refused(tmp_path: Path) -> None:
    found = made(rows=100)
    with pytest.raises(DataError, match="no date"):
        save_lobster(found, tmp_path / "message.csv")
    with pytest.raises(UsageError, match="named like"):
        save_lobster(found, tmp_path / "2024-01-02.csv")
    found.msgs["ts"][-1] += 86_400 * 10**9
    with pytest.raises(UsageError, match="within one day"):
        save_lobster(found, tmp_path / NAME)
    assert list(tmp_path.iterdir()) == []


def test_rows_with_an_empty_side_are_left_out_and_counted() -> None:
    found = made("goog", rows=20_000)
    assert found.book is not None
    kept = two_sided(found)
    assert kept.book is not None
    for column in (0, 2):
        assert (found.book[:, column] == 0).any()
        assert (kept.book[:, column] != 0).all()
    market = Market(named_flow("goog"), 1, 58_000, start_ns=opening_ns(Path(NAME)))
    rows, share = simulate(market, 18_000, "goog")
    assert len(rows.msgs) >= 18_000
    assert 0.001 < share < 0.02


def test_only_rows_after_the_fit_are_held_out() -> None:
    found = made(rows=4_000)
    fitted = Source("XYZ", int(found.msgs["ts"][0]), int(found.msgs["ts"][1_999]), "", 10)
    assert held_out(found, Source(), 4) == 0
    assert held_out(found, fitted, 1) == 3_000
    with pytest.raises(UsageError, match=r"make 2 pairs of sequences, not 3"):
        held_out(found, fitted, 3)


def test_a_flow_is_as_near_to_itself_as_real_is_to_real_and_another_is_not() -> None:
    recorded = printed(Market(zi_params(), 7, 58_000), 40_000, "ZI")
    own = judge(zi_params(), Source(), "zi", recorded, 20, 3)
    other = judge(named_flow("goog"), Source(), "goog", recorded, 20, 3)
    assert own.sequences == 20
    assert len(own.conditional) == 3
    assert [one.name for one in own.impact] == ["MO_0", "MO_1", "LO_0", "LO_1", "CA_0", "CA_1"]
    assert all(0 < one.lags <= 21 for one in own.impact)
    assert 0 < own.mean_impact("value") < 4 * own.mean_impact("real")
    for of in ("l1", "w1"):
        assert own.mean(of) < 2.5 * own.mean(f"real_{of}")
        assert other.mean(of) > 2 * own.mean(of)
        assert own.mean(f"real_{of}") == other.mean(f"real_{of}")


def test_a_recording_without_ten_levels_is_refused() -> None:
    found = made(rows=1_000)
    assert found.book is not None
    found.book = found.book[:, :4]
    with pytest.raises(UsageError, match="books of 10 levels"):
        judge(zi_params(), Source(), "zi", found, 1, 1)
