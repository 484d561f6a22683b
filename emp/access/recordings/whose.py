"""Whether a file speaks of the instrument it is read as: names as vendors write them, compared."""

import re

from emp.core.errors import DataError
from emp.core.instrument import Instrument

_MONTHS = "FGHJKMNQUVXZ"
_CONTRACT = re.compile(rf"[{_MONTHS}]\d{{1,4}}")
_KINDS = re.compile(r"[-_./:]?(PERP|PERPETUAL|SWAP|SPOT|FUT|USDM|COINM|LINEAR|INVERSE)$")
_VENUE = re.compile(r"^[A-Z0-9_-]+:|\.[A-Z][A-Z0-9_]{2,}$")


def squeezed(name: str) -> str:
    """A symbol without case and punctuation."""
    return re.sub(r"[^A-Z0-9\u4e00-\u9fff]", "", name.upper())


def is_of(symbol: str, instrument: Instrument) -> bool:
    """Whether a file's symbol may mean the instrument.

    They are equal but for case and punctuation (EUR/USD, BTC-USDT), for what says the kind of a crypto contract
    (BTCUSDT of BTCUSDT-PERP), for a venue (AAPL.XNAS), for a futures contract's month (ESH4, ES.FUT, ES.c.0 of ES);
    or the catalogue lists the symbol under `symbols`.
    """
    names = (instrument.name, *instrument.symbols)
    return any(_alike(symbol, name) for name in names)


def _alike(symbol: str, name: str) -> bool:
    bare, wanted = symbol.upper().strip(), name.upper()
    forms = {squeezed(bare), squeezed(_KINDS.sub("", bare)), squeezed(_VENUE.sub("", bare))}
    targets = {squeezed(wanted), squeezed(_KINDS.sub("", wanted))}
    if forms & targets:
        return True
    root = squeezed(wanted)
    rest = bare.removeprefix(root)
    if rest == bare:
        return False
    return bool(_CONTRACT.fullmatch(rest) or re.fullmatch(r"\.(FUT|OPT|[CNV]\.\d+)", rest))


def refuse_unless(symbol: str, instrument: Instrument, label: str) -> None:
    """Raise where a file names another instrument."""
    if symbol and not is_of(symbol, instrument):
        raise DataError(not_of([symbol], instrument, label))


def not_of(symbols: list[str], instrument: Instrument, label: str) -> str:
    """The line that says whose data it is."""
    shown = ", ".join(symbols[:5]) + (" …" if len(symbols) > 5 else "")
    return (
        f"{label}: holds {shown}, not {instrument.name}; name the right --instrument, or list the name under "
        f"'symbols' of {instrument.name} in a --catalogue"
    )
