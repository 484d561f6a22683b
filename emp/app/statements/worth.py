"""What a broker's words and our ticks mean: which instrument a symbol is, and what ticks are worth in an account."""

from collections.abc import Mapping

from emp.access.recordings.mapping import folded
from emp.app.statements.ours import Ours
from emp.core.instrument import Instrument


class Names:
    """The instruments of a broker's symbols."""

    def __init__(self, instruments: Mapping[str, Instrument], symbols: Mapping[str, str]) -> None:
        self.instruments = instruments
        self._by = {_plain(alias): one for one in instruments.values() for alias in (one.name, *one.symbols)}
        self._by |= {_plain(a): instruments[b] for a, b in symbols.items() if b in instruments}

    def find(self, symbol: str) -> Instrument | None:
        """The instrument, also where a suffix says which kind of account it is of (EURUSD.r, EURUSDm)."""
        plain = _plain(symbol)
        if not plain and len(self.instruments) == 1:
            return next(iter(self.instruments.values()))
        known = self._by.get(plain) or self._by.get(_plain(symbol.split(".")[0]))
        return known or self._by.get(plain[:-1])


def _plain(symbol: str) -> str:
    return "".join(c for c in folded(symbol) if c.isalnum())


class Worth:
    """What ticks are worth in the account's currency."""

    def __init__(self, ours: Ours, currency: str, rates: Mapping[str, float]) -> None:
        self.currency = currency or ours.currency
        self._instruments, self._rates, self._told = ours.instruments, rates, ours.rates

    def unit(self, instrument: str, ts: int, px: float, currency: str = "") -> tuple[float, bool] | None:
        """(money of a tick times a lot, whether it was converted); None where nothing says at which rate.

        `currency` is that of the row beside which it stands, where it tells one; `px` is in ticks.
        """
        one, wanted = self._instruments[instrument], currency or self.currency
        unit = one.tick * one.point_value
        quote = one.currencies[-1] if one.currencies else ""
        if not wanted or not quote or quote == wanted:
            return unit, False
        if one.currencies[0] == wanted and px > 0:  # the price itself converts
            return unit / (px * one.tick), True
        rate = self._rates.get(quote) or self._newest(quote, ts)
        return (unit * rate, True) if rate and wanted == self.currency else None

    def _newest(self, currency: str, ts: int) -> float | None:
        """The newest rate that was told before."""
        told = [one.value for one in self._told if one.currency == currency and one.ts <= ts]
        return told[-1] if told else None
