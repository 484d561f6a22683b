"""Nothing slips past the ports of a world."""

import asyncio
import os
import random  # noqa: TID251  what is forbidden
import socket
import threading
import time
import uuid

import pytest

from emp.sim.chaos.guard import FORBIDDEN, SlippedError, guarded


@pytest.mark.parametrize(("owner", "name"), [(o, n) for o, n in FORBIDDEN], ids=lambda one: str(one)[:40])
def test_what_is_forbidden_raises_and_comes_back(owner: object, name: str) -> None:
    before = getattr(owner, name)
    with guarded() as called, pytest.raises(SlippedError, match=name):
        getattr(owner, name)()
    assert called
    assert getattr(owner, name) is before


def test_the_names_are_those_that_programs_call() -> None:
    with guarded():
        for call in (
            time.time,  # noqa: TID251
            time.monotonic,
            lambda: time.sleep(1),
            lambda: os.urandom(4),
            lambda: random.random(),
            uuid.uuid4,  # noqa: TID251
            socket.socket,
            threading.Thread(target=print).start,
            asyncio.new_event_loop,
        ):
            with pytest.raises(SlippedError):
                call()
