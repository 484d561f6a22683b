"""What closed lots were expected to bring and brought, block by block, whatever batches a recording comes in."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emp.decision.outcomes import new_lots
from emp.train.judge import blocks
from emp.train.judge.alpha import TestPart, block_starts, closed_by_block
from tests.kit.datasets import InBatches, dataset


@pytest.mark.parametrize("seed", range(5))
def test_every_lot_stands_in_the_block_in_which_it_was_closed(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_NS", 5_000_000_000)
    data = dataset(6_000, seed)
    rng = np.random.default_rng(seed)
    starts = block_starts(data)
    lots = new_lots()
    engine = SimpleNamespace(control=lambda _: None, desk=SimpleNamespace(lots=lots))
    part: Any = TestPart(InBatches(data.ts, rng), engine, data.split.test_ns, starts)  # type: ignore[arg-type]
    closed = {int(ts): rng.integers(0, 3) * np.array([1.0, rng.normal(), rng.normal()]) for ts in data.ts}
    for events in part.batches():
        for ts in events["ts"].tolist():
            for name, x in zip(("lots", "believed", "brought"), closed[ts], strict=True):
                lots[name][0] += int(x) if name == "lots" else x
    found = part.closed()
    block = np.searchsorted(starts, data.ts, side="right") - 1
    assert len(found) == len(starts) > 10
    for k in range(len(starts)):
        expected = np.sum([closed[int(ts)] for ts in np.unique(data.ts[block == k])], axis=0)
        np.testing.assert_allclose(found[k], expected, atol=1e-9)
    told = closed_by_block(found, data)
    assert told["closed_lots"] == found[:, 0].tolist()
    mid = (
        float(np.mean(data.seen.rows["bid"][data.part("test")] + data.seen.rows["ask"][data.part("test")]))
        / 2
    )
    missed = (found[:, 1] - found[:, 2]) / mid * 1e4
    np.testing.assert_allclose(told["missed_bps_lots"], missed, atol=1e-8)
