"""The socket behind `emp watch`."""

import socket
from collections.abc import Callable

from emp.core.errors import UsageError
from emp.observe.heartbeat import LONGEST, Beat, Watch

LOOK_S = 0.5
"""Between two looks at how long there was nothing."""


def until_silent(
    heard: Watch, where: tuple[str, int], say: Callable[[str], None], lives: Callable[[Beat], None]
) -> None:
    """Listen until the engine that was heard has fallen silent; UsageError where it cannot be listened at `where`.

    `lives` is called with every beat of an engine that goes on.
    """
    run = ""
    with _listening(where) as listening:
        say(f"listening at {where[0]}:{where[1]}")
        while not heard.silent:
            try:
                beat = heard.take(listening.recv(LONGEST))
            except TimeoutError:
                continue
            if beat is None:
                continue
            if not beat.over:
                lives(beat)
            if beat.over:
                say(f"run {beat.run} has ended in order")
            elif beat.run != run:
                say(f"run {beat.run} lives")
            run = "" if beat.over else beat.run


def _listening(where: tuple[str, int]) -> socket.socket:
    """A socket at that address, which waits LOOK_S at a time."""
    try:
        (family, _, _, _, local), *_ = socket.getaddrinfo(*where, type=socket.SOCK_DGRAM)
        found = socket.socket(family, socket.SOCK_DGRAM)
        try:
            found.bind(local)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise UsageError(f"--listen: {where[0]}:{where[1]}: {error.strerror}") from error
    found.settimeout(LOOK_S)
    return found
