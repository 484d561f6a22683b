"""Recordings that went wrong once, and what comes out of them: the inputs of EMP_CASES, where they are at hand."""

import ast
import os
from pathlib import Path

import numpy as np
import pytest

from emp.access.recordings.source import open_recording
from emp.core.codes import EventFlag, Quarantine
from emp.core.errors import DataError
from emp.core.instrument import find
from emp.core.records import Array
from tests.access.reading import read

ROOT = Path(__file__).parent.parent.parent
CASES = Path(os.environ.get("EMP_CASES") or ROOT / "../shared/cases").resolve() / "recordings"
CATALOGUE = CASES / "catalogue.yaml"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not CASES.is_dir(), reason=f"no cases at {CASES}: set EMP_CASES to their folder"),
]

AS_BASE = (
    "q_R_sizes.csv",
    "q_UTC_suffix.csv",
    "q_base.csv",
    "q_base.csv.bz2",
    "q_base.csv.xz",
    "q_base.tar.gz",
    "q_date_time_cols.csv",
    "q_dot_date.csv",
    "q_dukascopy_jforex.csv",
    "q_dukascopy_node.csv",
    "q_epoch_ms.csv",
    "q_epoch_ms_nohdr.csv",
    "q_epoch_ns.csv",
    "q_epoch_us.csv",
    "q_mt5.csv",
    "q_offset_ny.csv",
    "q_offset_utc.csv",
    "q_quoted.csv",
    "q_sci.csv",
    "q_semicolon_comma.csv",
    "q_slash_date.csv",
    "q_spaces.csv",
    "q_swapped_pairs.csv",
    "q_truefx_nohdr.csv",
    "q_utf16.csv",
    "q_zero_size.csv",
)


def case(name: str, instrument: str, *, accept_losses: bool = False) -> tuple[Array, object]:
    path = CASES / name
    files = sorted(path.iterdir()) if path.is_dir() else path
    return read(files, instrument, accept_losses=accept_losses, catalogue=CATALOGUE)


def tops(events: Array) -> Array:
    return np.column_stack((events["ts"], events["bid_px"][:, 0], events["ask_px"][:, 0]))


@pytest.fixture(scope="module")
def base() -> Array:
    return tops(case("q_base.csv", "EURUSD")[0])


@pytest.mark.parametrize("name", AS_BASE)
def test_the_base_however_it_is_written(name: str, base: Array) -> None:
    assert np.array_equal(tops(case(name, "EURUSD")[0]), base)


def test_histdata_counts_in_eastern_standard_time(base: Array) -> None:
    events, source = case("q_histdata_nohdr.csv", "EURUSD")
    shifted = base + np.array([5 * 3_600 * 10**9, 0, 0])
    assert np.array_equal(tops(events), shifted)
    assert "Etc/GMT+5" in source.counts.formats[0]  # type: ignore[attr-defined]


def test_one_stamp_ahead_costs_one_row(base: Array) -> None:
    events, source = case("q_outlier_30s.csv", "EURUSD")
    assert len(events) == len(base) - 1
    assert source.counts.quarantined == {Quarantine.AHEAD: 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["q_gap7days.csv", "q_gap12days.csv"])
def test_a_hole_loses_nothing(name: str, base: Array) -> None:
    assert len(case(name, "EURUSD")[0]) == len(base)


def test_empty_first_rows(base: Array) -> None:
    events, _ = case("q_head_empty.csv", "EURUSD")
    assert np.array_equal(tops(events), base[-len(events) :])


REFUSED = {
    ("q_offgrid.csv", "EURUSD"): "the tick of EURUSD is 1e-05; prices are in 1e-06",
    ("xrp_tick_change.csv", "XRPUSDT"): "the tick of XRPUSDT is 0.0001; prices are in 1e-05",
    ("bn_ms_stamp.gz", "ETHUSDT"): "holds BTCUSDT, not ETHUSDT",
    ("lob_wrongticker", "GOOG"): "holds ACME, not GOOG",
    ("lob_deflate64.zip", "ACME"): r"method 9 \(Deflate64\)",
    ("gc_allB", "GC"): "can mean either side",
    ("tardis_quotes.csv", "GC"): "holds BTC-PERPETUAL, not GC",
    ("hbt.npz", "GC"): "hftbacktest data without a depth event",
    ("bn_fut_gap_nosnap.gz", "BTCUSDT-PERP"): "change a book that is not known.*no snapshot fits",
}


@pytest.mark.parametrize(("name", "instrument"), REFUSED)
def test_what_is_refused_in_one_line(name: str, instrument: str) -> None:
    with pytest.raises(DataError, match=REFUSED[name, instrument]) as error:
        case(name, instrument)
    assert "\n" not in str(error.value)


def test_nothing_trades_on_a_dead_book() -> None:
    events, source = case("bn_fut_gap_nosnap.gz", "BTCUSDT-PERP", accept_losses=True)
    whole, _ = case("bn_fut_gap_snap.gz", "BTCUSDT-PERP")
    assert source.counts.gaps == 1  # type: ignore[attr-defined]
    gaps = whole["ts"][whole["flags"] & EventFlag.GAP != 0]
    assert len(gaps) == 2
    assert events["ts"][-1] < gaps[1]


def test_after_a_gap_the_book_is_the_right_one() -> None:
    truth = np.array(ast.literal_eval((CASES / "bn_fut_gap_snap.truth").read_text()))
    events, _ = case("bn_fut_gap_snap.gz", "BTCUSDT-PERP")
    known = {int(ts): (int(bid), int(ask)) for ts, bid, ask in truth}
    shown = {int(ts): (int(bid), int(ask)) for ts, bid, ask in tops(events)}
    both = known.keys() & shown.keys()
    assert len(both) >= 290
    assert all(known[ts] == shown[ts] for ts in both)


@pytest.mark.parametrize("name", ["bn_ms_stamp.gz", "bn_no_stamp.jsonl.gz", "bn_unwrapped.gz"])
def test_collectors_variants(name: str) -> None:
    events, _ = case(name, "BTCUSDT-PERP")
    assert len(events) == 357
    assert (events["n_bid"] == 10).any()


def test_two_symbols_in_one_file() -> None:
    for instrument, price in (("BTCUSDT", 65_000), ("ETHUSDT", 3_500)):
        events, _ = case("bn_two_symbols.gz", instrument)
        mid = (events["bid_px"][:, 0] + events["ask_px"][:, 0]) / 2 * find(instrument).tick
        assert len(events) == 357
        assert np.allclose(mid, price, rtol=0.01)


@pytest.mark.parametrize(
    ("name", "instrument", "n", "depth"),
    [
        ("bn_bookticker_only.gz", "BTCUSDT", 300, 1),
        ("bn_fut_depth20.gz", "BTCUSDT-PERP", 200, 10),
        ("bn_spot_depth20.gz", "BTCUSDT", 200, 10),
        ("bybit_collector.gz", "BTCUSDT", 100, 1),
        ("btc_fine_sizes.csv", "BTCUSDT", 300, 1),
        ("cl_20200420.csv", "CL", 600, 1),
        ("cl_20200420_head.csv", "CL", 190, 1),
        ("dbn_mbp10_pretty.csv", "GC", 400, 3),
        ("dbn_tbbo_pretty.csv", "GC", 400, 1),
        ("l2_json_cells.csv", "GC", 400, 3),
    ],
)
def test_every_row_is_a_book(name: str, instrument: str, n: int, depth: int) -> None:
    events, source = case(name, instrument)
    assert len(events) == n
    assert events["n_bid"].max() == depth
    assert not source.counts.quarantined  # type: ignore[attr-defined]


def test_formats_of_one_market_agree() -> None:
    books, _ = case("gc_base", "GC")
    books = books[books["flags"] & EventFlag.TRADE == 0]
    for name in ("dbn_mbp10_pretty.csv", "l2_json_cells.csv", "dbn_tbbo_pretty.csv"):
        other, _ = case(name, "GC")
        assert np.array_equal(tops(other), tops(books))


def test_trades_count_once_and_a_level_of_nothing_costs_no_row() -> None:
    base, _ = case("gc_base", "GC")
    assert np.abs(base["trade_qty"]).sum() == 257
    twice, source = case("gc_dupid", "GC")
    assert np.abs(twice["trade_qty"]).sum() == 257
    assert source.counts.quarantined == {Quarantine.DUPLICATE: 134}  # type: ignore[attr-defined]
    holed, source = case("gc_zero_level", "GC")
    assert not source.counts.quarantined  # type: ignore[attr-defined]
    assert np.array_equal(tops(holed), tops(base))


def test_an_early_close() -> None:
    events, source = case("aapl_halfday_20240703.csv", "AAPL")
    assert source.counts.quarantined == {Quarantine.CLOSED_HOURS: 1760}  # type: ignore[attr-defined]
    assert events["ts"].max() < np.datetime64("2024-07-03T17:00", "ns").astype(np.int64)


def test_new_york_time_over_the_change_to_summer() -> None:
    events, _ = case("btc_et_spring.csv", "BTCUSDT")
    assert events["ts"][0] == np.datetime64("2024-03-10T06:50", "ns").astype(np.int64)
    assert np.diff(events["ts"]).max() < 60 * 10**9


def test_a_stream_goes_on_in_its_next_file(data_dir: Path) -> None:
    days = sorted((data_dir / "crypto").glob("binance_spot__btcusdt_*"))
    events, source = read(days, "BTCUSDT", accept_losses=False)
    assert source.counts.gaps == 0
    assert (events["flags"] & EventFlag.GAP != 0).sum() == 1
    assert events["ts"][-1] > np.datetime64("2024-08-09T00:04", "ns").astype(np.int64)
    source = open_recording(days[1], find("BTCUSDT"))
    with pytest.raises(DataError, match="no snapshot fits"):
        list(source.batches())
