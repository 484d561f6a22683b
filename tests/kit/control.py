"""Control inputs for an engine that no driver drives."""

from emp.core.contracts import Control
from emp.engine.engine import Engine


def degrade(engine: Engine, *, active: bool = True) -> None:
    """Let the engine decide size 0, or no longer."""
    engine.control(Control(action="degraded", ts=0, reason="test", value=float(active)))
