"""What a drill of take-overs is made of."""

from emp.access.fix.dialect import PLAIN, Dialect
from emp.app.bench.flattening.terms import Terms, instruments_of
from emp.core.instrument import Instrument

ACCOUNT = "12345"
RATE = 60.0
"""Events a second: enough to trade several times a second on a machine that does much else."""

HEARTBEAT_S = 1
"""Of the FIX session: the venue ends a session whose engine is paused or cut off after little more than twice that."""


def market_terms(seed: int) -> Terms:
    """A market of one instrument."""
    return Terms(instruments=1, events_per_s=RATE, refused=0.0, round_trip_s=0.004, seed=seed)


def traded() -> list[Instrument]:
    """What the account trades."""
    return instruments_of(market_terms(0))


def dialect() -> Dialect:
    """FIX 4.4 by the book, with short heartbeats and numbers that begin at 1 with each logon: the next one to log on
    may be another machine.
    """
    import msgspec

    return msgspec.structs.replace(PLAIN, heartbeat_s=HEARTBEAT_S, reset_on_logon=True)
