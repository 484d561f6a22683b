"""What the compiled step is compiled for: features, model and rule, each behind its port.

The built-in ones pass through the same ports as anybody's own would (`emp.perception.port`, `emp.model.port`,
`emp.decision.port`). Risk is not among them: it follows in the step, whatever the rule says.
"""

from typing import Any, NamedTuple


class Policy(NamedTuple):
    """Parameters of the three, of types that their ports know; the step is compiled once per combination."""

    features: Any
    model: Any
    rule: Any
