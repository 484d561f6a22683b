"""What the log says of a run that never began."""

import asyncio

import pytest
from structlog.testing import capture_logs

from emp.core.clock import LiveClock
from emp.core.errors import VenueError
from emp.engine.ending import Ending
from emp.observe.board import Board


def test_a_start_that_fails_is_in_the_log_as_any_other_end() -> None:
    async def refused() -> None:
        raise VenueError("the peer refused the logon: not today")

    async def run() -> None:
        with pytest.raises(VenueError):
            await Ending(Board(LiveClock()))._unless_over(refused())

    with capture_logs() as lines:
        asyncio.run(run())
    [line] = lines
    assert (line["event"], line["kind"]) == ("failed", "VenueError")
    assert "not today" in line["error"]
