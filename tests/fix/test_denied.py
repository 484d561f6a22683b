"""Which denied logon is for good, by what the peer says and by how often; and what a session cannot send."""

import asyncio

import pytest

from emp.access.fix.frame import Framer
from emp.access.fix.link import Link
from emp.access.fix.message import Message
from emp.access.fix.outgoing import Outgoing
from emp.access.fix.refusal import Denials, read_refusal
from emp.access.fix.schedule import Backoff
from emp.access.fix.settings import SENDS
from emp.access.fix.store import MemoryStore
from emp.access.fix.terms import SessionConfig
from emp.access.port import Reach
from emp.core.clock import LiveClock
from emp.core.errors import VenueError
from tests.fix.test_link import FAST, Told, greet, said, scripted
from tests.fix.test_quickfix import until
from tests.fix.wire import framed


def message(kind: str, body: str) -> Message:
    framer = Framer()
    [frame] = framer.frames(framed(f"35={kind}|34=1|49=V|52=20261127-10:00:00|56=ME|{body}"))
    return Message(framer, frame)


@pytest.mark.parametrize(
    ("kind", "body", "final"),
    [
        # codes come before words, whatever these say
        ("5", "1409=7|58=Unknown user or password, trading is closed|", False),
        ("5", "1409=6|58=Bitte den Kundendienst anrufen|", True),
        ("5", "1409=5|", True),
        ("3", "373=10|58=authentication clock skew|", False),
        ("3", "373=9|371=49|", True),
        ("j", "380=4|58=the authentication service is down|", False),
        ("j", "380=6|", True),
        ("5", "58=CH_CLIENT_AUTH_FAILURE|", True),
        ("5", "58=RET_ACCOUNT_DISABLED: call us|", True),
        ("5", "58=SERVER_BUSY: the authorisation server restarts|", True),
        ("5", "58=SERVER_BUSY|", False),
        # words
        ("5", "58=Invalid password|", True),
        ("5", "58=Unknown SenderCompID|", True),
        ("5", "58=Unknown TargetCompID FOO|", True),
        ("5", "58=Account 123 is locked|", True),
        ("5", "58=user has been disabled|", True),
        ("5", "58=You are not entitled to this service|", True),
        ("5", "58=Login incorrect|", True),
        ("5", "58=maintenance until 22:10|", False),
        ("5", "58=session is not open yet|", False),
        ("5", "58=another client is logged on|", False),
        ("5", "", False),
    ],
)
def test_codes_decide_before_words(kind: str, body: str, final: bool) -> None:
    found = read_refusal(message(kind, body))
    assert found.final is final
    assert found.text
    assert not found.numbers


def test_numbers_that_do_not_agree_are_no_refusal_of_the_user() -> None:
    assert read_refusal(message("5", "1409=9|58=password|")).numbers
    assert read_refusal(message("5", "58=MsgSeqNum too low, expecting 12 but received 1|")).numbers


@pytest.mark.parametrize(
    "words",
    [
        "already logged on",
        "User already logged in, multiple sessions are not allowed",
        "RET_ALREADY_LOGGED_IN",
        "Session is already active",
        "another client is logged on",
        "Duplicate logon",
        "You have been logged on from another location: session taken over",
        "session in use",
    ],
)
def test_somebody_under_our_name_is_no_refusal_for_good(words: str) -> None:
    found = read_refusal(message("5", f"58={words}|"))
    assert found.occupied
    assert not found.final


@pytest.mark.parametrize(
    "words", ["Invalid password", "session is not open yet", "maintenance", "account is not active", "closed"]
)
def test_other_words_do_not_tell_of_another(words: str) -> None:
    assert not read_refusal(message("5", f"58={words}|")).occupied


def test_a_session_taken_by_another_and_a_door_held_by_it_are_told_apart() -> None:
    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if n == 1:
            await greet(reader, writer)
            writer.write(said("5", 2, "58=logged on elsewhere|"))
        elif n < 4:
            await reader.readuntil(b"\x0110=")
            writer.write(said("5", 1, "58=already logged on|"))
        else:
            await greet(reader, writer)
        await writer.drain()
        await reader.read()

    causes: list[str] = []

    async def work(link: Link, told: Told, why: str) -> None:
        assert why == ""
        link.on_loss = lambda _why, _attempt: causes.append(link.cause)
        await until(lambda: len(causes) >= 3 and link.session.active_ns >= 0, 10)

    backoff = Backoff(first_s=0.02, longest_s=0.02, spread=0.0)
    scripted(serve, work, backoff=backoff)
    assert causes[:3] == ["taken", "occupied", "occupied"]


def test_a_held_door_is_tried_again_soon_however_often_it_was_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emp.access.fix.link.OCCUPIED_S", 0.02)

    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if n in (1, 8):
            await greet(reader, writer)
        else:
            await reader.readuntil(b"\x0110=")
            writer.write(said("5", 1, "58=already logged on|"))
        await writer.drain()
        if n > 1:
            await reader.read()

    losses: list[str] = []

    async def work(link: Link, told: Told, why: str) -> None:
        link.on_loss = lambda why, _attempt: losses.append(why)
        assert why == ""
        await until(lambda: len(losses) >= 7 and link.session.active_ns >= 0, 10)

    backoff = Backoff(first_s=0.02, factor=1e4, longest_s=200.0, spread=0.0)
    assert len(scripted(serve, work, backoff=backoff)) == 8


def test_a_code_without_words_is_told_in_words_of_the_standard() -> None:
    assert read_refusal(message("5", "1409=6|")).text == "the account is locked"
    assert read_refusal(message("3", "373=9|")).text == "373=9"
    assert read_refusal(message("5", "")).text == "no reason given"


def test_denials_in_a_row_end_after_a_number_and_a_time() -> None:
    second = 1_000_000_000
    denials = Denials(Backoff(denials=3, denied_s=10.0))
    assert [denials.note(t * second) for t in (0, 4, 8)] == ["", "", ""], "three, but for 8 s only"
    assert denials.note(10 * second) == "denied 4 times in a row, for 10 s"
    denials.forget()
    assert denials.note(100 * second) == ""
    assert denials.note(200 * second) == "", "two only"


def test_a_link_that_is_denied_again_and_again_gives_up_whatever_the_words() -> None:
    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if n == 1:
            await greet(reader, writer)
            return
        await reader.readuntil(b"\x0110=")
        if n == 2:
            writer.write(said("5", 2, "58=keine Anmeldung|"))
            await writer.drain()
            await reader.read()  # the others are closed without a word

    async def work(link: Link, told: Told, why: str) -> None:
        assert why == ""
        await until(lambda: bool(told.ended), 10)
        assert "without an answer: does it know ME at VENUE" in told.ended[0]
        assert "(denied 4 times in a row, for 0 s)" in told.ended[0]
        assert link.cause == "refused"

    backoff = Backoff(first_s=0.02, longest_s=0.02, spread=0.0, denials=4, denied_s=0.03)
    assert len(scripted(serve, work, backoff=backoff)) == 5


def test_a_logon_that_is_met_by_a_closed_door_says_who_was_not_known() -> None:
    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\x0110=")

    async def work(link: Link, told: Told, why: str) -> None:
        assert why.startswith(
            "the peer closed the connection at our logon without an answer: does it know ME"
        )

    assert len(scripted(serve, work)) == 1


def test_each_loss_is_of_a_kind() -> None:
    causes: list[str] = []

    async def serve(n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if n in (1, 2, 4):
            await greet(reader, writer)
        if n == 2:
            writer.write(said("5", 2, "58=good night|"))
            await writer.drain()
            await reader.read()
        elif n == 3:
            await asyncio.sleep(0.4)  # the logon is not answered
        elif n == 4:
            writer.write(said("4", 5, "123=N|36=x|") + said("5", 1, "58=again|"))
            writer.write(said("0", 1))
            await writer.drain()
            await reader.read()

    async def work(link: Link, told: Told, why: str) -> None:
        link.on_loss = lambda why, attempt: causes.append(link.cause)
        await until(lambda: len(causes) >= 4, 15)

    scripted(serve, work, backoff=FAST, logon_timeout_s=0.2)
    assert causes[:4] == ["lost", "logout", "unanswered", "logout"]


@pytest.mark.parametrize("reach", [Reach.MARKET, Reach.ACCOUNT])
@pytest.mark.parametrize("kind", [b"D", b"F", b"G", b"H", b"q", b"AE", b"s", b"E"])
def test_a_session_without_orders_cannot_make_one(reach: Reach, kind: bytes) -> None:
    store = MemoryStore()
    config = SessionConfig(sender="ME", target="VENUE", sends=SENDS[reach])
    out = Outgoing(config, store, LiveClock(), None)
    with pytest.raises(VenueError, match="without orders"):
        out.send(kind, b"")
    assert out.drain() == b""
    assert store.next_out == 1
    out.send(b"V", b"")
    assert b"35=V" in out.drain()
