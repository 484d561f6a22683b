"""Kafka itself behind the feed's port: committed records of a few partitions, read without a group.

Which instruments an engine follows is its configuration's: so nothing is committed, and no rebalance takes a partition
from a reader that reads.
"""

import threading
from collections.abc import Sequence
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, TopicPartition

from emp.access.kafka.port import Lost, Taken
from emp.core.errors import VenueError
from emp.core.kafka_cursors import ANSWER_S, committed_cursor, quiet
from emp.core.market_topic import MARKET, Cursor, partition_of

MOST = 1_000
"""Records taken at once."""

_AWAY = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
)
"""The topic is not there; one that comes later under its name is another, and not read on by the client by itself."""

WAIT_S = 0.1
"""For the first of them."""

PROBE_S = 2.0
"""Longest wait for an answer to whether Kafka is there."""

_GONE = (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION)
"""What was to be read next is not there: retention has removed it, or the log was cut or begun anew."""


class KafkaReader:
    """The topic of market data of a cluster."""

    def __init__(self, servers: str) -> None:
        """`servers` as HOST:PORT,… of the cluster."""
        self._address = servers
        self._servers: dict[str, Any] = {"bootstrap.servers": servers, "log_level": 0}
        self._consumer = Consumer(
            self._servers
            | {
                "group.id": "emp-market",  # must be given; nothing is committed under it
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "check.crcs": True,
                "reconnect.backoff.max.ms": 1_000,
                "topic.metadata.refresh.interval.ms": 30_000,
                "error_cb": quiet,
            }
        )
        self._since_ms: int | None = None
        self._wanted: list[int] = []  # partitions
        self._away = False  # what is read has to be begun anew once Kafka answers
        self._lost: list[Taken | Lost] = []  # what the next take tells first
        self._in_use = threading.Lock()  # a call in a thread must be over before the consumer is closed
        self._closed = False

    def open(self, keys: Sequence[bytes], since_ms: int | None) -> int:
        """As the port."""
        self._since_ms = since_ms
        try:
            found = self._consumer.list_topics(MARKET, timeout=ANSWER_S).topics[MARKET]
            if found.error is not None or not found.partitions:
                raise VenueError(
                    f"kafka {self._address}: has no topic {MARKET}: no mirror has written to it yet"
                )
            n = len(found.partitions)
            self._wanted = sorted({partition_of(key, n) for key in keys})
            self._consumer.assign([self._start(one) for one in self._wanted])
        except KafkaException as error:
            raise VenueError(f"kafka {self._address}: {error.args[0].str()}") from None
        return n

    def _start(self, partition: int) -> TopicPartition:
        """Where reading of a partition begins."""
        if self._since_ms is not None:
            asked = [TopicPartition(MARKET, partition, self._since_ms)]
            (found,) = self._consumer.offsets_for_times(asked, timeout=ANSWER_S)
            if found.offset >= 0:
                return TopicPartition(MARKET, partition, found.offset)
        _, end = self._consumer.get_watermark_offsets(TopicPartition(MARKET, partition), timeout=ANSWER_S)
        return TopicPartition(MARKET, partition, end)

    def take(self) -> Sequence[Taken | Lost]:
        """As the port."""
        with self._in_use:
            if self._closed:
                return []
            if self._lost:
                told, self._lost = self._lost, []
                return told
            first = self._consumer.poll(WAIT_S)
            if first is None:
                return []
            found = [self._taken(one) for one in [first, *self._consumer.consume(MOST - 1, 0)]]
            return [one for one in found if one is not None]

    def _taken(self, message: Any) -> Taken | Lost | None:
        error = message.error()
        if error is None:
            kind, at_ms = message.timestamp()
            at_ms = at_ms if kind == TIMESTAMP_LOG_APPEND_TIME else 0
            return Taken(message.partition(), message.offset(), message.key(), message.value(), at_ms)
        self._away |= error.code() in _AWAY
        return self._go_on(message.partition(), error) if error.code() in _GONE else None

    def _go_on(self, partition: int, error: KafkaError) -> Lost | None:
        """Begin anew where records of a partition are gone; None where Kafka does not answer: then once it does."""
        try:
            self._consumer.seek(self._start(partition))
        except KafkaException:
            self._away = True
            return None
        return Lost(partition, str(error.str()))

    def _begin_anew(self) -> None:
        """Read the topic that has come in place of the one that went."""
        places = [self._start(one) for one in self._wanted]
        self._consumer.unassign()
        self._consumer.assign(places)
        self._lost += [Lost(one, "the topic was begun anew") for one in self._wanted]

    def ask(self) -> tuple[int, str]:
        """As the port."""
        try:
            with self._in_use:
                if self._closed:
                    return 0, "closed"
                found = self._consumer.list_topics(MARKET, timeout=PROBE_S).topics[MARKET]
                there = found.error is None and bool(found.partitions)
                if there and self._away:
                    self._begin_anew()
                self._away = not there
        except KafkaException as error:
            return 0, f"kafka {self._address}: {error.args[0].str()}"
        if not there:
            return 0, f"kafka {self._address}: has no topic {MARKET} any more"
        return len(found.partitions), ""

    def cursor(self, run: str) -> Cursor | None:
        """As the port."""
        try:
            return committed_cursor(self._servers, run)
        except (KafkaException, TimeoutError):
            return None

    def close(self) -> None:
        """As the port."""
        with self._in_use:
            self._closed = True
            self._consumer.close()
