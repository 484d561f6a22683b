"""What the page costs while the market runs: a message is laid out once, whatever it changes."""

from typing import Any

import msgspec

from emp.observe.board import InstrumentView
from emp.observe.trading_views import LimitView
from tests.console.kit import DECISION, FILL, GOLD, served, view
from tests.console.test_page import SECOND, until

MESSAGES = 12
LAYOUTS = 3
"""Of a message at most: that of its frame, one that keeps the log at its end, and one of what had waited before."""


def layouts(session: Any) -> int:
    told = session.send("Performance.getMetrics")["metrics"]
    return int(next(one["value"] for one in told if one["name"] == "LayoutCount"))


def moment(i: int) -> InstrumentView:
    """The instrument with something new in every table."""
    return msgspec.structs.replace(
        GOLD,
        last_ts=GOLD.last_ts + i * SECOND,
        position=i,
        bids=((19_957, 12 + i), (19_956, 40)),
        reasons={"post_edge": 3 + i, "no_edge": 7},
        limits=(LimitView(name="position", value=i, limit=100, unit="lots"),),
        open_orders=(msgspec.structs.replace(GOLD.open_orders[0], queue_ahead=i),),
        decisions=(msgspec.structs.replace(DECISION, n=i, seq=i),),
        recent_fills=(msgspec.structs.replace(FILL, n=i, order=f"RUN-{i}"),),
    )


def test_a_message_is_laid_out_once(open_page: Any) -> None:
    with served() as page:
        page.board.publish(view(moment(1), now_ns=SECOND))
        tab = open_page(page.server.url)
        until(tab, "emp.store.one?.position === 1")
        session = tab.context.new_cdp_session(tab)
        session.send("Performance.enable")
        before = layouts(session)
        for i in range(2, 2 + MESSAGES):
            page.console.log.add(f'{{"ts": 1700000000000000000, "level": "info", "event": "moment {i}"}}\n')
            page.board.publish(view(moment(i), now_ns=i * SECOND))
            until(tab, f"emp.store.one.position === {i}")
            tab.wait_for_timeout(100)
        found = layouts(session) - before
    assert found <= LAYOUTS * MESSAGES, found
