"""EMP / Alphatrade: an autonomous trading system that reasons in ticks, spreads and sigma.

As a library (`docs/library.md`):

    import emp

    market = emp.load("quotes.csv", "GOOG")
    emp.features(market).to_pandas()
    result = emp.backtest(market, rule=my_rule)
    result.plot("result.png")

Names are looked up on first use, so that `import emp` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from emp.version import __version__

if TYPE_CHECKING:
    from emp.app.library import (
        CANCEL,
        CROSS,
        HOLD,
        HORIZONS,
        INPUT_NAMES,
        POST,
        REPLACE,
        Features,
        Flow,
        MarketData,
        Model,
        Result,
        Rule,
        UsageError,
        backtest,
        believe,
        cancel,
        cross,
        export,
        features,
        inputs,
        labels,
        load,
        move,
        post,
        simulate,
    )

__all__ = [
    "CANCEL",
    "CROSS",
    "HOLD",
    "HORIZONS",
    "INPUT_NAMES",
    "POST",
    "REPLACE",
    "Features",
    "Flow",
    "MarketData",
    "Model",
    "Result",
    "Rule",
    "UsageError",
    "__version__",
    "backtest",
    "believe",
    "cancel",
    "cross",
    "export",
    "features",
    "inputs",
    "labels",
    "load",
    "move",
    "post",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'emp' has no attribute {name!r}{_meant(name)}")
    found = getattr(import_module("emp.app.library"), name)
    globals()[name] = found
    return found


def _meant(name: str) -> str:
    """What may have been meant by a name that there is not; nothing is said of names that Python asks for by itself."""
    if name.startswith("_"):
        return ""
    from difflib import get_close_matches

    near = get_close_matches(name, __all__, 1)
    return f": did you mean {near[0]!r}?" if near else ""


def __dir__() -> list[str]:
    return sorted(__all__)
