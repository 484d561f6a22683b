"""What risk has approved, kept until it is taken: once, and only as it was approved.

`emp.risk.limits.approve` writes the verdict into RISK at every event. Whoever makes a command of a row takes it: the
compiled loop (`emp.engine.trade`) by these kernels, Python through `emp.risk.approval`.
"""

from typing import Any

from emp.core.codes import Action
from emp.core.numba.jit import kernel

NOTHING = int(Action.HOLD)

VERDICT = (
    ("approved", "i4"),  # Action; HOLD where there is nothing to take
    ("approved_side", "i4"),
    ("approved_qty", "i8"),  # lots; of a replacement, those that are left open
    ("approved_px", "i8"),
    ("approved_seq", "i8"),  # event that it was approved at
)
"""Fields of RISK."""


@kernel
def give_verdict(r: Any, row: Any) -> None:
    """Approve the order or replacement that the row asks for."""
    r.approved, r.approved_side = row.action, row.side
    r.approved_qty, r.approved_px, r.approved_seq = row.qty, row.px, row.seq


@kernel
def take_verdict(r: Any, row: Any) -> bool:
    """Whether the row's order or replacement was approved just so and not taken yet; it is taken now."""
    approved = (
        row.action != NOTHING
        and r.approved == row.action
        and r.approved_side == row.side
        and r.approved_qty == row.qty
        and r.approved_px == row.px
        and r.approved_seq == row.seq
    )
    r.approved = NOTHING
    return bool(approved)
