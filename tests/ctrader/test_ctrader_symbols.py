"""Prices, volumes and names between the venue's terms and ours."""

import msgspec
import pytest
from ctrader_rig import EURUSD, XAUUSD
from hypothesis import given
from hypothesis import strategies as st

from emp.access.ctrader.limits import SECOND_NS, RateLimit
from emp.access.ctrader.parts import ProtoOALightSymbol, ProtoOASymbol
from emp.access.ctrader.symbols import Terms, find_symbol, make_terms
from emp.core.errors import VenueError
from emp.core.instrument import Instrument


def terms(instrument: Instrument, digits: int) -> Terms:
    symbol = ProtoOASymbol(symbol_id=1, digits=digits, pip_position=2)
    return make_terms(0, instrument, ProtoOALightSymbol(symbol_id=1), symbol)


def test_prices_go_to_the_venue_as_decimals() -> None:
    assert terms(EURUSD, 5).price(110_003, 1) == 1.10003
    assert terms(msgspec.structs.replace(EURUSD, tick=0.001), 3).price(149_123, -1) == 149.123


def test_a_price_finer_than_the_venue_s_digits_is_never_rounded_to_our_loss() -> None:
    gold = terms(XAUUSD, 2)
    assert gold.price(2_000_127, 1) == 2000.12
    assert gold.price(2_000_123, -1) == 2000.13
    assert gold.price(2_000_120, 1) == gold.price(2_000_120, -1) == 2000.12


@given(st.integers(1, 10_000_000), st.sampled_from([1, -1]))
def test_prices_come_back_as_they_went(px: int, side: int) -> None:
    t = terms(EURUSD, 5)
    assert t.ticks(t.price(px, side)) == px


def test_a_price_below_zero_is_none() -> None:
    assert terms(EURUSD, 5).ticks(0.0) == 0
    with pytest.raises(VenueError, match=r"EURUSD: the venue speaks of a price of -1\.1, which cannot be"):
        terms(EURUSD, 5).ticks(-1.1)


def test_volumes_are_whole_lots() -> None:
    t = terms(EURUSD, 5)
    assert t.lots(300_000) == 3
    with pytest.raises(VenueError, match="no whole number of lots"):
        t.lots(150_000)


@pytest.mark.parametrize(
    ("changes", "digits", "what"),
    [
        ({"tick": 0.000001}, 5, "tick"),
        ({"tick": 0.000015}, 5, "tick"),
        ({"lot": 0.001}, 5, "lot"),
        ({}, 6, "digits"),
    ],
)
def test_grids_that_do_not_fit_are_refused(changes: dict[str, float], digits: int, what: str) -> None:
    with pytest.raises(VenueError, match=what):
        terms(msgspec.structs.replace(EURUSD, **changes), digits)


def test_symbols_are_found_by_name_without_guessing() -> None:
    def named(*names: str) -> tuple[ProtoOALightSymbol, ...]:
        return tuple(ProtoOALightSymbol(symbol_id=i, symbol_name=n) for i, n in enumerate(names))

    assert find_symbol(EURUSD, named("GBPUSD", "EUR/USD")).symbol_id == 1
    assert find_symbol(EURUSD, named("EUR/USD", "EURUSD")).symbol_id == 1
    with pytest.raises(VenueError, match="has 2 symbols"):
        find_symbol(EURUSD, named("EUR/USD", "eurusd"))
    with pytest.raises(VenueError, match="has no symbol"):
        find_symbol(EURUSD, named("EURUSDT"))


@given(st.lists(st.integers(0, 400_000_000), min_size=1, max_size=300))
def test_no_window_of_a_second_sees_more_than_the_limit(gaps: list[int]) -> None:
    limit = RateLimit(7)
    now, sent = 1, []
    for gap in gaps:
        now = max(now + gap // 8, limit.free_at())
        limit.take(now)
        sent.append(now)
    for i in range(7, len(sent)):
        assert sent[i] - sent[i - 7] > SECOND_NS
