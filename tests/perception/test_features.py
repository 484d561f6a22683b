"""Every feature against a slow, separate calculation from its published definition."""

from typing import Any

import numpy as np
import pytest

from emp.core.codes import EventFlag, Quarantine, Session
from emp.core.records import DEPTH_FEATURES, MARKET_STATE, Array
from emp.perception.depth import slope_and_curve
from emp.perception.features import NO_VISIBLE_CHANGE, BookFeatures, perceive_book
from emp.perception.normalise import CLIP, INPUT_NAMES, INPUTS
from emp.perception.state import CELLS, FLOW_SPAN, LONG_GAP_NS, SCALE_SPAN, new_perception
from tests.kit.events import open_all_day, random_encoder, random_events


def run(
    events: Array, sessions: Array | None = None, encoder: Array | None = None
) -> tuple[Array, Array, Any, list[int]]:
    sessions = open_all_day() if sessions is None else sessions
    encoder = random_encoder() if encoder is None else encoder
    p = new_perception()
    states, inputs = np.zeros(len(events), MARKET_STATE), np.zeros((len(events), INPUTS), np.float32)
    codes = [
        perceive_book(BookFeatures(encoder), p[0], events[k], sessions, 3, states[k], inputs[k])
        for k in range(len(events))
    ]
    return states, inputs, p[0], codes


def reference_flow(events: Array) -> list[float]:
    """Cont-Kukanov-Stoikov order flow of visible events, with the trade's sign on the side that it hit."""
    flows, before = [], None
    for e in events:
        if not e["flags"] & EventFlag.VISIBLE:
            continue
        b, qb, a, qa = (int(e[n][0]) for n in ("bid_px", "bid_sz", "ask_px", "ask_sz"))
        b0, qb0, a0, qa0 = (b, qb, a, qa) if before is None else before
        bid = (qb if b > b0 else qb - qb0 if b == b0 else -qb0) * 1.0
        ask = (-qa if a < a0 else qa0 - qa if a == a0 else qa0) * 1.0
        if e["flags"] & EventFlag.TRADE:
            if e["trade_qty"] > 0:
                ask = max(ask, float(e["trade_qty"]))
            else:
                bid = min(bid, float(e["trade_qty"]))
        flows.append(bid + ask)
        before = (b, qb, a, qa)
    return flows


@pytest.mark.parametrize("seed", range(3))
def test_touch_features_follow_their_definitions(seed: int) -> None:
    events = random_events(300, seed)
    states, _, _, codes = run(events)
    flow = scale = 0.0
    expected = iter(reference_flow(events))
    count = 0
    for k, event in enumerate(events):
        if codes[k] == NO_VISIBLE_CHANGE:
            assert not event["flags"] & EventFlag.VISIBLE
            flow += float(event["trade_qty"])
            continue
        bid, ask = int(event["bid_px"][0]), int(event["ask_px"][0])
        qb, qa = float(event["bid_sz"][0]), float(event["ask_sz"][0])
        micro = (ask * qb + bid * qa) / (qb + qa)
        count += 1
        flow = flow * (1 - 2 / (FLOW_SPAN + 1)) + next(expected)
        scale += (abs(flow) - scale) / min(count, SCALE_SPAN)
        assert states[k]["spread_ticks"] == ask - bid
        assert states[k]["microprice_off"] == pytest.approx((micro - (bid + ask) / 2) / (ask - bid), abs=1e-6)
        assert states[k]["qimbalance"] == pytest.approx((qb - qa) / (qb + qa), abs=1e-6)
        assert states[k]["ofi_norm"] == pytest.approx(flow / scale if scale else 0.0, rel=1e-5, abs=1e-6)
        assert states[k]["venue_id"] == 3
        assert states[k]["seq"] == event["seq"]


def test_sigma_is_the_past_only_mean_of_absolute_mid_moves() -> None:
    events = random_events(400, 5, hidden=0.0)
    _, _, p, _ = run(events)
    mid = (events["bid_px"][:, 0] + events["ask_px"][:, 0]) / 2
    moves = np.abs(np.diff(mid, prepend=mid[0]))
    assert p["sigma_ticks"] == pytest.approx(moves.mean(), rel=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 3, 10])
def test_slope_and_curve_are_the_least_squares_fit_through_the_touch(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for sign in (-1, 1):
        px = 5_000 + sign * np.concatenate(([0], np.cumsum(rng.integers(1, 6, 9)))).astype(np.int64)
        sz = rng.integers(1, 90, 10).astype(np.int64)
        slope, curve = slope_and_curve(px, sz, levels)
        if levels == 1:
            assert (slope, curve) == (0.0, 0.0)
            continue
        x = np.abs(px[1:levels] - px[0]).astype(float)
        cumulative = np.cumsum(sz[:levels])
        y = (cumulative[1:] - cumulative[0]) / cumulative[-1]
        columns = np.stack([x, x * x], axis=1)[:, : 1 if levels == 2 else 2]
        fit = np.linalg.lstsq(columns, y, rcond=None)[0]
        assert slope == pytest.approx(fit[0], rel=1e-6)
        assert curve == pytest.approx(fit[1] if levels > 2 else 0.0, rel=1e-5, abs=1e-12)


def reference_depth(event: Any, encoder: Any, width: float, scale: float) -> Array:
    """Convolution, gate and pool with NumPy's own convolution, side by side, best price first."""
    features = []
    for px, sz, n in (("bid_px", "bid_sz", "n_bid"), ("ask_px", "ask_sz", "n_ask")):
        cells = np.zeros(CELLS)
        for level in range(int(event[n])):
            cell = int(abs(int(event[px][level]) - int(event[px][0])) / width)
            if cell < CELLS:
                cells[cell] += event[sz][level]
        cells = np.pad(cells / (cells + scale), 1)
        for c in range(encoder["value"].shape[0]):
            value = np.convolve(cells, encoder["value"][c][::-1], "valid") + encoder["value_bias"][c]
            gate = np.convolve(cells, encoder["gate"][c][::-1], "valid") + encoder["gate_bias"][c]
            features += list((value / (1 + np.exp(-gate))).reshape(-1, CELLS // 2).mean(axis=1))
    return np.array(features)


def test_depth_features_share_one_encoder_with_the_ask_axis_flipped() -> None:
    events = random_events(50, 9, levels=8, hidden=0.0)
    encoder = random_encoder(4)
    p, sessions = new_perception(), open_all_day()
    state, x = np.zeros(1, MARKET_STATE), np.zeros(INPUTS, np.float32)
    for event in events:
        perceive_book(BookFeatures(encoder), p[0], event, sessions, 0, state[0], x)
        width, scale = max(1.0, np.floor(p[0]["level_gap"] + 0.5)), max(1.0, p[0]["level_size"])
        expected = reference_depth(event, encoder[0], width, scale)
        assert state[0]["has_depth"]
        np.testing.assert_allclose(state[0]["depth_feat"], expected, rtol=2e-5, atol=2e-6)
        mirrored = event.copy()
        for a, b in (("bid_px", "ask_px"), ("bid_sz", "ask_sz"), ("n_bid", "n_ask")):
            mirrored[a], mirrored[b] = -event[b], -event[a]
        mirrored["bid_sz"], mirrored["ask_sz"] = event["ask_sz"], event["bid_sz"]
        mirrored["n_bid"], mirrored["n_ask"] = event["n_ask"], event["n_bid"]
        swapped = reference_depth(mirrored, encoder[0], width, scale)
        np.testing.assert_allclose(np.roll(swapped, DEPTH_FEATURES // 2), expected, rtol=1e-9)


def test_without_depth_every_depth_feature_is_exactly_zero() -> None:
    events = random_events(40, 2, levels=1, hidden=0.0)
    events["flags"] |= np.uint32(EventFlag.NO_DEPTH)
    states, inputs, _, _ = run(events)
    assert not states["has_depth"].any()
    for name in ("depth_feat", "slope_bid", "slope_ask", "curve_bid", "curve_ask"):
        assert np.all(states[name] == 0.0)
    for i, name in enumerate(INPUT_NAMES):
        if name.startswith(("depth_", "slope", "curve", "has_depth")):
            assert np.all(inputs[:, i] == 0.0), name


def test_without_sizes_imbalance_is_zero_and_flow_counts_quote_moves() -> None:
    events = random_events(60, 3, levels=1, trades=0.0, hidden=0.0)
    for name in ("bid_sz", "ask_sz"):
        events[name] = 0
    events["flags"] |= np.uint32(EventFlag.NO_SIZE | EventFlag.NO_DEPTH)
    states, _, p, codes = run(events)
    assert set(codes) == {0}
    assert np.all(states["qimbalance"] == 0.0)
    assert np.all(states["microprice_off"] == 0.0)
    signs = np.sign(np.diff(events["bid_px"][:, 0])) + np.sign(np.diff(events["ask_px"][:, 0]))
    flow = 0.0
    for sign in signs:
        flow = flow * (1 - 2 / (FLOW_SPAN + 1)) + sign
    assert p["flow"] == pytest.approx(flow, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n_bid": 0}, Quarantine.ONE_SIDED),
        ({"n_ask": 0}, Quarantine.ONE_SIDED),
        ({"bid_px": 10_500}, Quarantine.CROSSED),
        ({"bid_px": "ask"}, Quarantine.LOCKED),
        ({"ask_sz": 0}, Quarantine.ABSURD_SIZE),
        ({"bid_sz": -1}, Quarantine.ABSURD_SIZE),
    ],
)
def test_a_book_that_cannot_be_is_quarantined_and_no_flow_crosses_it(
    change: dict[str, Any], reason: Quarantine
) -> None:
    events = random_events(30, 1, hidden=0.0, trades=0.0)
    for name, value in change.items():
        value = events[15]["ask_px"][0] if value == "ask" else value
        if events[15][name].ndim:
            events[15][name][0] = value
        else:
            events[15][name] = value
    p, sessions, encoder = new_perception(), open_all_day(), random_encoder()
    state, x = np.zeros(1, MARKET_STATE), np.zeros(INPUTS, np.float32)
    for k, event in enumerate(events):
        before = p[0]["flow"]
        code = perceive_book(BookFeatures(encoder), p[0], event, sessions, 0, state[0], x)
        assert code == (reason if k == 15 else 0)
        assert bool(p[0]["has_book"]) is (k != 15)
        if k == 16:  # its own predecessor: what is left is the decayed flow of before
            assert p[0]["flow"] == pytest.approx(before * (1 - 2 / (FLOW_SPAN + 1)), rel=1e-12)


def test_gaps_halts_sessions_and_long_pauses_reset_what_is_remembered() -> None:
    events = random_events(80, 6, hidden=0.0)
    events[20]["flags"] |= EventFlag.GAP
    events[40]["flags"] |= EventFlag.HALT
    events[50]["flags"] |= EventFlag.RESUME
    events["ts"][60:] += LONG_GAP_NS
    p, sessions, encoder = new_perception(), open_all_day(), random_encoder()
    state, x = np.zeros(1, MARKET_STATE), np.zeros(INPUTS, np.float32)
    for k, event in enumerate(events):
        perceive_book(BookFeatures(encoder), p[0], event, sessions, 0, state[0], x)
        assert bool(p[0]["since_reset"] == 1) is (k in (0, 20, 40, 50, 60)), k
        assert state[0]["session_id"] == (Session.HALT if 40 <= k < 50 else Session.NY)


def test_liquidity_bucket_knows_previous_days_only() -> None:
    events = random_events(900, 8, hidden=0.0)
    day_ns = 86_400_000_000_000
    third = len(events) // 3
    for d, factor in enumerate((1, 1, 50)):
        part = slice(d * third, (d + 1) * third)
        events["ts"][part] = events["ts"][:third] + d * day_ns
        events["bid_sz"][part] *= factor
        events["ask_sz"][part] *= factor
    sessions = np.concatenate([open_all_day() for _ in range(3)])
    for d in range(3):
        sessions[d]["start"], sessions[d]["day"] = (0 if d == 0 else events["ts"][d * third] - 1), d + 1
    states, _, _, _ = run(events, sessions)
    assert np.all(states["liquidity_id"][:third] == 1), "no previous day: the middle bucket"
    assert states["liquidity_id"][-1] == 2, "fifty times the size of the days before is high"
    tail = run(np.concatenate([events[: 2 * third], events[:1]]), sessions)[0]
    np.testing.assert_array_equal(tail["liquidity_id"][: 2 * third], states["liquidity_id"][: 2 * third])


def test_inputs_are_bounded_and_use_earlier_events_only() -> None:
    events = random_events(500, 11)
    _, inputs, _, _ = run(events)
    assert np.isfinite(inputs).all()
    assert np.abs(inputs[:, :12]).max() <= CLIP
    changed = events.copy()
    changed[300:] = random_events(200, 12)
    changed["ts"][300:] = events["ts"][300:]
    _, again, _, _ = run(changed)
    np.testing.assert_array_equal(again[:300], inputs[:300])


def test_an_auction_print_has_no_aggressor_and_makes_no_flow() -> None:
    events = random_events(200, 13)
    plain = events.copy()
    traded = (events["flags"] & EventFlag.TRADE) != 0
    events["flags"][traded] |= np.uint32(EventFlag.AUCTION)
    plain["flags"][traded] &= np.uint32(EventFlag.VISIBLE)
    auction, without = run(events)[0], run(plain)[0]
    visible = without["seq"] > 0
    np.testing.assert_array_equal(auction["ofi_norm"][visible], without["ofi_norm"][visible])
