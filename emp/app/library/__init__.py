"""What `import emp` offers: recordings, features and labels as tables, backtests of own rules, simulated markets."""

from emp.app.library.backtest import Flow, backtest
from emp.app.library.market import MarketData, load, simulate
from emp.app.library.result import Result
from emp.app.library.tables import features, labels
from emp.core.errors import UsageError
from emp.core.records import HORIZON_NAMES as HORIZONS
from emp.decision.requests import CANCEL, CROSS, HOLD, POST, REPLACE, cancel, cross, move, post
from emp.engine.own import Rule

__all__ = [
    "CANCEL",
    "CROSS",
    "HOLD",
    "HORIZONS",
    "POST",
    "REPLACE",
    "Flow",
    "MarketData",
    "Result",
    "Rule",
    "UsageError",
    "backtest",
    "cancel",
    "cross",
    "features",
    "labels",
    "load",
    "move",
    "post",
    "simulate",
]
