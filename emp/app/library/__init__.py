"""What `import emp` offers: recordings, features and labels as tables, backtests of own rules, simulated markets."""

from emp.app.library.backtest import Flow, backtest
from emp.app.library.market import MarketData, load, simulate
from emp.app.library.models import Model, export
from emp.app.library.result import Result
from emp.app.library.tables import features, inputs, labels
from emp.core.errors import UsageError
from emp.core.records import HORIZON_NAMES as HORIZONS
from emp.decision.requests import CANCEL, CROSS, HOLD, POST, REPLACE, cancel, cross, move, post
from emp.engine.own import Rule
from emp.engine.own_model import Features
from emp.model.beliefs import believe
from emp.perception.normalise import INPUT_NAMES

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
