"""Series, splits, the cache, and baselines that know only what is known."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emp.core.errors import DataError, UnknownInstrumentError, UsageError
from emp.core.records import HORIZONS
from emp.perception.targets import NO_LABEL, classes
from emp.train.data import data, store
from emp.train.data.data import WARMUP_EVENTS, load_dataset, parse_series, split_by_time
from emp.train.judge import baselines
from tests.kit.datasets import GOOG, dataset, market, seen, write_quotes

DAY_NS = 86_400_000_000_000


def test_a_short_series_is_split_by_events_and_a_long_one_by_days() -> None:
    ts = np.arange(1_000) * 10**9
    split = split_by_time("x", ts, np.zeros(1_000, np.int64))
    assert split == (ts[600], ts[700], False)
    days = np.repeat(np.arange(10), 100)
    split = split_by_time("x", days * DAY_NS + np.tile(np.arange(100), 10), days)
    assert split == (6 * DAY_NS, 7 * DAY_NS, True)
    three = np.repeat([4, 5, 6], [10, 500, 3])
    assert split_by_time("x", np.arange(513), three) == (10, 510, True)
    with pytest.raises(DataError, match="x: 3 visible events are too few"):
        split_by_time("x", np.arange(3), np.zeros(3, np.int64))


def test_parts_do_not_overlap_and_no_label_reaches_out_of_its_part() -> None:
    found = dataset(4_000)
    parts = [found.part(which) for which in ("train", "calibrate", "test")]
    rows = np.concatenate(parts)
    assert len(np.unique(rows)) == len(rows)
    assert rows.min() == WARMUP_EVENTS - 1
    for which, mine in zip(("train", "calibrate", "test"), parts, strict=True):
        start, end = found.span(which)
        moves = found.delta_hat(which, mine)
        have = ~np.isnan(moves)
        assert (found.ts[mine] >= start).all()
        assert (found.targets.known_ns[mine][have] < end).all()
        assert np.isnan(moves[-1]).all()
        assert have[: len(mine) // 2].all()


def test_series_are_read_from_the_command_line(tmp_path: Path) -> None:
    for name in ("GOOG_b.csv", "GOOG_a.csv", "other.csv"):
        (tmp_path / name).write_text("x")
    one = parse_series(str(tmp_path / "GOOG_*.csv"))
    assert one.instrument == "GOOG"
    assert [p.name for p in one.paths] == ["GOOG_a.csv", "GOOG_b.csv"]
    assert one.name == "GOOG_a+1"
    assert parse_series(f"EURUSD={tmp_path / 'other.csv'}").instrument == "EURUSD"
    with pytest.raises(DataError, match=r"nothing.csv: no such recording"):
        parse_series(f"GOOG={tmp_path / 'nothing.csv'}")
    with pytest.raises(UsageError, match="write INSTRUMENT="):
        parse_series(str(tmp_path / "other.csv"))
    with pytest.raises(UnknownInstrumentError):
        parse_series(f"GOOGX={tmp_path / 'other.csv'}")


def test_what_was_seen_is_kept_and_never_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "GOOG_day.csv"
    write_quotes(market(900, 0, 0.5), str(path))
    first = load_dataset(parse_series(str(path)), 0.5)
    kept = data.features_of_recordings
    monkeypatch.setattr(data, "features_of_recordings", lambda *_: pytest.fail("not taken from the cache"))
    again = load_dataset(parse_series(str(path)), 0.5)
    for mine, other in zip(first.seen, again.seen, strict=True):
        np.testing.assert_array_equal(mine, other)
    monkeypatch.setattr(data, "features_of_recordings", kept)
    write_quotes(market(900, 1, 0.5), str(path))
    assert not np.array_equal(load_dataset(parse_series(str(path)), 0.5).ts, first.ts)
    assert first.domain == "equity/nasdaq"
    assert first.instrument == GOOG


def feature_tables(root: Path) -> list[Path]:
    return sorted(path for path in (root / "cache/features").glob("*/*") if path.is_dir())


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording whose walk is in the cache."""
    monkeypatch.setenv("EMP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "GOOG_day.csv"
    write_quotes(market(900, 0, 0.5), str(path))
    load_dataset(parse_series(str(path)), 0.5)
    return path


def cut(folder: Path) -> None:
    path = folder / store.ROWS
    path.write_bytes(path.read_bytes()[:-5_000])


def flip_a_byte(folder: Path) -> None:
    path = folder / store.ROWS
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x10
    path.write_bytes(content)


def lose_a_file(folder: Path) -> None:
    (folder / store.CELLS).unlink()


def cells_of_another(folder: Path) -> None:
    with_depth = seen(market(40, 1, 0.5, levels=3))
    scratch = folder.parent.parent / "scratch"
    scratch.mkdir()
    store.write_walk(scratch, with_depth)
    (scratch / store.CELLS).rename(folder / store.CELLS)


def other_columns(folder: Path) -> None:
    (folder / store.CELLS).replace(folder / store.ROWS)


@pytest.mark.parametrize("harm", [cut, flip_a_byte, lose_a_file, cells_of_another, other_columns])
def test_a_damaged_walk_is_said_in_one_line_and_made_again(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], None]
) -> None:
    (folder,) = feature_tables(tmp_path)
    whole = store.read_walk(folder)
    harm(folder)
    again = load_dataset(parse_series(str(kept)), 0.5)
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be used, the recording is seen again" in line
    for mine, other in zip(again.seen, whole, strict=True):
        np.testing.assert_array_equal(mine, other)
    for mine, other in zip(store.read_walk(folder), whole, strict=True):
        assert mine.tobytes() == other.tobytes()


def test_of_one_recording_the_newest_walk_is_kept_and_unused_recordings_go(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = feature_tables(tmp_path)
    unused = tmp_path / "cache/features/unused/key"
    unused.mkdir(parents=True)
    os.utime(unused.parent, (0, 0))
    monkeypatch.setattr(data, "schema_hash", lambda: "another")
    load_dataset(parse_series(str(kept)), 0.5)
    (second,) = feature_tables(tmp_path)
    assert second.parent == first.parent
    assert second != first


def test_a_walk_with_depth_comes_back_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "GROUP", 256)
    whole = seen(market(900, 2, 0.5, levels=5))
    assert len(whole.cells) == 900
    store.write_walk(tmp_path, whole)
    for mine, other in zip(store.read_walk(tmp_path), whole, strict=True):
        assert mine.dtype == other.dtype
        for name in mine.dtype.names or (...,):  # by field: what lies between fields is nobody's
            assert mine[name].tobytes() == other[name].tobytes(), name


def test_the_last_known_label_is_found_as_a_plain_search_finds_it() -> None:
    found = dataset(900)
    named = classes(found.targets.delta_hat, np.full(HORIZONS, 0.1))
    for h in range(HORIZONS):
        known = baselines.known_rows(found.targets, found.ts, h)
        last = baselines.last_known_label(named[:, h], known)
        for t in range(0, 900, 37):
            earlier = [s for s in range(t) if 0 <= known[s] <= t]
            assert last[t] == (named[earlier[-1], h] if earlier else NO_LABEL)
            if known[t] >= 0:
                assert found.ts[known[t]] == found.targets.known_ns[t, h]


def test_a_table_says_what_its_group_did() -> None:
    group = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    label = np.array([0, 0, 1, 2, 2, 2, -1, 1], np.int8)
    move = np.array([-1.0, -2.0, 0.0, 1.0, 2.0, 3.0, np.nan, 0.0])
    said = baselines.table(group, label, move, np.arange(7))(np.arange(8))
    assert said.decided.tolist() == [0, 0, 0, 2, 2, 2, 2, said.decided[7]]
    assert said.mean[0] == -1.0
    assert said.q[3].tolist() == [1.5, 2.0, 2.5]
    assert said.p[0, 0] == pytest.approx(3 / 6)
    np.testing.assert_allclose(said.p[7], [3 / 9, 2 / 9, 4 / 9])
