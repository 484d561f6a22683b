"""Models of one's own: a function, an ONNX file, a torch module written as one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from emp.core.config.config import DEFAULT_IMPL
from emp.core.errors import UsageError
from emp.core.extras import missing_extra
from emp.engine import own_model
from emp.engine.onnx_model import read_network
from emp.engine.own_model import WARMUP_EVENTS, Features

if TYPE_CHECKING:
    from torch import nn


class Model(own_model.Model):
    """A function as a model: `function(x, forecast)`, or `function(x, forecast, mine)` with memory of its own."""

    onnx = staticmethod(read_network)


def export(
    module: "nn.Module",
    path: str | Path,
    *,
    state: Any = None,
    warmup_events: int = WARMUP_EVENTS,
    features: Features | None = None,
    base: str = DEFAULT_IMPL,
    trained_on: Any = None,
    catalogue: str | Path | None = None,
) -> Path:
    """Write a torch module as an ONNX file that `--model`, `emp.backtest(model=)` and `model.artifact` take.

    Args:
        module: `forward(x)` of float32[1, n] returns a dict: `mean` [1, horizons], or also `q` and `p`
            [1, horizons, 3]; `forward(x, state)` returns that and the state after.
        state: a tensor of the shape of what it remembers, which is zero after every reset; None: nothing.
        warmup_events, base, trained_on: as for `emp.Model`; the file says them of itself.
        catalogue: as for `emp.Model`.
        features: inputs of one's own that it is shown; name them where it serves: `emp.Model.onnx(path, features=…)`.

    Raises:
        EmpError: in one line: it is no such module, torch cannot export it, or the file says other than the module.
    """
    try:
        from emp.train.fit import onnx_export
    except ImportError as error:
        line = missing_extra(error.name or "")
        if not line:
            raise
        raise UsageError(f"export: {line}") from None
    return onnx_export.export(
        module,
        path,
        state=state,
        warmup_events=warmup_events,
        features=features,
        base=base,
        trained_on=trained_on,
        catalogue=catalogue,
    )
