"""What the feed needs of Kafka: records of one topic, in order within a partition; a test has them from a list."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from emp.core.market_topic import Cursor


class Taken(NamedTuple):
    """A record as it was read."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    at_ms: int  # when Kafka took it, ms UTC; 0: the topic does not say


class Lost(NamedTuple):
    """Records of a partition are gone that were not read: reading goes on behind them."""

    partition: int
    why: str


class Reader(Protocol):
    """One topic. Every method but `close` may block for a second or two, and is called in a thread."""

    def open(self, keys: Sequence[bytes], since_ms: int | None) -> int:
        """Begin to read the partitions of these keys, from the first record that Kafka took at `since_ms` (UTC) or
        later, or from the end on (None); how many partitions there are. VenueError where Kafka does not answer or has
        no such topic.
        """

    def take(self) -> Sequence[Taken | Lost]:
        """What has come; empty where nothing did for a while."""

    def ask(self) -> tuple[int, str]:
        """How many partitions the topic has now, 0 where Kafka does not say, and why it does not."""

    def cursor(self, run: str) -> Cursor | None:
        """What a mirror has said of a run last; None where none has, or Kafka does not answer.

        DataError where it cannot be read.
        """

    def close(self) -> None:
        """Let go of the connections."""
