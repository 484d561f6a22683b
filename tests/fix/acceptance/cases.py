"""What an acceptance case is."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Case(NamedTuple):
    """One definition: its name, what it demands, how it is played; which ends it concerns."""

    name: str
    demands: str
    play: Callable[[Any], None]
    initiator: str = ""  # why it says nothing to an initiator, empty where it does


CASES: list[Case] = []


def case(
    name: str, demands: str, initiator: str = ""
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    def add(play: Callable[[Any], None]) -> Callable[[Any], None]:
        CASES.append(Case(name, demands, play, initiator))
        return play

    return add


ONLY_ACCEPTOR = "acceptors only: an initiator makes the connection"
FIELD_RULES = "venues only: brokers add fields of their own, which we ignore"
