"""What the peer has missed of ours for good is asked for again, and a recovery ends only with every answer."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from emp.access.fix import recovery
from emp.access.fix.message import Message
from emp.access.fix.recovery import Recovery
from emp.core.approval import Cleared
from emp.core.clock import LiveClock
from emp.core.contracts import OrderUpdate, QueryOrder
from emp.core.errors import VenueError
from tests.fix.scripted import ScriptedVenue, connected
from tests.fix.side import active, message
from tests.fix.test_orders import book, heard, new, report
from tests.fix.test_quickfix import until
from tests.kit.anew import in_real_time
from tests.kit.orders import cleared, replace_order


def test_the_application_is_told_which_of_its_messages_are_not_sent_again() -> None:
    peer = active(resend=frozenset({"8"}))
    for kind in (b"D", b"8", b"V", b"D"):
        peer.session.send(kind, b"58=x\x01")  # numbers 2 to 5
    peer.session.receive(message("2", 2, "7=1|16=0|"))
    assert peer.heard.log[1:] == ["withheld 1-2", "withheld 4-5"]
    peer.session.receive(message("2", 3, "7=3|16=3|") + message("2", 4, "7=99|16=0|"))
    assert len(peer.heard.log) == 3, "sent again, and refused: nothing is withheld"
    peer.session.receive(message("2", 6, "7=5|16=5|"))  # itself too high: answered at once
    assert peer.heard.log[3:] == ["withheld 5-5"]


def miss(venue: ScriptedVenue, kind: str, then: Callable[[dict[int, str]], None] | None = None) -> None:
    """The venue misses the next message of a type, and asks for all from it on; `then` deals with further ones."""

    def ask(message: dict[int, str]) -> None:
        venue.on[kind] = then or (lambda _: None)
        venue.say("2", f"7={message[34]}|16=0|")

    venue.on[kind] = ask


@in_real_time
def test_requests_that_were_missed_are_made_again_at_once_and_orders_asked_for() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            await until(lambda: venue.count("V") == 1)
            answer = "721=P|727=1|728=0|55=EURUSD|702=1|703=TOT|704=3000|705=0|730=1.0|"
            miss(venue, "AN", lambda m: venue.say("AP", f"710={m[710]}|{answer}"))
            began = asyncio.get_running_loop().time()
            assert [p.qty for p in await access.positions()] == [3]
            assert asyncio.get_running_loop().time() - began < 1.5, "not after the whole timeout of 2 s"
            assert venue.count("AN") == 2
            miss(venue, "D")
            access.send(cleared(new()))
            await until(lambda: venue.count("AF") == 1)  # what became of it?
            refused = venue.heard[-1]
            venue.say("j", f"45={refused[34]}|372=AF|379={refused[584]}|380=1|")
            await until(lambda: venue.count("H") == 1)
            venue.say("j", f"45={venue.heard[-1][34]}|372=H|379=R-1|380=1|58=unknown order|")
            await until(lambda: bool(access.reports))
            assert access.reports[-1].status == "rejected"
            books = venue.count("V")
            access.access._links[0].session.send(b"0", b"")  # of no interest to anybody
            seq = venue.heard[-1][34]
            venue.say("2", f"7={int(seq) + 1}|16=0|")
            await asyncio.sleep(0.05)
            assert (venue.count("V"), venue.count("H")) == (books, 1)

    asyncio.run(run())


def test_a_subscription_that_was_missed_is_made_again() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            await until(lambda: venue.count("V") == 1)
            venue.book()
            await until(lambda: access.access.market.whole)
            venue.say("2", f"7={venue.heard[-1][34]}|16=0|")
            await until(lambda: venue.count("V") == 3)  # off, and on again

    asyncio.run(run())


def test_a_snapshot_sent_again_does_not_answer_a_subscription_that_was_missed() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            await until(lambda: venue.count("V") == 1)
            first = venue.heard[-1]
            miss(venue, "V", lambda m: asked.append(m[262]))
            asked: list[str] = []
            venue.cut()
            await until(lambda: bool(asked))  # the second subscription was missed, and is made again
            venue.book(head=f"262={first[262]}|", extra="43=Y|122=20200101-00:00:00.000|")
            await asyncio.sleep(0.1)
            assert not access.access.market.whole, "that book is as old as the request that it names"
            assert len(asked) == 2, "off, and on again"
            assert first[262] not in asked
            venue.book(head=f"262={asked[-1]}|")
            await until(lambda: access.access.market.whole)

    asyncio.run(run())


class Desk:
    """An access whose venue knows the truth of many filled orders, and answers about them as the test says."""

    def __init__(self, orders: int) -> None:
        self.orders, self.clock = book(), LiveClock()
        self.address = "venue"
        self.truth = {f"R-{i}": 3 for i in range(orders)}
        self.deaf: set[str] = set()  # orders about which nothing is said
        self.queries: list[str] = []
        self.wakes = 0
        self.recovery = Recovery(self, 0.2)
        for name in self.truth:
            self.orders.body(new(name))
            report(self.orders, self.state(name, "F"))
        self.recovery.note_first_positions({"EURUSD": 0})

    def state(self, name: str, kind: str = "I") -> str:
        cum = self.truth[name] * 1000
        return (
            f"37=V{name}|11={name}|17=e{len(self.queries)}|150={kind}|39={2 if cum == 3000 else 4}|55=1|54=1|"
            f"14={cum}|151=0|6=1.0875|60=20240605-12:00:00.{len(self.queries):03d}|"
        )

    def send(self, command: Cleared) -> None:
        assert isinstance(command, QueryOrder)
        self.queries.append(command.cl_ord_id)
        if command.cl_ord_id not in self.deaf:
            asyncio.get_running_loop().call_soon(self._answer, command.cl_ord_id)

    def _answer(self, name: str) -> None:
        if self.truth[name] < 0:  # forgotten
            self.orders.report(heard(f"35=j|45=1|372=H|379={name}|380=1|58=unknown order|"))
        else:
            for update in report(self.orders, self.state(name)):
                self.report(update)
        self.recovery.heard()

    def report(self, update: OrderUpdate) -> None:
        self.recovery.told(update)

    def wake(self) -> None:
        self.wakes += 1

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return asyncio.create_task(work, name=name)

    async def ask(self, kind: bytes, body: Callable[[str], bytes]) -> list[Message]:
        raise VenueError("not asked here")

    async def unexplained(self) -> Mapping[str, int]:
        held = sum(max(0, lots) for lots in self.truth.values())
        return {"EURUSD": held - self.orders.net["EURUSD"]}

    async def settle(self) -> None:
        self.recovery.begin(anew=True)
        while not self.recovery._task.done():  # type: ignore[union-attr]
            await asyncio.sleep(0.01)


def test_a_trade_taken_back_unheard_is_found_however_old_its_order_is() -> None:
    async def run() -> None:
        desk = Desk(300)
        desk.truth["R-70"] = 1
        await desk.settle()
        assert desk.orders.net == {"EURUSD": 3 * 300 - 2}
        assert len(desk.queries) == 4 * recovery.AT_ONCE
        assert desk.queries[0] == "R-299", "newest first"
        await desk.settle()
        assert len(desk.queries) == 4 * recovery.AT_ONCE, "nothing is open any more"

    asyncio.run(run())


def test_what_no_order_explains_is_agreed_on_once_all_have_been_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        monkeypatch.setattr(recovery, "MOST", 100)
        desk = Desk(150)
        desk.truth["R-3"] = 2  # beyond what is asked for
        desk.truth["R-149"] = -1  # the venue has forgotten it: that is an answer
        held = desk.orders.net["EURUSD"]
        await desk.settle()
        assert len(desk.queries) == 100
        assert desk.orders.net == {"EURUSD": held}
        assert desk.recovery._others == {"EURUSD": -4}
        await desk.settle()
        assert len(desk.queries) == 100

    asyncio.run(run())


def test_a_position_is_not_agreed_on_while_an_answer_is_missing() -> None:
    async def run() -> None:
        desk = Desk(3)
        desk.truth["R-1"] = 1
        desk.deaf = {"R-1"}
        await desk.settle()
        assert desk.recovery._others == {"EURUSD": 0}
        assert desk.recovery._talk.pending, "it is tried again when it is time"
        assert desk.wakes
        desk.deaf = set()
        await asyncio.sleep(max(0.0, (desk.recovery.due_ns() - desk.clock.monotonic_ns()) / 1e9))
        desk.recovery.begin_in_time()
        await until(lambda: desk.orders.net["EURUSD"] == 7)
        await until(lambda: not desk.recovery._talk.running)
        assert not desk.recovery._talk.pending

    asyncio.run(run())


def test_a_venue_that_never_answers_is_asked_three_times_in_a_session() -> None:
    async def run() -> None:
        desk = Desk(1)
        desk.truth["R-0"] = 1
        desk.deaf = {"R-0"}
        await desk.settle()
        for _ in range(4):
            desk.recovery._spawn()
            await desk.recovery._task  # type: ignore[misc]
        assert len(desk.queries) == 3
        await desk.settle()  # another session
        assert len(desk.queries) == 4

    asyncio.run(run())


def test_an_order_that_goes_on_under_another_id_is_asked_for_by_that_alone() -> None:
    async def run() -> None:
        desk = Desk(1)
        desk.truth |= {"R-5": 0, "R-6": 1}
        desk.orders.body(new("R-5"))
        desk.recovery.sent("R-5", "EURUSD", 1)
        desk.orders.body(replace_order("R-6", "R-5", 1, 4, 108_750, ts=1))
        desk.recovery.sent("R-6", "EURUSD", 2)
        working = desk.state("R-6", "F").replace("|39=4|", "|39=1|").replace("|151=0|", "|151=3000|")
        for update in report(desk.orders, working):
            desk.report(update)
        await desk.settle()
        assert desk.queries == ["R-6"]
        desk.truth["R-6"] = 3
        for update in report(desk.orders, desk.state("R-6", "F")):
            desk.report(update)
        await desk.settle()
        assert desk.queries == ["R-6"], "it has ended, under whatever id"

    asyncio.run(run())


def test_a_recovery_of_an_old_session_says_nothing_in_a_new_one() -> None:
    async def run() -> None:
        desk = Desk(2)
        desk.truth["R-1"] = 1
        desk.deaf = {"R-1"}
        desk.recovery.begin(anew=True)
        first = desk.recovery._task
        assert first is not None
        await until(lambda: "R-1" in desk.queries)
        desk.deaf = set()
        await desk.settle()
        assert first.cancelled()
        assert desk.orders.net == {"EURUSD": 4}
        assert not desk.recovery._talk.running
        assert not desk.recovery._talk.pending

    asyncio.run(run())


def test_a_venue_that_refuses_to_tell_positions_is_asked_three_times_in_all() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            await until(lambda: venue.count("V") == 1)
            venue.on["AN"] = lambda m: venue.say("j", f"45={m[34]}|372=AN|379={m[710]}|380=3|58=not here|")
            access.send(cleared(new()))
            venue.say(
                "8", "37=V9|11=R-1|55=EURUSD|54=1|17=e1|150=F|39=2|32=3000|31=1.087|14=3000|151=0|6=1.087|"
            )
            await until(lambda: bool(access.reports))
            with pytest.raises(VenueError, match="the venue refused 35=AN: not here"):
                await access.positions()
            recovery = access.access._recovery
            for asked in (2, 3, 4, 4, 4):
                recovery.begin(anew=True)
                await until(lambda: recovery._task.done())
                assert venue.count("AN") == asked

    asyncio.run(run())


def test_a_request_that_is_missed_again_and_again_is_given_up() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            await until(lambda: venue.count("V") == 1)
            venue.on["AN"] = lambda m: venue.say("2", f"7={m[34]}|16=0|")
            with pytest.raises(VenueError, match="35=AN was lost on its way 3 times"):
                await access.positions()
            assert venue.count("AN") == 3

    asyncio.run(run())
