"""Intent -> Approved or refused: the one place that makes orders which can be sent.

Two ways lead here. The compiled step has judged a row (`emp.risk.limits.approve`), and its verdict is taken: once, and
only for the very order that was judged. Or a halted instrument is being closed, and the order can only make what is
held smaller.
"""

from typing import Any

from emp.core.approval import Approved, Intent, claim
from emp.core.codes import Action, Reason
from emp.core.contracts import NewOrder, Replace
from emp.core.errors import NotApprovedError
from emp.risk.verdict import VERDICT

_approve = claim()
_FIELDS = [name for name, _ in VERDICT]
_NOTHING = int(Action.HOLD)


def approved(risk: Any, intent: Intent, *, filled: int = 0) -> Approved:
    """The intent, where it is what the row was approved for; NotApprovedError else.

    Args:
        risk: RISK record of the instrument; its verdict is used up.
        intent: the order or replacement that was made of the row.
        filled: lots of the order to be replaced that have filled: a replacement counts them, a row does not.
    """
    if isinstance(intent, Replace):
        action = Action.REPLACE
    else:
        action = Action.CROSS if intent.immediate else Action.POST
    asked = (int(action), intent.side, intent.qty - filled, intent.px, intent.decision_seq)
    if tuple(int(risk[name]) for name in _FIELDS) != asked:
        raise NotApprovedError(f"risk has not approved {intent}")
    risk["approved"] = _NOTHING
    return _approve(intent, False)


def approved_closing(risk: Any, intent: NewOrder, held: int) -> Approved:
    """An order of the way to flat; NotApprovedError where it could do anything but close.

    Args:
        risk: RISK record of the instrument, which must be halted.
        intent: immediate, against what is held, and no larger.
        held: lots, signed, less those that closing orders on their way will close.
    """
    closes = intent.immediate and intent.side * held < 0 and 0 < intent.qty <= abs(held)
    if not closes or not risk["halted"] or intent.reason is not Reason.KILL_SWITCH:
        raise NotApprovedError(f"not a closing order of a halted instrument that holds {held}: {intent}")
    return _approve(intent, True)
