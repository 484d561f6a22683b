"""The cursors of mirrors in Kafka, read back: how far a run is there, and in what ticks and lots it counts."""

import time
from typing import Any, Final

import confluent_kafka.admin
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition

from emp.core.market_topic import CURSORS, Cursor, decode_cursor

_admin: Any = confluent_kafka.admin  # its types name neither topics nor offsets

TRANSACTION_S: Final = 20.0
"""After which Kafka itself ends what a mirror that has died had open."""

ANSWER_S: Final = 10.0


def quiet(_: object) -> None:
    """Connections that come and go are told by what was asked of them."""


def newest_cursor(servers: dict[str, Any], run: str) -> Cursor | None:
    """The newest committed cursor of a run; None where there is none, DataError where it cannot be read.

    Whatever was begun before this was called has ended when it answers: a transaction of another run that is still open
    hides later ones. KafkaException or TimeoutError where Kafka does not answer.
    """
    place = TopicPartition(CURSORS, 0)
    admin = _admin.AdminClient(servers | {"error_cb": quiet})
    end = _end(admin, place, IsolationLevel.READ_UNCOMMITTED)
    give_up = time.monotonic() + 2 * TRANSACTION_S
    while _end(admin, place, IsolationLevel.READ_COMMITTED) < end:
        if time.monotonic() > give_up:
            raise TimeoutError("another mirror's transaction does not end")
        time.sleep(0.2)
    return _search_back(servers, run, end)


def committed_cursor(servers: dict[str, Any], run: str) -> Cursor | None:
    """The newest cursor of a run that can be read now, without waiting for transactions that are open; None and errors
    as of `newest_cursor`.
    """
    admin = _admin.AdminClient(servers | {"error_cb": quiet})
    return _search_back(servers, run, _end(admin, TopicPartition(CURSORS, 0), IsolationLevel.READ_COMMITTED))


def _end(admin: Any, place: Any, level: Any) -> int:
    asked = admin.list_offsets(
        {place: _admin.OffsetSpec.latest()}, isolation_level=level, request_timeout=ANSWER_S
    )
    return int(asked[place].result(ANSWER_S).offset)


def _search_back(servers: dict[str, Any], run: str, end: int) -> Cursor | None:
    """Read from the end towards the beginning, in windows that double, until the run is found."""
    settings = {
        "group.id": "emp-mirror",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "error_cb": quiet,
    }
    consumer = Consumer(servers | settings)
    try:
        window = 64
        while True:
            first = max(0, end - window)
            found = None
            consumer.assign([TopicPartition(CURSORS, 0, first)])
            give_up = time.monotonic() + 2 * ANSWER_S
            while True:
                message = consumer.poll(1.0)
                if message is None:
                    if time.monotonic() > give_up:
                        raise TimeoutError("does not answer with its cursors")
                    continue
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        break
                    raise KafkaException(error)
                if message.key() == run.encode():
                    found = message.value()
            if found is not None:
                return decode_cursor(found)
            if first == 0:
                return None
            window *= 8
    finally:
        consumer.close()
