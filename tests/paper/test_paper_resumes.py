"""A market on paper that may begin before now is told what is known."""

from emp.access.paper.access import PaperAccess
from emp.access.port import Resumes
from emp.core.clock import LiveClock
from tests.fix.test_quotes_elsewhere import Elsewhere


def test_what_is_known_is_passed_on_to_the_market() -> None:
    market = Elsewhere()
    access = PaperAccess(market, LiveClock())  # type: ignore[arg-type]
    assert isinstance(access, Resumes)
    access.begin_after([7, 8])
    assert market.after == [7, 8]
