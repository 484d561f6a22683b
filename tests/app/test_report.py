"""The page of a run: whole, self-contained, and true to the run it shows."""

import json
from pathlib import Path

import numpy as np
import pytest

from emp.app.cli import main
from emp.app.report.page import POLICY, ZOOM
from emp.app.report.plots import SEEN
from emp.core.records import HORIZON_NAMES, HORIZON_NS
from emp.observe.markout import alphas_bps, mids_after, summarise
from tests.app.test_bad_input import lobster


def test_markouts_take_the_mid_that_was_there_at_the_horizon() -> None:
    ts = np.arange(50, dtype=np.int64) * 1_000_000_000
    mid = 1000.0 + np.arange(50)
    later = mids_after(ts, mid, np.array([10_500_000_000]))
    assert dict(zip(HORIZON_NAMES, later[0], strict=True)) == {
        "1ev": 1011.0,
        "5ev": 1015.0,
        "20ev": 1030.0,
        "100ms": 1010.0,
        "500ms": 1011.0,
        "2s": 1012.0,
    }
    late = mids_after(ts, mid, np.array([ts[-1] - HORIZON_NS[1]]))
    assert np.isnan(late[0][HORIZON_NAMES.index("2s")])
    assert late[0][HORIZON_NAMES.index("500ms")] == 1049.0


def test_alpha_is_after_fees_and_in_bps_of_the_price_paid() -> None:
    ts, mid = np.arange(30, dtype=np.int64) * 10**9, np.full(30, 1000.0)
    fills = {
        "ts": np.array([0, 0]),
        "side": np.array([1, -1]),
        "px": np.array([1002, 1003]),
        "qty": np.array([4, 2]),
        "fee": np.array([2.0, -1.0]),
    }
    alpha = alphas_bps(ts, mid, fills)
    assert alpha[0, 0] == pytest.approx((-2 - 0.5) / 1002 * 1e4)
    assert alpha[1, 0] == pytest.approx((3 + 0.5) / 1003 * 1e4)


def test_the_interval_covers_a_known_mean() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(0.5, 1.0, (400, 1)), len(HORIZON_NAMES), axis=1)
    row = summarise(values, np.ones(400), rng)[0]
    assert row["fills"] == 400
    low, high = row["low"], row["high"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < 0.5 < high
    assert high - low < 0.4


def test_a_page_from_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    message, _ = lobster(tmp_path, n=1200)
    for arguments in (["replay", str(message), "--instrument", "GOOG"],):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    (run,) = (tmp_path / "runs").iterdir()
    with pytest.raises(SystemExit) as ended:
        main(["report", str(run), "--json"])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    page = Path(told["page"]).read_text(encoding="utf-8")
    summary = json.loads((run / "summary.json").read_text())
    assert sum(told["reasons"].values()) == summary["states"]
    assert f"{summary['rows']:,}" in page
    assert summary["action_log_sha256"] in page
    assert page.count("<svg") == 7
    assert f"<b>{0.01 * summary['pnl_ticks']:+,.2f}</b><span>PnL after fees, USD</span>" in page
    trained = summary["spans"]["trained"]["events"]
    assert trained == summary["events"]  # the shipped model was trained in that hour of that market
    assert f"<td>trained</td><td>{trained:,}</td>" in page
    assert page.count(SEEN["trained"]) == 3  # price, position and PnL
    assert page.count(f"<script>{ZOOM}</script>") == page.count("<script") == 1
    assert f'content="{POLICY}"' in page
    for outside in ("http://127", "https://", "src=", "@import"):
        assert outside not in page.replace("http://www.w3.org", ""), outside
