"""Mirror in Kafka: one transaction carries a batch to its topics and the cursor to a topic of cursors.

A transactional producer is idempotent (acks=all), and its id is the run's: a second mirror of the run, or the next
process after a crash, ends what the first one had open and fences it. So each record is committed exactly once, and
whoever reads committed records (`isolation.level=read_committed`) sees no other. The partition of a record follows from
its key by murmur2, as Java's clients have it: one instrument, one partition.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import confluent_kafka.admin
from confluent_kafka import KafkaError, KafkaException, Producer

from emp.core.errors import DataError
from emp.core.kafka_cursors import ANSWER_S, TRANSACTION_S, newest_cursor, quiet
from emp.core.market_topic import CURSORS, Counted, Cursor, Origin, encode_cursor
from emp.journal.mirror.follow import NOWHERE, Batch, Instrument
from emp.journal.mirror.records import TOPICS, records_of
from emp.journal.mirror.sink import MirrorError

_admin: Any = confluent_kafka.admin  # its types name neither topics nor offsets

PARTITIONS = 16
"""Of a topic that this makes; one that is there stays as it is."""

TIMED = {"message.timestamp.type": "LogAppendTime"}
"""A record's time is when Kafka took it: by market time, a run of last year would be past its retention at once."""


class KafkaSink:
    """One run in Kafka."""

    def __init__(
        self,
        servers: str,
        run: str,
        instruments: Sequence[str],
        grids: Sequence[Instrument],
        origin: Origin,
    ) -> None:
        """`servers` as HOST:PORT,… of the cluster; raises MirrorError where it does not answer."""
        self._run = run
        self._instruments = tuple(instruments)
        self._grids = [Counted(*one) for one in grids]
        self._origin = origin
        self._servers = {"bootstrap.servers": servers, "log_level": 0, "socket.timeout.ms": 10_000}
        self._failed = ""
        self._make_topics()
        self._producer = Producer(
            self._servers
            | {
                "transactional.id": f"emp-mirror-{run}",
                "transaction.timeout.ms": int(TRANSACTION_S * 1e3),
                "message.timeout.ms": int(TRANSACTION_S * 1e3),
                "acks": "all",
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": 5,
                "error_cb": quiet,
            }
        )
        try:
            self._producer.init_transactions(ANSWER_S)
        except KafkaException as error:
            raise _failure(error) from None

    def _make_topics(self) -> None:
        admin = _admin.AdminClient(self._servers | {"error_cb": quiet})
        try:
            there = admin.list_topics(timeout=ANSWER_S).topics
            wanted = [_admin.NewTopic(name, PARTITIONS, config=TIMED) for name in TOPICS if name not in there]
            if CURSORS not in there:
                wanted.append(_admin.NewTopic(CURSORS, 1, config={"cleanup.policy": "compact"}))
            for made in (admin.create_topics(wanted, request_timeout=ANSWER_S) if wanted else {}).values():
                _made(made)
        except KafkaException as error:
            raise _failure(error) from None

    def positions(self) -> dict[str, int]:
        """The newest cursor of this run among the committed ones."""
        try:
            value = newest_cursor(self._servers, self._run)
        except KafkaException as error:
            raise _failure(error) from None
        except TimeoutError as error:
            raise MirrorError(f"kafka: {error}") from None
        except DataError as error:
            raise MirrorError(f"kafka: the cursor of {self._run} cannot be read: {error}") from None
        return dict(NOWHERE) if value is None else dict(NOWHERE) | value.positions

    def write(self, batch: Batch) -> None:
        """Commit a batch and its cursor in one transaction."""
        cursor = Cursor(
            run=self._run, positions=batch.until, instruments=self._grids, **self._origin._asdict()
        )
        try:
            self._producer.begin_transaction()
            for record in records_of(self._run, self._instruments, batch):
                self._produce(record.topic, record.key, record.value)
            self._produce(CURSORS, self._run.encode(), encode_cursor(cursor))
            self._producer.commit_transaction(TRANSACTION_S)
        except KafkaException as error:
            raise _failure(error) from None
        if self._failed:  # cannot be: a commit fails where a record of it did
            raise MirrorError(f"kafka: {self._failed}")

    def _produce(self, topic: str, key: bytes, value: bytes) -> None:
        end = time.monotonic() + TRANSACTION_S
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=self._delivered)
                self._producer.poll(0)
                return
            except BufferError:
                if time.monotonic() > end:
                    raise MirrorError("kafka: takes no more records") from None
                self._producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._failed = str(error.str())

    def close(self) -> None:
        """Let go of the producer; what it has open is ended by the next one."""
        with suppress(KafkaException):
            self._producer.purge()
            self._producer.flush(0)


def _made(future: Any) -> None:
    try:
        future.result(ANSWER_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _failure(error: KafkaException) -> MirrorError:
    return MirrorError(f"kafka: {error.args[0].str()}")
