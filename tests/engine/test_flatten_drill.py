"""The drill of flattening, small: it ends flat at the venue, over both protocols, trading and starting."""

import json
from typing import Any

import pytest

from emp.app.bench.flatten import quantiles, summary
from emp.app.bench.flattening.trials import Trial
from emp.app.cli import main

pytestmark = pytest.mark.usefixtures("compiled_engine", "compiled_feeds")

SLOW_MS = 30_000
"""A loaded machine; what is wanted of a quiet one stands in docs/reliability.md."""


@pytest.mark.parametrize(
    "options", [("fix",), ("fix", "--starting"), ("fix", "--faults"), ("ctrader",)], ids=" ".join
)
def test_the_drill_ends_flat(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_STATE", "")  # the command sets its own
    over, *more = options
    few = ["--trials", "2", "--events", "1000", "--refused", "0.3", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["bench", "flatten", "--over", over, *more, *few])
    assert ended.value.code == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["trials"], found["wrong"]) == (2, [])
    assert found["commands"] >= 2 * 25
    assert 20 <= found["venue_flat_ms"]["p50"] <= SLOW_MS or "--starting" in more
    assert 0 < found["flat_ms"]["max"] < SLOW_MS
    assert found["venue_flat_ms"]["max"] <= found["flat_ms"]["max"]
    assert found["blind_ms"]["max"] > 20 or not more, "it was starting, or its loop stood still"
    assert found["from_trigger_ms"]["max"] >= found["flat_ms"]["max"]


def test_a_trial_that_ends_otherwise_is_named() -> None:
    good = Trial(1.0, 2.0, 50.0, 30.0, 25, 1, 1_000.0)
    bad = Trial(1.0, 2.0, 50.0, 30.0, 25, 1, 1_000.0, wrong="not flat at the venue: 1 orders, {}")
    assert summary([good])["wrong"] == []
    assert summary([good, bad])["wrong"] == ["trial 2: not flat at the venue: 1 orders, {}"]


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantiles([float(k) for k in range(1, 101)]) == {"p50": 50.0, "p99": 99.0, "max": 100.0}
    assert quantiles([3.0, 1.0]) == {"p50": 1.0, "p99": 3.0, "max": 3.0}
