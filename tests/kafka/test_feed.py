"""The feed over a Kafka in a list: what the receiver hears, and when."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
import structlog

from emp.access.kafka.feed import KafkaFeed
from emp.access.kafka.port import Lost
from emp.access.port import LinkState
from emp.app.wiring.doors import open_kafka
from emp.core.clock import SimClock
from emp.core.codes import EventFlag
from emp.core.config.config import Access, Risk, SystemConfig
from emp.core.contracts import OrderUpdate
from emp.core.errors import VenueError
from emp.core.market_topic import Cursor, decode_cursor, partition_of
from emp.core.records import Array
from tests.kafka.records import (
    NOW_NS,
    PAIR,
    PARTITIONS,
    RUN,
    SECOND_NS,
    ListedKafka,
    cursor_of,
    fresh,
    messages,
)


class Hears:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.rows: list[Array] = []
        self.aged: list[tuple[int, int]] = []  # rows, and their age
        self.links: list[LinkState] = []
        self.error: Exception | None = None

    def events(self, rows: Array) -> None:
        self.rows.append(rows.copy())

    def old(self, rows: Array, age_ns: int) -> None:
        self.rows.append(rows.copy())
        self.aged.append((len(rows), age_ns))

    def report(self, update: OrderUpdate) -> None:
        raise AssertionError

    def link(self, state: LinkState) -> None:
        self.links.append(state)

    def ended(self, error: Exception | None) -> None:
        self.error = error

    async def ready(self) -> None:
        await asyncio.sleep(0)

    @property
    def heard(self) -> int:
        return sum(map(len, self.rows))


async def until(what: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


def open_feed(kafka: ListedKafka, history_s: float = 0.0) -> KafkaFeed:
    clock = SimClock(NOW_NS)
    return KafkaFeed(lambda: kafka, clock, limit_ms=5_000.0, history_s=history_s, look_s=0.02)


def test_what_comes_is_told_in_order_and_old_records_apart() -> None:
    async def run() -> None:
        kafka, sink = ListedKafka(cursor_of()), Hears()
        feed = open_feed(kafka)
        await feed.connect([PAIR], sink)
        old = fresh(5)
        old["ts_recv"] -= 60 * SECOND_NS
        kafka.put(messages(old))
        kafka.put(messages(fresh(5, seed=2, now_ns=NOW_NS + SECOND_NS), first=6))
        await until(lambda: sink.heard == 10)
        await feed.close()
        assert [n for n, _ in sink.aged] == [5]
        assert sink.aged[0][1] >= 60 * SECOND_NS
        assert kafka.asked == [RUN]
        assert kafka.closed
        assert sink.links == [LinkState(channel="market", up=True)]
        assert np.all(np.diff(np.concatenate(sink.rows)["seq"]) > 0)

    asyncio.run(run())


def test_a_start_reads_from_the_end_or_so_much_of_the_past_but_not_what_the_run_knows() -> None:
    async def since(history_s: float, after_ns: int) -> int | None:
        kafka = ListedKafka(cursor_of())
        feed = open_feed(kafka, history_s)
        feed.begin_after([after_ns])
        await feed.connect([PAIR], Hears())
        await feed.close()
        assert kafka.opened is not None
        return kafka.opened[1]

    now_ms = NOW_NS // 1_000_000
    assert asyncio.run(since(0.0, 0)) is None
    assert asyncio.run(since(60.0, 0)) == now_ms - 60_000
    assert asyncio.run(since(60.0, NOW_NS - SECOND_NS)) == now_ms - 1_000


def test_records_that_are_gone_break_the_instruments_of_their_partition() -> None:
    async def run() -> None:
        kafka, sink = ListedKafka(cursor_of()), Hears()
        feed = open_feed(kafka)
        await feed.connect([PAIR], sink)
        found, place = messages(fresh(3)), partition_of(PAIR.name.encode(), PARTITIONS)
        kafka.put(
            [found[0], Lost((place + 1) % PARTITIONS, "of others"), found[1], Lost(place, "cut"), found[2]]
        )
        await until(lambda: sink.heard == 3)
        await feed.close()
        flags = np.concatenate(sink.rows)["flags"]
        assert (flags & np.uint32(EventFlag.GAP) > 0).tolist() == [False, False, True]

    asyncio.run(run())


def test_a_kafka_that_does_not_answer_is_a_link_that_is_down_until_it_does() -> None:
    async def run() -> None:
        kafka, sink = ListedKafka(cursor_of()), Hears()
        feed = open_feed(kafka)
        await feed.connect([PAIR], sink)
        kafka.answers = (0, "kafka: nobody there")
        await until(lambda: len(sink.links) >= 3)
        assert not sink.links[-1].up
        assert sink.links[-1].reason == "kafka: nobody there"
        assert sink.links[-1].attempt >= 2
        kafka.answers = (PARTITIONS, "")
        await until(lambda: sink.links[-1].up)
        kafka.put(messages(fresh(3)))
        await until(lambda: sink.heard == 3)
        await feed.close()

    asyncio.run(run())


def test_a_topic_that_is_parted_anew_ends_the_market() -> None:
    async def run() -> None:
        kafka, sink = ListedKafka(cursor_of()), Hears()
        feed = open_feed(kafka)
        await feed.connect([PAIR], sink)
        kafka.answers = (32, "")
        await until(lambda: sink.error is not None)
        await feed.close()
        assert isinstance(sink.error, VenueError)
        assert "32 partitions now, not 16" in str(sink.error)

    asyncio.run(run())


def test_a_receiver_that_cannot_hear_of_age_is_refused() -> None:
    class Deaf:
        events = report = link = ended = ready = lambda *_: None

    with pytest.raises(TypeError, match="may be old"):
        asyncio.run(open_feed(ListedKafka()).connect([PAIR], Deaf()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "named", "host"),
    [
        ("live", None, "orders.example"),
        ("live", "quotes.example", "quotes.example"),
        ("paper", None, None),
        ("paper", "quotes.example", "quotes.example"),
    ],
)
def test_live_orders_follow_recorders_of_their_own_host_unless_another_is_named(
    mode: str, named: str | None, host: str | None
) -> None:
    access = Access.model_construct(kafka="h:9092", host="orders.example", recorder_host=named)
    config = SystemConfig.model_construct(mode=mode, access=access, risk=Risk.model_construct())
    assert open_kafka(config, SimClock(NOW_NS)).host == host


def test_a_cursor_that_cannot_be_read_is_none_is_counted_and_told_once() -> None:
    class Spoilt(ListedKafka):
        def cursor(self, run: str) -> Cursor | None:
            self.asked.append(run)
            return decode_cursor(b"[1]")

    async def run() -> None:
        kafka, sink = Spoilt(), Hears()
        feed = open_feed(kafka)
        await feed.connect([PAIR], sink)
        with structlog.testing.capture_logs() as logs:
            for k in range(3):
                kafka.put(messages(fresh(2), f"0RUN{k % 2}", first=1 + 2 * k))
                await until(lambda: len(kafka.asked) > min(k, 1))  # noqa: B023
            await until(lambda: feed.counts.rows == 6)
        assert sink.error is None
        assert feed.bad_cursors == 2
        told = [one["run"] for one in logs if "cursor" in one["event"]]
        assert told == ["0RUN0", "0RUN1"]
        await feed.close()

    asyncio.run(run())
