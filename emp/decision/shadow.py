"""The same rule trading in the head, one lot at a time: what its gains turn out to be worth (D.2, D.3).

At every event the rule decides a second time, for a trader that sends nothing: it holds one lot at most, believes every
gain as it stands, and has no limits but the session, the warm-up and the cool-down. Its orders take the venue's round
trip to arrive, and fill as the paper venue would fill them: what stands ahead shrinks by trades at the price, and by
cancellations only when less is shown than stood ahead; a trade through the price, or an opposite quote beyond it,
fills. Every round trip is one outcome. So there is evidence where little was risked, and after trading was stopped.
"""

from typing import Any

import numpy as np

from emp.core.account import apply_fill
from emp.core.codes import Action, WorkingState
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.decision.financing import learn_holding
from emp.decision.kinds import CROSSING
from emp.decision.outcomes import drop_open_lots, note_belief, take_fills
from emp.decision.queue import reached, shown_at
from emp.decision.standing import learn_crossed, learn_missed, learn_worth, worth

CROSS, POST, REPLACE, CANCEL = int(Action.CROSS), int(Action.POST), int(Action.REPLACE), int(Action.CANCEL)
NONE, IN_FLIGHT, RESTING = int(WorkingState.NONE), int(WorkingState.IN_FLIGHT), int(WorkingState.RESTING)
NOTHING = 0

SHADOW = np.dtype(
    [
        ("asked", "i4"),  # Action on its way, NOTHING where none is
        ("side", "i4"),
        ("px", "i8"),
        ("arrives", "i8"),  # ts
        ("rests", "?"),  # the order of the WORKING record
        ("ahead", "i8"),  # lots ahead of it
        ("bid", "i8"),  # the book in force: what arrives meets it
        ("ask", "i8"),
        ("shown", "i8"),  # lots at the price that is asked for
        ("gain", "f8"),  # of the lot that is open
        ("crossed", "?"),  # whether it was opened by crossing
        ("missed", "?"),  # whether it would have been opened in earnest
    ],
    align=True,
)
"""An order that is never sent."""


def new_shadow(n: int = 1) -> Array:
    """SHADOW[n]: nothing at work."""
    return np.zeros(n, SHADOW)


@kernel
def end_shadow(
    s: Any, account: Any, working: Any, lots: Any, standing: Any, costs: Any, last_ns: int
) -> None:
    """The stream has broken: nothing rests and nothing is held any more, no outcome goes across the break.

    The lot that is open is closed at the touch that stood last, at the price of crossing. Left out, it would favour
    who takes gains soon and holds losses long: what a break finds open would be the losses.

    Args:
        s, account, working, lots, costs: SHADOW, ACCOUNT, WORKING, LOTS and COSTS records of the shadow.
        standing: STANDING record of the one who trades in earnest, which learns; its holding times do not, as
            the lot would have been held longer (`emp.decision.financing.learn_unfinished`).
        last_ns: of the last event before the break.
    """
    if account.position != 0 and s.bid < s.ask:
        side = -1 if account.position > 0 else 1
        apply_fill(account, side, 1, s.ask if side > 0 else s.bid, costs.taker_fee)
        if take_fills(lots, account, last_ns):
            _learn_trip(s, lots, standing)
    account.position = 0
    drop_open_lots(lots)
    stand_aside(s, working)


@kernel
def stand_aside(s: Any, working: Any) -> None:
    """Nothing of the shadow's may rest where nothing of ours may."""
    s.asked, s.rests = NOTHING, False
    _show(s, working)


@kernel
def withdraw_shadow(s: Any, arrives: int, working: Any) -> None:
    """On a book that may not be believed the shadow withdraws as we do."""
    if s.rests and s.asked == NOTHING:
        s.asked, s.arrives = CANCEL, arrives
        _show(s, working)


@kernel
def _show(s: Any, working: Any) -> None:
    """Write what the decision sees of the order into a WORKING record."""
    working.state = IN_FLIGHT if s.asked != NOTHING else RESTING if s.rests else NONE
    working.queue_ahead = s.ahead if s.rests else -1


@kernel
def meet_market(s: Any, event: Any, account: Any, working: Any, costs: Any) -> None:
    """Carry the shadow's order over one event: what has arrived before it meets the book that stood until then."""
    if s.asked != NOTHING and s.arrives < event.ts:
        _arrive(s, account, working, costs)
    if s.rests and reached(s, working.side, working.px, event):
        apply_fill(account, working.side, 1, working.px, costs.maker_fee)
        s.rests = False
        if s.asked == REPLACE or s.asked == CANCEL:
            s.asked = NOTHING  # too late
    s.bid, s.ask = event.bid_px[0], event.ask_px[0]
    if s.asked != NOTHING:
        s.shown = shown_at(event, s.side, s.px)
    _show(s, working)


@kernel
def _arrive(s: Any, account: Any, working: Any, costs: Any) -> None:
    """Let what was asked for take effect on the book in force."""
    asked, side, px = s.asked, s.side, s.px
    s.asked = NOTHING
    if asked == CANCEL:
        s.rests = False
        return
    opposite = s.ask if side > 0 else s.bid
    takes = (px - opposite) * side >= 0
    if asked == CROSS:
        if takes:
            apply_fill(account, side, 1, opposite, costs.taker_fee)
    elif not takes:  # else refused, and an order that was to be replaced stays as it is
        s.rests, s.ahead = True, s.shown
        working.side, working.px, working.leaves = side, px, 1


@kernel
def follow(
    s: Any, event: Any, row: Any, account: Any, working: Any, lots: Any, standing: Any, delay_ns: int
) -> None:
    """Do what the rule has decided for the shadow: ask for it, to arrive `delay_ns` after the event.

    Args:
        s, account, working, lots, standing: SHADOW, ACCOUNT, WORKING, LOTS and STANDING records of the shadow.
        event: EVENT record that was decided on.
        row: DECISION record that the rule has written.
    """
    action = row.action
    if account.position * row.side > 0 and action in (CROSS, POST):
        return  # it has its one lot
    note_belief(lots, standing, row)
    if action in (CROSS, POST, REPLACE, CANCEL):
        s.asked, s.side, s.px, s.arrives = action, row.side, row.px, event.ts + delay_ns
        s.shown = shown_at(event, row.side, row.px)
        working.ts = event.ts
        _show(s, working)


@kernel
def learn_outcomes(s: Any, account: Any, lots: Any, standing: Any, ts: int) -> None:
    """Take the shadow's fills; a round trip that has ended says what its gain was worth.

    One that was opened by crossing says what crossing is worth, and nothing of gains while nobody crosses in earnest.

    Args:
        s, account, lots: SHADOW, ACCOUNT and LOTS records of the shadow.
        standing: STANDING record of the one who trades in earnest, which learns.
        ts: ns, of the event at hand.
    """
    before, held_ns = lots.position, lots.held_ns
    ended = take_fills(lots, account, ts)
    if ended:
        _learn_trip(s, lots, standing)
        learn_holding(standing, lots.held_ns - held_ns)
    if lots.position != 0 and (before == 0 or ended):
        s.gain = lots.belief
        s.crossed = lots.placed.action == CROSSING
        s.missed = worth(standing, s.gain) > standing.error and (not s.crossed or standing.may_cross)


@kernel
def _learn_trip(s: Any, lots: Any, standing: Any) -> None:
    """Take the shadow's last round trip into what gains, and crossing, are worth."""
    counts = not s.crossed or standing.may_cross  # asked before the outcome can answer
    if s.crossed:
        learn_crossed(standing, lots.last.brought)
    if counts:
        learn_worth(standing, s.gain, lots.last.brought)
    if s.missed:
        learn_missed(standing, lots.last.brought)
