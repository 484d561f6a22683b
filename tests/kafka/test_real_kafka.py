"""A real Kafka: what a mirror commits is what the feed tells, whatever befalls the broker in between."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient

from emp.access.kafka.feed import KafkaFeed
from emp.access.kafka.reader import KafkaReader
from emp.app.bench.mirrored.processes import Process, kafka_server
from emp.core.clock import LiveClock
from emp.core.codes import EventFlag, Quarantine
from emp.core.errors import VenueError
from emp.core.market_topic import MARKET, Origin
from emp.core.records import DECISION, Array, fieldwise_bytes
from emp.journal.mirror.follow import NOWHERE, Batch, Instrument
from emp.journal.mirror.kafka import KafkaSink
from emp.journal.mirror.sink import MirrorError
from tests.kafka.records import HOST, OTHER, PAIR, RUN
from tests.kafka.test_feed import Hears
from tests.kit.events import random_events
from tests.kit.services import needed

UNTOLD = frozenset({"ts_recv", "seq", "instrument"})
NAMES = (PAIR.name, OTHER.name)


class Recorder:
    """Writes events of two instruments as the mirror of a run does."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._sink = self._open()
        self._market = 0
        self._written: list[Array] = []

    def _open(self) -> KafkaSink:
        """Patiently: a broker that has just begun may be slow."""
        grids = [Instrument(one.name, one.tick, one.lot) for one in (PAIR, OTHER)]
        for _ in range(5):
            with contextlib.suppress(MirrorError):
                return KafkaSink(self._servers, RUN, NAMES, grids, Origin("observe", "fix", HOST))
        return KafkaSink(self._servers, RUN, NAMES, grids, Origin("observe", "fix", HOST))

    def write(self, n: int) -> None:
        """Some more events, committed."""
        events = random_events(n, 7 + self._market)
        events["seq"] += self._market
        events["instrument"] = events["seq"] % 2
        events["ts"] = events["ts_recv"] = LiveClock().now_ns() - (n - np.arange(n))
        after = dict(NOWHERE) | {"market": self._market}
        self._sink.write(Batch(after, [], events, np.zeros(0, DECISION), [], [], ()))
        self._market += n
        self._written.append(events)

    def again(self) -> None:
        """Connect anew, which makes the topics where they are gone."""
        self._sink.close()
        self._sink = self._open()

    def written(self, which: int) -> Array:
        events = np.concatenate(self._written)
        return events[events["instrument"] == which]

    def close(self) -> None:
        self._sink.close()


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, str]]:
    there = (Path(os.environ.get("EMP_KAFKA", "nowhere")) / "kafka-server").exists()
    needed(there and bool(shutil.which("java")), "no Kafka: set EMP_KAFKA to its folder, install Java 17")
    process, servers = kafka_server(tmp_path_factory.mktemp("kafka"))
    try:
        process.start()
        yield process, servers
    finally:
        process.kill()


def feed_of(servers: str, history_s: float = 0.0) -> KafkaFeed:
    return KafkaFeed(
        lambda: KafkaReader(servers), LiveClock(), limit_ms=60_000.0, history_s=history_s, look_s=0.2
    )


async def until(what: Callable[[], bool], words: str) -> None:
    for _ in range(9_000):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(words)


def gaps(sink: Hears, which: int) -> int:
    rows = np.concatenate(sink.rows)
    return int((rows["flags"][rows["instrument"] == which] & np.uint32(EventFlag.GAP) > 0).sum())


@pytest.mark.service
def test_a_kafka_without_the_topic_is_refused_in_one_line(kafka: tuple[Process, str]) -> None:
    with pytest.raises(VenueError, match=f"has no topic {MARKET}: no mirror has written to it yet"):
        asyncio.run(feed_of(kafka[1]).connect([PAIR], Hears()))


@pytest.mark.service
def test_everything_is_told_once_whatever_befalls_the_broker(kafka: tuple[Process, str]) -> None:
    process, servers = kafka
    recorder = Recorder(servers)

    async def run() -> Hears:
        sink, feed = Hears(), feed_of(servers, history_s=3_600.0)
        recorder.write(200)
        await feed.connect([OTHER, PAIR], sink)
        await until(lambda: sink.heard == 200, "what was there before")
        recorder.write(50)
        await until(lambda: sink.heard == 250, "what came")

        process._signal(signal.SIGSTOP)
        await until(lambda: not sink.links[-1].up, "the link to go down")
        process._signal(signal.SIGCONT)
        await until(lambda: sink.links[-1].up, "the link to come up")
        recorder.write(50)
        await until(lambda: sink.heard == 300, "what came after a pause")

        await asyncio.to_thread(process.kill)
        await until(lambda: not sink.links[-1].up, "the link to go down again")
        await asyncio.to_thread(process.start)
        await until(lambda: sink.links[-1].up, "the link to come up again")
        await asyncio.to_thread(recorder.again)
        recorder.write(50)
        await until(lambda: sink.heard == 350, "what came after a crash")
        await feed.close()
        assert feed.counts.events == 350
        assert not feed.counts.quarantined
        return sink

    sink = asyncio.run(run())
    recorder.close()
    rows = np.concatenate(sink.rows)
    for ours, theirs in ((0, 1), (1, 0)):
        told = rows[rows["instrument"] == ours]
        assert fieldwise_bytes(told, UNTOLD) == fieldwise_bytes(recorder.written(theirs), UNTOLD)
        assert gaps(sink, ours) == 0
    assert sink.aged == []


@pytest.mark.service
def test_a_topic_that_is_begun_anew_is_read_on_behind_a_gap(kafka: tuple[Process, str]) -> None:
    _, servers = kafka
    recorder = Recorder(servers)
    recorder._market = 10_000  # behind what the run has told before

    async def run() -> Hears:
        sink, feed = Hears(), feed_of(servers)
        await feed.connect([PAIR, OTHER], sink)
        recorder.write(400)
        await until(lambda: sink.heard == 400, "what came")
        admin = AdminClient({"bootstrap.servers": servers})
        await asyncio.to_thread(lambda: [one.result(30) for one in admin.delete_topics([MARKET]).values()])
        await until(lambda: not sink.links[-1].up, "the topic to be missed")
        await asyncio.to_thread(recorder.again)
        for _ in range(1_200):  # as long as a starved broker takes
            if sink.heard > 400 and gaps(sink, 0) and gaps(sink, 1):
                break
            recorder.write(4)
            await asyncio.sleep(0.1)
        await feed.close()
        return sink

    sink = asyncio.run(run())
    recorder.close()
    assert sink.links[-1].up
    assert (gaps(sink, 0), gaps(sink, 1)) == (1, 1)


@pytest.mark.service
def test_what_others_write_is_quarantined_and_what_is_taken_back_is_not_seen(
    kafka: tuple[Process, str],
) -> None:
    from confluent_kafka import Producer

    _, servers = kafka
    recorder = Recorder(servers)
    recorder._market = 20_000

    async def run() -> tuple[Hears, KafkaFeed]:
        sink, feed = Hears(), feed_of(servers)
        await feed.connect([PAIR], sink)
        recorder.write(20)
        await until(lambda: sink.heard == 10, "what came")
        told = {"bootstrap.servers": servers, "partitioner": "murmur2_random"}
        taken_back = Producer(told | {"transactional.id": "other"})
        taken_back.init_transactions(30)
        taken_back.begin_transaction()
        taken_back.produce(MARKET, b"{}", PAIR.name.encode())
        taken_back.flush(30)
        taken_back.abort_transaction(30)
        other = Producer(told)
        for value in (b"{}", b"\xff\x00", None):
            other.produce(MARKET, value, PAIR.name.encode())
        assert other.flush(30) == 0
        recorder.write(20)
        await until(lambda: sink.heard == 20, "what came behind it")
        await feed.close()
        return sink, feed

    sink, feed = asyncio.run(run())
    recorder.close()
    assert feed.counts.quarantined == {Quarantine.MALFORMED: 3}
    assert gaps(sink, 0) == 1
