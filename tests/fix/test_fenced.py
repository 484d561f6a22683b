"""The FIX venue refuses what an engine sends whose lease has passed to another."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from emp.access.fix.client import FixAccess
from emp.access.fix.dialect import PLAIN
from emp.access.fix.settings import FixSettings
from emp.access.fix.terms import Phase
from emp.core.codes import OrderStatus
from emp.core.errors import VenueError
from emp.core.ids import cl_ord_id
from emp.core.instrument import find
from emp.sim.venues.fix.settings import VenueSettings
from emp.sim.venues.fix.venue import FixVenue
from tests.kit.orders import cleared, new_order
from tests.kit.venue import ScriptedMarket, VenueEnd

EURUSD = find("EURUSD")


class Said:
    """A message with the fields that matter here, and a client that hears."""

    def __init__(self, **fields: str) -> None:
        self.fields = [(int(tag[1:]), value.encode()) for tag, value in fields.items()]
        self.poss_resend, self.kind, self.seq = False, "D", 1

    def text(self, tag: int, default: str = "") -> str:
        return next((value.decode() for found, value in self.fields if found == tag), default)

    def get(self, tag: int, default: bytes | None = None) -> bytes | None:
        return next((value for found, value in self.fields if found == tag), default)


def order(sequence: int, token: int, orig: str = "") -> Any:
    fields = {
        "t11": cl_ord_id("0ABCDEFG", sequence, token),
        "t55": "BTCUSDT",
        "t54": "1",
        "t38": "1",
        "t40": "2",
    }
    fields |= {"t44": "100", "t59": "0", "t60": "20240102-10:00:00"} | ({"t41": orig} if orig else {})
    return Said(**fields)


def test_commands_of_an_older_token_are_refused_and_reach_no_market() -> None:
    taken: list[Any] = []
    told: list[bytes] = []
    market: Any = SimpleNamespace(take=taken.append)
    venue = FixVenue(market, [find("BTCUSDT", None)], VenueSettings(dialect=PLAIN))
    session = SimpleNamespace(send=lambda _kind, body: told.append(body), phase=None)
    client: Any = SimpleNamespace(session=session, flush=lambda: None, trades=False)
    venue.clients.append(client)
    said: list[str] = []
    venue._no_change = lambda update, _orig, _asked: said.append(update.text)  # type: ignore[method-assign]
    first = order(1, 7)
    venue.order(client, first)
    assert len(taken) == 1, told
    venue.cancel(client, order(2, 8, first.text(11)))  # a new holder withdraws it
    assert len(taken) == 2
    venue.order(client, order(3, 7))
    assert b"fenced: token 7 is older than 8" in told[-1]
    venue.cancel(client, order(4, 7, first.text(11)))
    venue.replace(client, order(5, 7, first.text(11)))
    assert said == ["fenced: token 7 is older than 8"] * 2
    venue.order(client, order(6, 0))  # an engine without a lease is older than any
    assert b"fenced: token 0 is older than 8" in told[-1]
    assert len(taken) == 2
    venue.order(client, order(7, 8))
    assert len(taken) == 3


@pytest.mark.parametrize("token", [0, 1])
def test_where_no_token_was_told_nothing_is_fenced(token: int) -> None:
    venue = FixVenue(SimpleNamespace(), [find("BTCUSDT", None)], VenueSettings(dialect=PLAIN))  # type: ignore[arg-type]
    assert venue._fenced(order(1, token)) == ""


def test_what_waited_for_a_peer_that_did_not_read_is_not_sent_where_it_may_not() -> None:
    async def scenario() -> None:
        settings = FixSettings(host="h", port=1, sender="EMP", target="EMPVENUE", dialect=PLAIN)
        access, reports, waiting = FixAccess(settings), [], []
        sent: list[bytes] = []
        link: Any = SimpleNamespace(
            session=SimpleNamespace(phase=Phase.ACTIVE, send=lambda kind, _body: sent.append(kind)),
            reading=False,
            address="h:1",
            defer=lambda send, _expire: waiting.append(send),
            wake=lambda: None,
        )
        access._links = [link]
        access.report = reports.append  # type: ignore[method-assign]
        may = True
        access.guard(lambda: may)
        access.send(cleared(new_order("A-1", 1, 1, 100)))
        may = False
        waiting[0]()
        await asyncio.sleep(0.05)
        assert [(one.clOrdID, one.status) for one in reports] == [("A-1", OrderStatus.REJECTED)]
        assert not sent

    asyncio.run(scenario())


@pytest.mark.parametrize("patience_s", [0.0, 60.0])
def test_a_start_waits_for_the_session_of_the_engine_before(patience_s: float) -> None:
    async def scenario() -> None:
        market = ScriptedMarket(EURUSD, VenueEnd())
        venue = FixVenue(market, (EURUSD,), VenueSettings(dialect=PLAIN))
        port = await venue.start()

        def access(patience: float) -> FixAccess:
            settings = FixSettings(
                host="127.0.0.1",
                port=port,
                sender="EMP",
                target="EMPVENUE",
                dialect=PLAIN,
                tls=False,
                reset_on_logon=True,
                patience_s=patience,
            )
            return FixAccess(settings)

        sink = _Deaf()
        first, second = access(0.0), access(patience_s)
        await first.connect((EURUSD,), sink)
        starting = asyncio.create_task(second.connect((EURUSD,), sink))
        if patience_s:
            await asyncio.sleep(0.8)
            assert not starting.done()
            await first.close()
            await starting
            await second.close()
        else:
            with pytest.raises(VenueError, match="already logged on"):
                await starting
            await first.close()
        await venue.close()

    asyncio.run(scenario())


class _Deaf:
    """A sink that hears nothing."""

    def events(self, rows: Any) -> None: ...

    def report(self, update: Any) -> None: ...

    def link(self, state: Any) -> None: ...

    def ended(self, error: Any) -> None: ...

    async def ready(self) -> None: ...
