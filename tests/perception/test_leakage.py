"""Nothing looks into the future: a recording whose future is noise gives the same bytes up to that point.

`untouched` carries a recording and a copy of it, whose events after a random cut are replaced by noise, through
perception and labelling, and demands bit-equal features, tokens, inputs and state up to the cut, and bit-equal
labels, priors and baselines as far as they are known before it.
"""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.access.recordings import open_recording
from emp.core.codes import EventFlag
from emp.core.instrument import find
from emp.core.records import HORIZONS, Array
from emp.engine.own_model import Features
from emp.perception.state import new_perception
from emp.perception.targets import NO_LABEL, classes, daily_priors, segments, targets, unit_ticks
from emp.train.data.own_table import own_columns
from emp.train.data.table import FeatureTable, extract_features, random_encoder
from emp.train.judge.baselines import known_rows, last_known_label
from emp.train.judge.masking import noise_after
from tests.kit.events import random_events

GOOG = find("GOOG")
ENCODER = random_encoder(np.random.default_rng(5))
THRESHOLD = np.full(HORIZONS, 0.1)

See = Callable[[Array], FeatureTable]


def see(events: Array) -> FeatureTable:
    return extract_features([events], GOOG, ENCODER)


def label(seen: FeatureTable) -> dict[str, Array]:
    """Everything that is derived from what will be, with when it is known."""
    rows, ts = seen.rows, seen.states["ts"]
    unit = unit_ticks(seen.states["spread_ticks"], rows["sigma_ticks"], 0.5)
    found = targets(rows["bid"] + rows["ask"], ts, unit, segments(rows["since_reset"]))
    named = classes(found.delta_hat, THRESHOLD)
    last = [last_known_label(named[:, h], known_rows(found, ts, h)) for h in range(HORIZONS)]
    return {
        "delta_hat": found.delta_hat,
        "known_ns": found.known_ns,
        "classes": named,
        "last_known": np.stack(last, axis=1),
        "unit": unit,
    }


def same_bytes(name: str, a: Array, b: Array) -> None:
    assert a.dtype == b.dtype, name
    assert a.shape == b.shape, name
    for field in a.dtype.names or (None,):
        mine, other = (a, b) if field is None else (a[field], b[field])
        assert np.ascontiguousarray(mine).tobytes() == np.ascontiguousarray(other).tobytes(), (
            f"{name} {field or ''}"
        )


def untouched(events: Array, cut: int, rng: np.random.Generator, see: See = see) -> None:
    """Assert that noise after the cut changes nothing that was known before it."""
    noised = noise_after(events, cut, rng)
    before, after = see(events), see(noised)
    n = len(see(events[:cut]).rows)
    for name in ("states", "x", "rows"):
        same_bytes(name, getattr(before, name)[:n], getattr(after, name)[:n])
    m = int(before.states["has_depth"][:n].sum())
    same_bytes("cells", before.cells[:m], after.cells[:m])

    first, second = label(before), label(after)
    for name in ("unit", "last_known"):
        same_bytes(name, first[name][:n], second[name][:n])
    last_ns = events["ts"][cut - 1] if cut else -1
    known = (first["known_ns"][:n] > 0) & (first["known_ns"][:n] <= last_ns)
    also = (second["known_ns"][:n] > 0) & (second["known_ns"][:n] <= last_ns)
    same_bytes("known", known, also)
    for name in ("delta_hat", "known_ns", "classes"):
        same_bytes(name, first[name][:n][known], second[name][:n][known])
    days = [row["day"] for row in (before.rows[:n], after.rows[:n])]
    priors = [
        daily_priors(data["classes"][:n], data["known_ns"][:n], seen.states["ts"][:n], day)
        for data, seen, day in zip((first, second), (before, after), days, strict=True)
    ]
    assert priors[0].keys() == priors[1].keys()
    for day in priors[0]:
        same_bytes("prior", priors[0][day], priors[1][day])


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 400), levels=st.sampled_from([1, 5, 10]))
def test_noise_in_the_future_changes_nothing_known(seed: int, cut: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    events = random_events(400, seed, levels)
    if levels == 1:
        events["flags"] |= int(EventFlag.NO_DEPTH) | (int(EventFlag.NO_SIZE) if seed % 2 else 0)
    over_days = rng.random(400) < 0.01
    events["ts"] += np.cumsum(over_days * rng.integers(0, 20 * 3_600, 400)) * 10**9  # gaps, sessions, days
    untouched(events, cut, rng)


def own(seen: Any, own: Any, mine: Any) -> None:
    """Own inputs of all that features are shown."""
    mine[0] = 0.9 * mine[0] + seen.qimbalance
    own[0], own[1] = mine[0], seen.sigma_ticks + seen.stale_ms + seen.trade_qty + seen.since_reset
    own[2] = seen.bid_px[0] - seen.ask_px[0] + seen.bid_sz[9] + seen.depth_feat[3] + seen.refresh_hz


OWN = Features(own, ["lean", "told", "shape"], memory=1)


def see_own(events: Array) -> FeatureTable:
    seen = see(events)
    return seen._replace(x=np.hstack([seen.x, own_columns([events], GOOG, ENCODER, OWN)]))


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 300))
def test_noise_in_the_future_changes_nothing_of_own_features(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    events = random_events(300, seed)
    events["ts"] += np.cumsum((rng.random(300) < 0.01) * rng.integers(0, 20 * 3_600, 300)) * 10**9
    untouched(events, cut, rng, see_own)


def test_own_features_do_not_depend_on_how_a_stream_is_cut_into_batches() -> None:
    events = random_events(300, 4)
    whole = own_columns([events], GOOG, ENCODER, OWN)
    parts = own_columns(np.split(events, [0, 7, 130, 131]), GOOG, ENCODER, OWN)
    same_bytes("own inputs", whole, parts)
    assert np.abs(whole).max() > 0


def test_the_check_catches_own_features_that_are_shown_the_next_event() -> None:
    def leaky(events: Array) -> FeatureTable:
        seen = see_own(events)
        return seen._replace(x=np.roll(seen.x, -1, axis=0))

    with pytest.raises(AssertionError, match="x"):
        untouched(random_events(300, 6), 150, np.random.default_rng(6), leaky)


def smoothed(seen: FeatureTable, name: str, window: Callable[[Array], Array]) -> FeatureTable:
    rows = seen.rows.copy()
    rows[name] = window(rows[name])
    return seen._replace(rows=rows)


def test_the_check_catches_a_centred_window() -> None:
    def leaky(events: Array) -> FeatureTable:
        return smoothed(see(events), "sigma_ticks", lambda v: np.convolve(v, np.full(5, 0.2), "same"))

    with pytest.raises(AssertionError, match="rows sigma_ticks"):
        untouched(random_events(300, 1), 150, np.random.default_rng(1), leaky)


def test_the_check_catches_a_scale_taken_over_the_whole_day() -> None:
    def leaky(events: Array) -> FeatureTable:
        seen = see(events)
        return seen._replace(x=seen.x / seen.x.std(axis=0).clip(1e-3))

    with pytest.raises(AssertionError, match="x"):
        untouched(random_events(300, 2), 150, np.random.default_rng(2), leaky)


def test_the_check_catches_a_label_that_is_called_known_too_early() -> None:
    def leaky(events: Array) -> FeatureTable:
        seen = see(events)
        states = seen.states.copy()
        states["ts"] -= 10 * (states["ts"] - states["ts"][0]) // 11  # time runs at an eleventh of its pace
        return seen._replace(states=states)

    with pytest.raises(AssertionError):
        untouched(random_events(300, 3), 150, np.random.default_rng(3), leaky)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), pieces=st.integers(2, 12))
def test_the_cut_of_a_stream_into_batches_does_not_matter(seed: int, pieces: int) -> None:
    events = random_events(300, seed)
    edges = np.sort(np.random.default_rng(seed).integers(0, 300, pieces))
    p, q = new_perception(), new_perception()
    whole, parts = (
        extract_features([events], GOOG, ENCODER, p),
        extract_features(np.split(events, edges), GOOG, ENCODER, q),
    )
    for name in FeatureTable._fields:
        same_bytes(name, getattr(whole, name), getattr(parts, name))
    p["session_row"] = q["session_row"] = 0  # place in the batch's own calendar
    same_bytes("perception", p, q)


@pytest.fixture(scope="module")
def goog_events(data_dir: Path) -> Array:
    source = open_recording([data_dir / "lobster/GOOG_2012-06-21_34200000_57600000_message_10.csv.zst"], GOOG)
    events = np.concatenate(list(islice(source.batches(), 10)))[:20_000]
    assert len(events) == 20_000  # however few rows a batch has
    return events


@pytest.mark.real_data
@pytest.mark.parametrize("cut", [0, 1, 513, 7_777, 19_999])
def test_a_real_day_whose_future_is_noise(goog_events: Array, cut: int) -> None:
    untouched(goog_events, cut, np.random.default_rng(cut))


@pytest.mark.real_data
def test_a_recorded_file_whose_tail_is_another_day(data_dir: Path, tmp_path: Path) -> None:
    """From the bytes of the file on: reading, merging of sweeps, perception."""
    from emp.access.recordings.container import items

    name = "GOOG_2012-06-21_34200000_57600000_{}_10.csv"
    head, tail = {}, {}
    for kind in ("message", "orderbook"):
        item = items(data_dir / "lobster" / (name.format(kind) + ".zst"))[0]
        text = b""
        with item.open() as stream:
            while text.count(b"\n") < 12_000:
                text += stream.read()
        lines = text.split(b"\n")
        head[kind], tail[kind] = lines[:4_000], lines[4_000:12_000]
    times = [line.split(b",", 1) for line in tail["message"]]
    last = float(head["message"][-1].split(b",", 1)[0])
    variants = []
    for stride, folder in ((1, tmp_path / "a"), (2, tmp_path / "b")):
        folder.mkdir()
        keep = [k for k in range(0, 8_000, stride) if float(times[k][0]) > last]
        for kind in ("message", "orderbook"):
            (folder / name.format(kind)).write_bytes(
                b"\n".join(head[kind] + [tail[kind][k] for k in keep]) + b"\n"
            )
        variants.append(
            np.concatenate(list(open_recording([folder / name.format("message")], GOOG).batches()))
        )
    cut_ns = 1_340_251_200 * 10**9 + round(last * 1e9)
    a, b = (events[events["ts"] <= cut_ns] for events in variants)
    same_bytes("events", a, b)
    n = len(see(a).rows)
    first, second = see(variants[0]), see(variants[1])
    assert n > 3_000
    for field in ("states", "x", "rows"):
        same_bytes(field, getattr(first, field)[:n], getattr(second, field)[:n])


def test_a_label_that_is_never_known_is_no_label() -> None:
    assert last_known_label(np.array([1, NO_LABEL]), np.array([-1, -1])).tolist() == [NO_LABEL, NO_LABEL]
