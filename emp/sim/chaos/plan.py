"""What befalls a world, drawn from its seed: one vocabulary of faults, one plan of them.

A fault has a kind, a time, and a size whose meaning is its kind's (milliseconds, a number of messages, operations of
the disk). A plan is data: it can be cut down fault by fault and played again (`emp.app.chaos.shrink`).
"""

from typing import NamedTuple

import msgspec
import numpy as np

from emp.core.errors import UsageError
from emp.core.ids import generator


class Kind(NamedTuple):
    """One kind of fault: how often it is drawn beside the others, and its sizes."""

    weight: float
    least: int
    most: int
    what: str


KINDS: dict[str, Kind] = {
    # the market and what is said of it
    "drop_row": Kind(1, 1, 5, "rows of the market are not shown"),
    "twice_row": Kind(1, 1, 5, "rows are shown twice"),
    "swapped_row": Kind(1, 1, 3, "rows change places"),
    "feed_stall": Kind(1, 300, 9_000, "ms without market data"),
    "bare_side": Kind(1, 300, 6_000, "ms in which one side of the book is empty"),
    "crossed_book": Kind(1, 300, 9_000, "ms in which the bid stands above the ask"),
    "wild_price": Kind(1, 1, 24, "books in a row at three times the market's prices"),
    "wrong_feed": Kind(
        1,
        8_000,
        40_000,
        "ms in which books stand three times as high, or 80,000 ticks lower; or books and trades",
    ),
    # orders and reports
    "reject": Kind(2, 1, 4, "orders are refused"),
    "refuse_orders": Kind(1, 1_000, 30_000, "ms in which every order is refused"),
    "lost_order": Kind(1, 1, 2, "commands never reach the matching engine: their outcome is unknown"),
    "silent_order": Kind(1, 1, 2, "orders are carried out without a word"),
    "cancel_race": Kind(2, 1, 3, "orders fill while they are cancelled"),
    "refused_cancel": Kind(1, 1, 4, "cancels are refused"),
    "lost_report": Kind(1, 1, 3, "reports are lost"),
    "twice_report": Kind(2, 1, 4, "reports are told twice"),
    "swapped_report": Kind(1, 1, 2, "a report comes behind the next one"),
    "late_report": Kind(2, 1, 3, "reports come 900 ms late"),
    "bust": Kind(2, 1, 3, "trades are taken back, a second apart"),
    "corrected_trade": Kind(1, 1, 40, "ticks by which the newest trade was worse than it was told"),
    "withdrawn": Kind(1, 1, 3, "orders that rest are withdrawn by the venue, unasked, a second apart"),
    "same_execution": Kind(1, 1, 3, "reports come under the execution id of the one before"),
    "overfill": Kind(1, 1, 1_000_000, "lots that a report tells beyond what was ordered"),
    "less_filled": Kind(1, 1, 3, "reports tell a lot less than has filled"),
    # the wire
    "cut_server": Kind(
        2, 5, 95, "the connection breaks in the middle of what the venue says (percent of it)"
    ),
    "cut_client": Kind(2, 5, 95, "the connection breaks in the middle of what the engine says"),
    "flip_server": Kind(1, 5, 95, "a bit of what the venue says flips"),
    "flip_client": Kind(1, 5, 95, "a bit of what the engine says flips"),
    "half_open": Kind(1, 1, 1, "nothing passes any more, and nobody is told"),
    "network_stall": Kind(1, 300, 8_000, "ms in which nothing arrives"),
    "refuse": Kind(1, 500, 15_000, "ms in which the venue lets nobody in, after a cut"),
    "away": Kind(1, 1_000, 15_000, "the same, and the venue has forgotten its sequence numbers meanwhile"),
    "swap_messages": Kind(1, 200, 3_000, "ms in which one message in ten changes places with the next"),
    "bad_checksum": Kind(1, 200, 2_000, "ms in which one message in ten is damaged"),
    "venue_silent": Kind(1, 200, 2_000, "ms in which the venue falls silent now and then"),
    "flapping": Kind(1, 500, 8_000, "ms in which every connection breaks after 300 ms"),
    "sequence_reset": Kind(1, 1, 1, "the venue forgets its sequence numbers, after a cut"),
    # time
    "stop": Kind(2, 300, 5_000, "ms in which the process is stopped (SIGSTOP, a blocked loop)"),
    "slow_disk": Kind(1, 50, 900, "ms that each sync takes, for a second"),
    "clock_step": Kind(1, -3_600, 3_600, "s by which the wall clock steps"),
    "summer_time": Kind(1, 0, 1, "the wall clock steps by an hour, as on a box that keeps local time"),
    # the model
    "nan_model": Kind(1, 300, 8_000, "ms in which everything that the model says is no number"),
    "slow_model": Kind(1, 300, 4_000, "ms in which each batch of market data takes the model 20 to 200 ms"),
    # the disk and the box
    "failed_sync": Kind(1, 1, 2, "syncs fail"),
    "failed_read": Kind(1, 1, 6, "SIGKILL, and reads of the ledger's file fail in the next starts"),
    "disk_full": Kind(1, 0, 12_000_000, "bytes are left, for 20 s"),
    "kill": Kind(3, 200, 20_000, "SIGKILL; the owner starts it again so many ms later"),
    "power": Kind(2, 200, 20_000, "the box loses its power; it comes back so many ms later"),
    "crash_io": Kind(3, 0, 120, "operations of the disk until the process dies in the middle of one"),
    "power_io": Kind(3, 0, 120, "the same, and the power fails"),
    "crash_start": Kind(
        3, 0, 60, "SIGKILL, and the process dies again so many operations into its next start"
    ),
    "crash_new": Kind(
        1, 0, 80, "ended in order, and the start of the next run dies so many operations into it"
    ),
    "crash_end": Kind(1, 0, 40, "ended in order, and it dies so many operations of the disk into that"),
    "bit_flip": Kind(0.3, 0, 3, "SIGKILL, and a bit of a file of the run flips"),
    "tamper": Kind(0.3, 0, 1_000, "SIGKILL, and somebody changes a row of the ledger, checksum and all"),
    # the owner
    "owner_restart": Kind(2, 200, 20_000, "ended in order, started again so many ms later"),
    "owner_config": Kind(1, 200, 5_000, "the same, with other limits"),
    "owner_halt": Kind(1, 500, 30_000, "emp halt, and emp resume so many ms later"),
    "owner_flatten": Kind(2, 1_000, 20_000, "emp flatten, and emp resume so many ms later"),
    "owner_kill": Kind(2, 1_000, 20_000, "the kill switch, and emp resume so many ms later"),
    "kill_in_the_dark": Kind(
        1,
        1_000,
        12_000,
        "SIGKILL; the next start has no book for so many ms, and the kill switch is pulled",
    ),
    "wild_start": Kind(
        1,
        1,
        24,
        "SIGKILL; the next start sees so many books at three times the prices, and the kill switch is pulled",
    ),
    "wild_burst": Kind(1, 33, 200, "the same, with so many of them within a second"),
    "by_hand": Kind(1, -3, 3, "lots that somebody trades on the account by hand, and the venue tells us"),
    "in_silence": Kind(1, -3, 3, "the same, and it does not"),
    "flatten_stop": Kind(1, 300, 5_000, "emp flatten, and SIGSTOP for so many ms while it closes"),
    "flatten_kill": Kind(1, 0, 40, "emp flatten, and SIGKILL so many operations of the disk later"),
    "second_engine": Kind(1, 1, 1, "a second engine is started on the same account"),
}
"""The vocabulary."""


class Fault(msgspec.Struct, frozen=True):
    """One fault: its kind, when (ms of the world), and how large."""

    kind: str
    at_ms: int
    size: int

    def said(self) -> str:
        """In words."""
        return f"{self.at_ms / 1000:.3f} s: {self.kind} {self.size} ({KINDS[self.kind].what})"


OPEN_API = "openapi"

WATCHED = 0.2
"""Share of worlds whose model is watched."""

DOORS = ("fix44", "mock", "ctrader", OPEN_API)
"""How a world's venue may speak: dialects of FIX, and cTrader's Open API."""


class Plan(msgspec.Struct, frozen=True):
    """One world: where its market begins, how its venue speaks, how long faults last, and which."""

    seed: int
    door: str
    offset: int  # row at which the market begins
    lasts_ms: int  # until the last fault may happen
    wrong_from_ms: int  # from when on the model is wrong about the market
    loss_limit: float
    drawdown_limit: float
    faults: tuple[Fault, ...]
    instruments: int = 1  # how many are traded
    account_loss: float = 0.0  # limits over all of them, in the account's currency; 0: none
    max_net: float = 0.0
    max_gross: float = 0.0
    watched: bool = False  # whether the model is watched, and the runs are replayed at the end


def drawn(seed: int, *, rows: int, kinds: tuple[str, ...] = ()) -> Plan:
    """The plan of a seed; `rows` is how long the market is. With `kinds` only these happen; UsageError where one of
    them is unknown.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"unknown kind of fault {unknown[0]!r}; known: {', '.join(KINDS)}")
    draw = generator(seed, "chaos", "plan")
    names = kinds or tuple(KINDS)
    weights = np.array([KINDS[name].weight for name in names])
    lasts_ms = int(draw.integers(20_000, 60_000))
    faults = []
    for _ in range(int(draw.integers(1, 9))):
        name = str(names[int(draw.choice(len(names), p=weights / weights.sum()))])
        kind = KINDS[name]
        at_ms = int(draw.integers(1_500, lasts_ms))
        faults.append(Fault(name, at_ms, int(draw.integers(kind.least, kind.most + 1))))
    instruments, loss, net, gross = _account(seed)
    return Plan(
        seed,
        str(DOORS[int(draw.integers(len(DOORS)))]),
        int(draw.integers(rows)),
        lasts_ms,
        int(draw.integers(5_000, lasts_ms)) if draw.random() < 0.25 else 1 << 31,
        float(draw.choice([60.0, 200.0, 2_000.0])),
        float(draw.choice([100.0, 5_000.0])),
        tuple(sorted(faults, key=lambda one: one.at_ms)),
        instruments,
        loss,
        net,
        gross,
        watched=bool(generator(seed, "chaos", "watched").random() < WATCHED),
    )


def _account(seed: int) -> tuple[int, float, float, float]:
    """Instruments of a seed's world, and the account's limits: loss of the day, net and gross exposure."""
    draw = generator(seed, "chaos", "account")
    instruments = 1 + int(draw.choice(3, p=(0.7, 0.2, 0.1)))
    if instruments == 1:
        return 1, 0.0, 0.0, 0.0
    loss, net, gross = (
        float(draw.choice(sizes)) for sizes in ((0.0, 300.0, 1_500.0), (0.0, 6e6), (0.0, 12e6))
    )
    return instruments, loss, net, gross
