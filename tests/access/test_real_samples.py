"""Every recorded market and every sample at hand is read, or refused in one line that says why; the heads replay."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import zstandard

from emp.access.recordings.container import Item
from emp.access.recordings.source import open_recording
from emp.core.errors import DataError
from emp.core.instrument import find

pytestmark = pytest.mark.real_data

MARKETS = {
    "lobster/GOOG_*": "GOOG",
    "lobster/AAPL_*": "AAPL",
    "lobster/MSFT_*": "MSFT",
    "tsla/*": "TSLA",
    "cme/*": "GC",
    "sgx/*": "A50",
    "fx_ticks/EURUSD_oanda_20140501*": "EURUSD",
    "fx_ticks/EURUSD_fxcm_20140505*": "EURUSD",
    "fx_ticks/EURUSD_dukascopy*": "EURUSD",
    "fx_ticks/XAUUSD_oanda_20140501*": "XAUUSD",
    "fx_ticks/GBPJPY*1203*": "GBPJPY",
    "fx_ticks/XAGUSD*20120229*": "XAGUSD",
    "databento/*": "ES",
    "crypto/binance_spot*0808*": "BTCUSDT",
    "crypto/binance_usdm*0808*": "BTCUSDT-PERP",
    "crypto/bitstamp*": "BTCUSD",
    "crypto/coinbase*": "BTCUSD",
    "us_taq/BAC_20131007*": "BAC",
    "us_taq/IBM_20131007*": "IBM",
    "us_taq/TAQ_XXX*": "TAQ_XXX",
    "cffex_l1/*0104*": "IF2101",
    "cn_l2/SSE_510050*": "510050",
    "cn_l2/SZSE*": "SZSE_STOCK",
    "samples/binance-futures_book_snapshot_25*": "BTCUSDT",
    "samples/binance-futures_book_snapshot_5*": "BTCUSDT",
    "samples/btcusdt-quotes.parquet": "BTCUSDT",
    "samples/futures_mbp-1*": "ES",
    "samples/huobi-dm-swap*": "BTCUSD",
    "samples/orderbooks_mbo*": "ES",
    "samples/test_data.bbo-1s*": "ES",
    "samples/test_data.mbp-10.*": "ES",
    "samples/test_data.tbbo*": "ES",
    "samples/usdjpy*": "USDJPY",
    "samples/xrpusdt-ob500*": "XRPUSDT",
}
"""Files, and the instrument that they hold."""

REFUSED = {
    "samples/bitmex_trades*": ("BTCUSD", "holds trades alone"),
    "samples/btcusdt-depth-snap*": ("BTCUSDT-PERP", "side without a price"),
    "samples/btcusdt-depth-update*": ("BTCUSDT-PERP", "change a book that is not known"),
    "samples/deribit_incremental*": ("BTC-PERPETUAL", "side without a price"),
    "samples/futures_trades*": ("ES", "trades hold no book"),
    "samples/test_data.mbo.dbz": ("ES", "change a book that is not known"),
    "samples/test_data.ohlcv*": ("ES", "bars .* hold no book"),
    "samples/test_data.trades*": ("ES", "trades hold no book"),
}
"""Samples that hold no whole book."""

HEAD_LINES = 3_000


def head_of(path: Path, folder: Path) -> Path:
    """The first lines of a text, unpacked; a file of another kind as it is."""
    if path.suffix not in (".zst", ".gz") or ".dbn" in path.name:
        return path
    data = Item(path).head(1 << 21 if "taq" not in str(path.parent) else 1 << 28)
    lines = data.split(b"\n")
    # a tape begins at four in the morning: its middle is of the session
    middle = len(lines) // 2 if "taq" in str(path.parent) else 0
    lines = lines[:1] * (not lines[0][:1].isdigit() and middle > 0) + lines[middle : middle + HEAD_LINES]
    target = folder / path.name.removesuffix(".zst").removesuffix(".gz")
    target.write_bytes(b"\n".join(lines) + b"\n")
    return target


@pytest.mark.parametrize("pattern", MARKETS)
def test_the_head_of_every_market_is_read(pattern: str, data_dir: Path, tmp_path: Path) -> None:
    files = [head_of(path, tmp_path) for path in sorted(data_dir.glob(pattern))]
    assert files
    # a head is short: a closing auction or an odd first minute weighs more in it than in a day
    source = open_recording(files, find(MARKETS[pattern]), accept_losses=True)
    events = np.concatenate(list(source.batches()))
    counts = source.counts
    assert counts.rows == counts.events + counts.merged + counts.quarantined.total()
    assert counts.events == len(events) > 0
    assert (np.diff(events["ts"]) >= 0).all()
    assert (events["bid_px"][:, 0] < events["ask_px"][:, 0]).all()
    assert len(counts.formats) >= 1


@pytest.mark.parametrize("pattern", REFUSED)
def test_samples_without_a_whole_book_are_refused(pattern: str, data_dir: Path) -> None:
    instrument, why = REFUSED[pattern]
    files = sorted(data_dir.glob(pattern))
    assert files
    with pytest.raises(DataError, match=why) as error:
        list(open_recording(files, find(instrument)).batches())
    assert "\n" not in str(error.value)


def test_every_file_at_hand_is_named_here(data_dir: Path) -> None:
    markets = (
        "lobster",
        "tsla",
        "cme",
        "sgx",
        "fx_ticks",
        "databento",
        "crypto",
        "us_taq",
        "cffex_l1",
        "cn_l2",
        "samples",
    )
    there = {
        path
        for folder in markets
        for path in (data_dir / folder).glob("*")
        if path.suffix not in (".txt", ".md")
    }
    named = {path for pattern in (*MARKETS, *REFUSED) for path in data_dir.glob(pattern)}
    kinds = {path.name.split("_")[0].split("-")[0] for path in named}
    assert {path for path in there - named if path.name.split("_")[0].split("-")[0] not in kinds} == set()


def test_a_long_window_and_a_split_stream(data_dir: Path, tmp_path: Path) -> None:
    path = next((data_dir / "crypto").glob("coinbase*"))
    whole = Item(path).head(1 << 22)
    packed = tmp_path / path.name
    packed.write_bytes(zstandard.ZstdCompressor(level=3, compression_params=None).compress(whole))
    assert Item(packed).head(1 << 22) == whole
    again = tmp_path / "twice.gz"
    again.write_bytes(gzip.compress(whole[:1000]) + gzip.compress(whole[1000:]))
    assert Item(again).head(1 << 22) == whole
