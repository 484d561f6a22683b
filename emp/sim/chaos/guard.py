"""While a world runs, nothing may ask the machine for time, chance, threads or a connection: whatever does, raises."""

import asyncio
import os
import random  # noqa: TID251  to forbid it
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from emp.core.errors import EmpError


class SlippedError(EmpError):
    """Something slipped past the ports of a world."""


FORBIDDEN: tuple[tuple[Any, str], ...] = (
    *((time, name) for name in ("time", "time_ns", "monotonic", "monotonic_ns", "sleep")),
    *((time, name) for name in ("perf_counter", "perf_counter_ns")),
    *((random, name) for name in ("random", "randint", "choice", "shuffle", "uniform", "getrandbits")),
    (os, "urandom"),
    *((secrets, name) for name in ("token_bytes", "token_hex", "token_urlsafe", "randbelow", "choice")),
    (uuid, "uuid1"),
    (uuid, "uuid4"),
    (threading.Thread, "start"),
    (socket, "socket"),
    (asyncio, "new_event_loop"),
)
"""What no part of a run may call: clocks, chance, threads, sockets, the default loop."""


@contextmanager
def guarded() -> Iterator[list[str]]:
    """Let everything that is FORBIDDEN raise SlippedError in this block; yields the names of what was called."""
    called: list[str] = []
    with ExitStack() as stack:
        for owner, name in FORBIDDEN:
            stack.enter_context(mock.patch.object(owner, name, _refusing(f"{owner.__name__}.{name}", called)))
        yield called


def _refusing(name: str, called: list[str]) -> Any:
    def refuse(*_: object, **__: object) -> Any:
        called.append(name)
        raise SlippedError(f"{name} was called while a world ran: use the port")

    return refuse
