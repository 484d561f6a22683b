"""The recordings that the shipped model is made from, so that it can be made again."""

from pathlib import Path

from emp.core.errors import DataError
from emp.core.recorded import recordings_folder
from emp.train.data.data import Series, parse_series

SHIPPED = (
    "GOOG=lobster/GOOG_2012-06-21_34200000_57600000_message_10.csv*",
    "GC=cme/GC_XAUUSD_20230501_book5.csv*",
    "EURUSD=fx_ticks/EURUSD_oanda_201405*.csv*",
    "XAUUSD=fx_ticks/XAUUSD_oanda_201405*.csv*",
    "EURUSD=fx_ticks/EURUSD_dukascopy_20190204.csv*",
)
"""Series of the shipped model, below the folder of recorded markets; each is split by time as any other."""

UNSEEN = (
    "AAPL=lobster/AAPL_2012-06-21_34200000_57600000_message_1.csv*",
    "TSLA=tsla/TSLA_20150129_0930_1200_exchange_events.csv*",
    "ES=databento/esh4-glbx-mdp3-20231225.mbo.dbn.zst",
)
"""Series of which the shipped model has seen nothing: all of each is a test part."""

NEW = ("GBPJPY=fx_ticks/GBPJPY_dukascopy_201212*.csv*",)
"""A market of spot FX of which the shipped model has seen nothing, to be adapted to."""

ALIGNED = (
    "GOOG=lobster/GOOG_2012-06-21_34200000_57600000_message_10.csv*",
    "GC=cme/GC_XAUUSD_20230501_book5.csv*",
    "EURUSD=fx_ticks/EURUSD_dukascopy_20190204.csv*",
    "BTCUSDT=crypto/binance_spot__btcusdt_20240808.jsonl*",
)
"""Series between which the inputs are compared: an equity, a future, spot FX with sizes, and a coin."""


def recorded_markets() -> Path:
    """The folder of recorded markets, which must be there."""
    folder = recordings_folder()
    if not folder.is_dir():
        raise DataError(f"{folder}: no recorded markets there: set EMP_DATA, or name recordings with --data")
    return folder


def recipe(names: tuple[str, ...]) -> list[Series]:
    """Series of a recipe, found below the folder of recorded markets."""
    folder = recorded_markets()
    return [parse_series(f"{left}={folder / right}") for left, _, right in (n.partition("=") for n in names)]
