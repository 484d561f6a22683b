"""Who is judged: seeds of one name together, the linear model beside them, and the dumb trader."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.core.errors import UsageError
from emp.core.instrument import find
from emp.core.records import FORECAST, HORIZON_NAMES, HORIZONS
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.reversion import bind_perception, reversion_model
from emp.model.artifact import save
from emp.model.port import forecast
from emp.perception.normalise import INPUTS
from emp.train.judge.alpha import mark_rows
from emp.train.judge.contenders import parse_contenders, with_reference
from tests.kit.datasets import dataset


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two artifacts in one folder, which differ by a weight."""
    folder = tmp_path_factory.mktemp("seeds")
    shipped = load_model("linear").artifact
    for k in (1, 2):
        tensors = {**shipped.tensors, "bias": shipped.tensors["bias"] + np.float32(1e-3 * k)}
        save(folder / f"seed{k}", msgspec.structs.replace(shipped.manifest), tensors)
    return folder


def test_a_folder_of_artifacts_is_one_contender(seeds: Path) -> None:
    (one,) = parse_contenders([f"mine={seeds}"])
    assert one.name == "mine"
    assert len(one.seeds) == 2
    (alone,) = parse_contenders([str(seeds / "seed1")])
    assert (alone.name, len(alone.seeds)) == ("linear", 1)
    together = parse_contenders([f"a={seeds / 'seed1'}", f"b={seeds / 'seed2'}", "linear"])
    assert [c.name for c in together] == ["a", "b", "linear"]
    with pytest.raises(UsageError, match="is given twice as mine"):
        parse_contenders([f"mine={seeds}", f"mine={seeds / 'seed1'}"])


def test_the_shipped_linear_model_is_the_reference_where_it_means_the_same(seeds: Path) -> None:
    data = dataset(900)
    found = with_reference(parse_contenders([f"mine={seeds}"]), None, [data])
    assert [c.name for c in found] == ["mine", "linear"]
    assert found[1].seeds[0].artifact.hash == load_model("linear").artifact.hash
    with pytest.raises(UsageError, match="a linear model is among the artifacts"):
        with_reference(found, str(seeds / "seed1"), [data])


def test_the_dumb_trader_expects_the_way_back_beyond_a_spread_and_nothing_within() -> None:
    instruments = [find("GC"), find("GOOG")]
    engine = Engine(instruments, reversion_model(instruments, 0.5, 512), EngineLimits(), "TEST")
    bind_perception(engine)
    assert engine.desk.facts["domain"].tolist() == [0, 1]
    first, p = engine.desk.perception
    first["bid"], first["ask"], first["sigma_ticks"], first["momentum"] = 100, 101, 1.0, 50.0
    p["bid"], p["ask"], p["sigma_ticks"] = 100, 104, 1.0
    out = np.zeros(1, FORECAST)
    nothing = np.zeros(INPUTS, np.float32)
    for momentum, way in ((3.9, 0.0), (8.0, -2.0), (-6.0, 1.5)):
        p["momentum"] = momentum
        forecast(engine.model.params, nothing[:0], 1, nothing, out[0])
        np.testing.assert_allclose(out["mean"][0], np.full(HORIZONS, way))
        assert (np.diff(out["q"][0], axis=1) > 0.0).all()
        np.testing.assert_allclose(out["p"][0].sum(axis=1), 1.0)
    engine.warm_up()


def test_alpha_of_seeds_is_their_mean_within_the_widest_interval() -> None:
    def marks(value: float | None, low: float | None, high: float | None) -> dict[str, object]:
        one = {"horizon": HORIZON_NAMES[0], "alpha_bps": value, "low": low, "high": high}
        return {"alpha": {"all": [one]}}

    row = {"horizon": HORIZON_NAMES[0], "alpha_after_fees": None, "ci": {}, "spread": {}}
    mark_rows([row], [marks(1.0, 0.5, 1.5), marks(2.0, -0.5, 3.0), marks(None, None, None)])
    assert row["alpha_after_fees"] == 1.5
    assert row["ci"] == {"alpha_after_fees": [-0.5, 3.0]}
    assert row["spread"]["alpha_after_fees"] == pytest.approx(np.sqrt(0.5))  # type: ignore[index]
    empty = {"horizon": HORIZON_NAMES[0], "alpha_after_fees": None, "ci": {}, "spread": {}}
    mark_rows([empty], [marks(None, None, None)])
    assert empty["alpha_after_fees"] is None
    assert empty["ci"] == {"alpha_after_fees": [None, None]}
