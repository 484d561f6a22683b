"""Native peers beside ours: what runs is compared, what does not says why, in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from emp.app.bench.native.layout import ROW, level_rows, order_rows, quote_rows
from emp.app.bench.native.like import Like
from emp.app.bench.native.programs import peers_folder
from emp.app.bench.native.table import Natives, Rates, show_table
from emp.app.cli import main
from emp.core.errors import UsageError
from emp.core.records import empty_events
from emp.sim.tape.feed import FEED

ROWS = (
    Like("bookpeer", "floor", "replay", "owners", "nothing", "touch"),
    Like("bookpeer", "maker", "replay", "owners", "nothing", "end"),
)
OURS = {"replay": Rates([50e6, 40e6, 45e6], [60e6, 80e6, 70e6])}


def _case(name: str, note: str, rate: object = 100e6) -> str:
    return json.dumps({"case": name, "events": 5, "per_s": rate, "per_cpu_s": rate, "note": note})


def _program(folder: Path, script: str) -> None:
    (folder / "bin").mkdir()
    program = folder / "bin" / "bookpeer"
    program.write_text(script)
    program.chmod(0o755)


def _prints(folder: Path, *lines: str, status: int = 0) -> None:
    text = "\n".join(lines)
    _program(folder, f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")


def _compared(folder: Path) -> list[dict[str, object]]:
    natives = Natives(folder, folder, ROWS, "zi", {"touch": [100013.0, 100017.0]})
    natives.round()
    natives.round()
    return natives.compare(OURS)


def test_a_peer_that_agrees_is_set_beside_ours(tmp_path: Path) -> None:
    floor = _case("floor", "bbo Some(Price(1000.13)) Some(Price(1000.17)) refused 0")
    _prints(tmp_path, "# zi: heading", floor, "warning", _case("maker", "to the end, fills 3", 20e6))
    floor_row, maker_row = _compared(tmp_path)
    assert floor_row["ratio"] == 0.8
    assert (floor_row["per_cpu_s"], floor_row["ours_per_cpu_s"]) == (100_000_000, 80_000_000)
    assert floor_row["ours_median_per_cpu_s"] == 70_000_000
    assert maker_row["ratio"] == 4.0
    assert "not_run" not in floor_row


@pytest.mark.parametrize(
    ("note", "why"),
    [
        ("bbo (100012, 100017) bad 0", "another result than ours"),
        ("ABORTED: it; the rate is void", "aborted"),
    ],
)
def test_a_peer_with_another_result_does_not_count(tmp_path: Path, note: str, why: str) -> None:
    _prints(tmp_path, _case("floor", note), _case("maker", "stopped"))
    floor_row, maker_row = _compared(tmp_path)
    assert why in str(floor_row["not_run"])
    assert floor_row["ratio"] is None
    assert "did not come to the end" in str(maker_row["not_run"])


def _missing(folder: Path) -> None:
    pass


def _foreign(folder: Path) -> None:
    _program(folder, "\x7fELF of another machine")


def _failing(folder: Path) -> None:
    _program(
        folder,
        "#!/bin/sh\necho \"thread 'main' panicked at x\" >&2\necho 'goog.l2.bin: none' >&2\nkill -ABRT $$\n",
    )


def _void(folder: Path) -> None:
    _prints(folder, _case("floor", "", float("inf")), '{"case": "floor", "per_s": inf}', '["floor"]')


@pytest.mark.parametrize(
    ("peers", "why"),
    [
        (_missing, "no such file"),
        (_foreign, "format"),
        (_failing, "signal 6, goog.l2.bin: none"),
        (_void, "printed no figures"),
    ],
)
def test_what_cannot_run_says_so_in_its_row(tmp_path: Path, peers: object, why: str) -> None:
    peers(tmp_path)  # type: ignore[operator]
    rows = _compared(tmp_path)
    said: list[str] = []
    show_table(rows, said.append)
    assert len(said) == 1 + len(ROWS)
    for row, line in zip(rows, said[1:], strict=True):
        assert why in str(row["not_run"])
        assert "\n" not in line
        assert "not run: " in line
        assert row["ratio"] is None


def test_the_folder_of_peers_is_the_option_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EMP_PEERS", raising=False)
    assert peers_folder(None) is None
    assert peers_folder(tmp_path) == tmp_path
    monkeypatch.setenv("EMP_PEERS", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="EMP_PEERS"):
        peers_folder(None)
    monkeypatch.delenv("EMP_PEERS")
    with pytest.raises(SystemExit) as ended:
        main(["bench"])
    assert ended.value.code != 0
    assert "EMP_PEERS" in capsys.readouterr().err


def test_feeds_become_rows_of_levels_and_of_orders() -> None:
    feed = np.zeros(3, FEED)
    feed["ts"], feed["side"], feed["px"] = (10, 20, 30), (0, 0, 1), (99, 99, 101)
    feed["level"], feed["traded"] = (5, 3, 4), (0, 2, 0)
    feed["order"], feed["left"], feed["new"] = (1, 1, 2), (5, 3, 4), (True, False, True)
    assert ROW.itemsize == 64
    levels, orders = level_rows(feed), order_rows(feed)
    assert [int(ev & 0xFF) for ev in levels["ev"]] == [1, 2, 1, 1]
    assert list(levels["qty"]) == [5, 2, 3, 4]
    assert [int(ev & 0xFF) for ev in orders["ev"]] == [10, 13, 12, 10]
    assert list(orders["qty"]) == [5, 2, 3, 4]
    assert list(orders["order_id"]) == [1, 1, 1, 2]
    bids = [bool(ev & 1 << 29) for ev in levels["ev"]]
    assert bids == [True, False, True, False]  # a trade's side is the taker's
    assert (levels["local_ts"] - levels["exch_ts"] == 100_000).all()


def test_quotes_are_the_best_prices_of_events() -> None:
    events = empty_events(1)
    events["ts"], events["bid_px"][0, 0], events["ask_px"][0, 0] = 7, 99, 101
    events["bid_sz"][0, 0], events["ask_sz"][0, 0] = 3, 4
    assert quote_rows(events).tolist() == [[7, 99, 101, 3, 4]]
