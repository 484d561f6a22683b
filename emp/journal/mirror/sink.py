"""What a mirror is to whoever drives it."""

from typing import Protocol

from emp.core.errors import EmpError
from emp.journal.mirror.follow import Batch


class MirrorError(EmpError):
    """A service is away, refuses, or took another word than ours: the mirror connects again and asks how far it is."""

    exit_code = 5


class Sink(Protocol):
    """One run in one service. After a MirrorError it is closed, and another one is made."""

    def positions(self) -> dict[str, int]:
        """How far the service has come, as it says itself."""

    def write(self, batch: Batch) -> None:
        """Bring records and new positions into the service, both or neither.

        Raises MirrorError where that is not known to have happened.
        """

    def close(self) -> None:
        """Let go of the connection; raises nothing."""
