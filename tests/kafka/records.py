"""Records of the topic as a mirror writes them, and a Kafka that holds them in a list."""

import threading
from collections.abc import Mapping, Sequence

import msgspec

from emp.access.kafka.follow import Follower, Part
from emp.access.kafka.port import Lost, Taken
from emp.core.instrument import Instrument
from emp.core.market_topic import Counted, Cursor, Grid, encode_market, partition_of
from emp.core.records import Array
from tests.kit.events import START_NS, random_events
from tests.kit.instruments import currency_pair

PAIR = currency_pair()
OTHER = currency_pair("XAUUSD", 0.01, 1.0)
PARTITIONS = 16
RUN = "0RECORDR"
NOW_NS = START_NS + 3_600_000_000_000
SECOND_NS = 1_000_000_000


HOST = "venue.example"


def cursor_of(run: str = RUN, *instruments: Instrument, **other: object) -> Cursor:
    """That of a recorder of these, of PAIR where none is named."""
    counted = [Counted(one.name, one.tick, one.lot) for one in instruments or (PAIR,)]
    origin = {"mode": "observe", "protocol": "fix", "host": HOST} | other
    return Cursor(run=run, positions={}, instruments=counted, **origin)  # type: ignore[arg-type]


def grid_of(*instruments: Instrument) -> dict[str, Grid]:
    return {one.name: Grid(one.tick, one.lot) for one in instruments}


def fresh(n: int, seed: int = 1, now_ns: int = NOW_NS) -> Array:
    """Events of one instrument, received a moment ago."""
    events = random_events(n, seed)
    events["ts"] = events["ts_recv"] = now_ns - (n - events["seq"]) * 1_000_000
    return events


def messages(events: Array, run: str = RUN, first: int = 1, at_ns: int = NOW_NS) -> list[Taken]:
    """As Kafka gives them; of the instrument PAIR, or of OTHER where the rows say 1."""
    names = (PAIR.name, OTHER.name)
    values = encode_market(run, names, range(first, first + len(events)), events)
    return [
        Taken(partition_of(key.encode(), PARTITIONS), k, key.encode(), value, at_ns // 1_000_000)
        for k, (key, value) in enumerate(values)
    ]


def follower(
    *runs: str,
    of: Sequence[Instrument] = (PAIR,),
    says: Mapping[str, Grid] | None = None,
    host: str | None = None,
) -> Follower:
    """One that knows of runs that they are recorders and what they count in, of RUN where none is named."""
    made = Follower(of, host)
    counted = [Counted(name, *grid) for name, grid in (grid_of(PAIR) if says is None else says).items()]
    for run in runs or (RUN,):
        made.learn(run, msgspec.structs.replace(cursor_of(run), instruments=counted))
    return made


def take(made: Follower, found: Sequence[Taken], now_ns: int = NOW_NS) -> list[Part]:
    return made.take(made.read(found), now_ns, 5 * SECOND_NS)


class ListedKafka:
    """A `Reader` that gives what a test puts into it."""

    def __init__(self, *cursors: Cursor) -> None:
        self.cursors = {one.run: one for one in cursors}
        self.waiting: list[list[Taken | Lost]] = []
        self.answers: tuple[int, str] = (PARTITIONS, "")
        self.opened: tuple[Sequence[bytes], int | None] | None = None
        self.asked: list[str] = []
        self.closed = False
        self._came = threading.Event()

    def put(self, found: Sequence[Taken | Lost]) -> None:
        self.waiting.append(list(found))
        self._came.set()

    def open(self, keys: Sequence[bytes], since_ms: int | None) -> int:
        self.opened = (keys, since_ms)
        return PARTITIONS

    def take(self) -> Sequence[Taken | Lost]:
        self._came.wait(0.02)
        self._came.clear()
        return [
            one
            for batch in iter(lambda: self.waiting.pop(0) if self.waiting else None, None)
            for one in batch
        ]

    def ask(self) -> tuple[int, str]:
        return self.answers

    def cursor(self, run: str) -> Cursor | None:
        self.asked.append(run)
        return self.cursors.get(run)

    def close(self) -> None:
        self.closed = True
