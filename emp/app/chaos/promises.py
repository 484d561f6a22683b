"""What must hold in a world: every check by its name, and where one was violated."""

import msgspec

CHECKS = {
    "unrecovered": "no order that may add risk leaves before ledger and venue agree",
    "halted": "nor while it is halted by its owner",
    "stale": "nor on a market that has been silent for longer than the limit",
    "link_down": "nor while the trade link is down",
    "late": "nor on data that reached its box more than 400 ms before, read or not",
    "loss_limit": "nor after the loss of the day has passed its limit, over any number of restarts",
    "account_loss": "nor after the account's loss of the day, over all instruments, has passed its limit",
    "exposure": "no order takes net exposure beyond the account's limit, and no fill gross exposure",
    "loss_kept": "and what is held is closed then, though its owner has halted it and wants to keep it",
    "decided_late": "nothing is decided after a stall before sizes are 0",
    "loss_forgotten": "a start knows the loss of the day and the peak that were known 5 s before the last one ended",
    "drawdown": "nor after the drawdown has passed its limit, over any number of restarts",
    "recorded_first": "no report is applied before it is recorded",
    "tampered": "a ledger in which a row was changed is refused",
    "closing_price": "no closing order without a price of the market",
    "order_price": "no order away from the market",
    "feed_believed": "no book far from the market is believed sooner than in 5 s, after a contradiction in twice that",
    "feed_again": "and the market's own are again within 12 s",
    "closing_rate": "at most 60 closing orders a minute",
    "closing_pace": "and ever fewer while the venue refuses them, at least one in 5 s",
    "position_limit": "the venue never holds more for us than the limit",
    "queue_bound": "no queue passes its bound",
    "duplicate_id": "no client order id reaches the venue twice",
    "unknown_order": "every order that reaches the venue is in the ledger",
    "not_asked": "5 s after a link is back the engine knows which orders ended meanwhile",
    "others_booked": "a fill of somebody else that the venue tells is booked once it has said what it holds",
    "lost_record": "no acknowledged record is lost",
    "passed_over": "no run that did not end in order is passed over",
    "two_engines": "one engine trades an account at a time",
    "start_refused": "no start is refused for what the faults do not explain",
    "unhandled": "no error reaches the loop, and none ends a run without words",
    "liveness": "once faults stop it trades again, or is flat and says why",
    "position": "the position is the venue's",
    "money": "cash and fees are the venue's",
    "working": "what rests is what the venue has",
    "book": "the newest book is the venue's",
    "row_of_order": "every order has the row that decided it",
    "recovery_twice": "recovering twice gives what recovering once gives, and what the engine knew",
    "checkpoint": "recovering from a checkpoint gives what recovering from every row gives",
    "replayed": "a replay decides what was decided, and finds of the model what was found, byte for byte",
    "sealed": "a run that ended in order is sealed",
    "sealed_early": "and no other",
    "world": "the world comes to its end",
}
"""Every check, and what it holds."""


class Violation(msgspec.Struct, frozen=True):
    """Something that must not be."""

    check: str
    at_ms: int
    what: str
