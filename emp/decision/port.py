"""The decision port of the compiled path: one name, `decide`, compiled for the kind of rule at hand.

A kind of rule is a NamedTuple of parameter arrays and a kernel with the signature of `decide`; `register` joins them,
as `emp.model.port` joins models. The built-in rule is `emp.decision.rule.ValueRule`. Whatever a rule asks for goes
through `emp.risk.limits.approve` next, in the same compiled step: no rule can skip it.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import overload

_KERNELS: dict[type, Callable[..., Any]] = {}
_IN_THE_HEAD: dict[type, Callable[..., Any]] = {}


def decide(
    rule: Any,
    i: int,
    event: Any,
    sigma_ticks: float,
    f: Any,
    e: Any,
    account: Any,
    working: Any,
    standing: Any,
    row: Any,
) -> None:
    """Choose an action for one event and write it, its reason and its inputs into the row.

    Args:
        rule: the parameters, a NamedTuple type known to `register`.
        i: index of the instrument, for what the rule keeps per instrument.
        event: EVENT record with a good book.
        sigma_ticks: past-only sigma of the mid, ticks per event.
        f: FORECAST record.
        e: ESTIMATES record.
        account: ACCOUNT record.
        working: WORKING record of our order.
        standing: STANDING record: what outcomes so far say that a gain is worth, and the lots that they allow.
        row: DECISION record: action, reason_code, edge_ticks, cost_to_take, side, px, qty and horizon are the
            rule's to write; `record_inputs` has written what it may rest on.
    """
    _KERNELS[type(rule)](rule, i, event, sigma_ticks, f, e, account, working, standing, row)


def decide_in_the_head(
    rule: Any,
    i: int,
    event: Any,
    sigma_ticks: float,
    f: Any,
    e: Any,
    account: Any,
    working: Any,
    standing: Any,
    row: Any,
) -> None:
    """Choose for the trader in the head (`emp.decision.shadow`); arguments as those of `decide`."""
    _IN_THE_HEAD[type(rule)](rule, i, event, sigma_ticks, f, e, account, working, standing, row)


def register(
    rule_type: type, kernel: Callable[..., Any], *, in_the_head: bool | Callable[..., Any] = True
) -> None:
    """Make `decide` run `kernel` for parameters of `rule_type`.

    Args:
        rule_type: a NamedTuple type of parameter arrays.
        kernel: with the signature of `decide`.
        in_the_head: whether the rule trades a second time in the head (`emp.decision.shadow`), and learns from that
            what its gains are worth. A rule with memory of its own must see each event once: it has nothing in the
            head, or another kernel of the same signature there.
    """
    _KERNELS[rule_type] = kernel
    if in_the_head is True:
        _IN_THE_HEAD[rule_type] = kernel
    elif in_the_head is not False:
        _IN_THE_HEAD[rule_type] = in_the_head


def trades_in_the_head(rule: Any) -> bool:
    """Whether the rule trades a second time in the head: a constant for each kind of rule."""
    return type(rule) in _IN_THE_HEAD


@overload(trades_in_the_head)
def _compiled_trades_in_the_head(rule: Any) -> Any:
    does = getattr(rule, "instance_class", None) in _IN_THE_HEAD

    def run(rule: Any) -> Any:
        return does

    return run


def _call(kernel: Callable[..., Any]) -> Callable[..., None]:
    """What a call of the port is compiled to."""

    def run(
        rule: Any,
        i: Any,
        event: Any,
        sigma_ticks: Any,
        f: Any,
        e: Any,
        account: Any,
        working: Any,
        standing: Any,
        row: Any,
    ) -> None:
        kernel(rule, i, event, sigma_ticks, f, e, account, working, standing, row)

    return run


@overload(decide)
def _compiled_decide(
    rule: Any,
    i: Any,
    event: Any,
    sigma_ticks: Any,
    f: Any,
    e: Any,
    account: Any,
    working: Any,
    standing: Any,
    row: Any,
) -> Any:
    if not isinstance(rule, (types.NamedTuple, types.NamedUniTuple)) or rule.instance_class not in _KERNELS:
        return None
    return _call(_KERNELS[rule.instance_class])


@overload(decide_in_the_head)
def _compiled_decide_in_the_head(
    rule: Any,
    i: Any,
    event: Any,
    sigma_ticks: Any,
    f: Any,
    e: Any,
    account: Any,
    working: Any,
    standing: Any,
    row: Any,
) -> Any:
    if not isinstance(rule, (types.NamedTuple, types.NamedUniTuple)) or rule.instance_class not in _KERNELS:
        return None
    # of a rule that trades in earnest alone the call is compiled too, and never made
    return _call(_IN_THE_HEAD.get(rule.instance_class, _KERNELS[rule.instance_class]))
