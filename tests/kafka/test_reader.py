"""What the client of Kafka says, and where reading goes on: over a client that says what a test wants."""

from typing import Any

import pytest
from confluent_kafka import KafkaError

from emp.access.kafka.port import Lost, Taken
from emp.access.kafka.reader import KafkaReader
from emp.core.errors import VenueError


class Said:
    """A message of the client."""

    def __init__(self, error: KafkaError | None = None, partition: int = 3, offset: int = 50) -> None:
        self._error, self._partition, self._offset = error, partition, offset

    def error(self) -> KafkaError | None:
        return self._error

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return (1, 1_000)  # of who has made the record

    def key(self) -> bytes:
        return b"A"

    value = key


class Client:
    """A consumer of two partitions with the records [first, end)."""

    def __init__(self, *said: Said, first: int = 0, end: int = 100) -> None:
        self.said, self.first, self.end = list(said), first, end
        self.places: dict[int, int] = {}

    def poll(self, _: float) -> Said | None:
        return self.said.pop(0) if self.said else None

    def consume(self, *_: object) -> list[Said]:
        return []

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return self.first, self.end

    def assign(self, places: list[Any]) -> None:
        self.places = {one.partition: one.offset for one in places}

    def unassign(self) -> None:
        self.places = {}

    def seek(self, place: Any) -> None:
        self.places[place.partition] = place.offset


def reader_of(client: Client) -> KafkaReader:
    made = KafkaReader("127.0.0.1:9")
    made._consumer.close()
    made._consumer = client  # type: ignore[assignment]
    made._next = {3: 40, 5: 60}
    return made


def test_what_the_client_says_of_a_partition_that_is_not_known_is_a_loss() -> None:
    error = KafkaError(KafkaError._BAD_MSG)
    made = reader_of(Client(Said(error), Said(error, partition=-1)))
    assert made.take() == [Lost(3, error.str())]
    assert [one.partition for one in made.take()] == [3, 5]


@pytest.mark.parametrize("code", [KafkaError._PARTITION_EOF, KafkaError._TRANSPORT])
def test_what_passes_is_no_loss(code: int) -> None:
    assert reader_of(Client(Said(KafkaError(code)))).take() == []


@pytest.mark.parametrize(
    "error",
    [KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), KafkaError(KafkaError._FATAL, "no more", True)],
)
def test_what_does_not_pass_ends_the_market_in_one_line(error: KafkaError) -> None:
    with pytest.raises(VenueError) as told:
        reader_of(Client(Said(error))).take()
    assert error.str() in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("first", "end", "goes_on"), [(0, 100, 51), (70, 100, 70), (0, 20, 0)])
def test_reading_goes_on_where_it_was_or_else_with_the_first_record(
    first: int, end: int, goes_on: int
) -> None:
    gone = Said(KafkaError(KafkaError.OFFSET_OUT_OF_RANGE))
    client = Client(Said(), gone, first=first, end=end)
    made = reader_of(client)
    assert made.take() == [Taken(3, 50, b"A", b"A", 0)]  # the topic does not say when Kafka took it
    assert [one.partition for one in made.take()] == [3]
    assert client.places == {3: goes_on}
    made._begin_anew()
    assert client.places[3] == goes_on
    assert [one.partition for one in made.take()] == [3, 5]
