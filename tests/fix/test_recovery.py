"""What a session does about numbers that are missing, begin again, or do not agree."""

import re

import pytest

from emp.access.fix import gap
from emp.access.fix.frame import Frame
from emp.access.fix.gap import Gap
from emp.access.fix.message import Message
from emp.access.fix.terms import Phase
from emp.access.fix.text import FieldError
from emp.core.config.secrets import Secret
from tests.fix.side import Peer, S, active, message
from tests.fix.wire import framed, value

AGAIN = "43=Y|122=20240605-11:59:00|"


def asked(peer: Peer) -> list[tuple[str | None, str | None]]:
    """The ranges of all ResendRequests among what was written."""
    return [(value(m, 7), value(m, 16)) for m in peer.sent() if value(m, 35) == "2"]


def test_live_messages_between_resent_ones_wait_for_their_turn() -> None:
    peer = active()
    peer.session.receive(message("8", 4, "37=c|"))
    peer.session.receive(message("8", 2, AGAIN + "37=a|") + message("8", 5, "37=d|"))
    peer.session.receive(message("8", 6, "37=e|") + message("8", 3, AGAIN + "37=b|"))
    assert peer.heard.log == ["logon", "8 2", "8 3", "8 4", "8 5", "8 6"]
    peer.session.receive(message("8", 4, AGAIN + "37=c|") + message("8", 7, "37=f|"))
    assert peer.heard.log[-1] == "8 7"
    assert asked(peer) == [("2", "0")]


def test_what_waits_is_kept_where_a_gap_fill_covers_it() -> None:
    peer = active()
    peer.session.receive(message("8", 5, "37=d|") + message("W", 7) + message("4", 2, AGAIN + "123=Y|36=9|"))
    assert peer.heard.log == ["logon", "gap 2-4", "8 5", "gap 6-6", "market 7", "gap 8-8"]
    assert peer.store.next_in == 9
    peer.session.receive(message("8", 12) + message("8", 14) + message("4", 1, "36=20|"))
    assert peer.heard.log[6:] == ["gap 9-11", "8 12", "gap 13-13", "8 14", "gap 15-19"]


def test_gap_fills_that_waited_do_not_nest() -> None:
    peer = active()
    fills = [message("4", seq, "123=Y|36=4000|") for seq in range(3, 2003, 2)]
    peer.session.receive(b"".join(fills) + message("4", 2, AGAIN + "123=Y|36=3|"))
    assert peer.store.next_in == 4000


def test_test_request_that_waited_is_answered_in_its_turn_and_a_resend_request_once() -> None:
    peer = active()
    peer.session.receive(message("1", 3, "112=first|") + message("2", 4, "7=1|16=0|"))
    assert peer.kinds() == ["2", "4"]
    peer.session.receive(message("8", 2, AGAIN + "37=|38=x|x=1|"))
    out = peer.sent()
    assert [(value(m, 35), value(m, 112)) for m in out] == [("3", None), ("0", "first")]
    assert peer.store.next_in == 5


def test_a_gap_fill_beyond_all_that_was_seen_closes_the_gap() -> None:
    """As QuickFIX answers a request right after a logon: its own request, the last that it said, is filled too."""
    peer = active(max_skew_s=0.0)
    peer.session.receive(message("1", 4, "112=x|"))
    assert asked(peer) == [("2", "0")]
    peer.session.receive(message("4", 2, AGAIN + "123=Y|36=6|"))
    assert peer.store.next_in == 6
    for _ in range(4):
        peer.clock.advance(30 * S)
        peer.session.receive(message("0", peer.store.next_in))
        peer.session.tick()
    assert asked(peer) == [], "nothing is missing"
    assert peer.session.phase is Phase.ACTIVE


def test_a_resent_gap_fill_of_nothing_takes_no_number() -> None:
    """QuickFIX's answer to a request for what it has not sent yet."""
    peer = active()
    peer.session.receive(message("4", 2, AGAIN + "123=Y|36=2|"))
    assert (peer.kinds(), peer.store.next_in) == ([], 2)
    peer.session.receive(message("8", 2))
    assert peer.heard.log == ["logon", "8 2"]
    peer.session.receive(message("4", 3, "123=Y|36=3|"))  # not sent again: it has used the number
    assert (peer.kinds(), peer.store.next_in) == (["3"], 4)


def test_a_long_gap_is_asked_for_in_chunks_and_never_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap, "CHUNK", 10)
    peer = active()
    peer.session.receive(message("8", 30))
    assert asked(peer) == [("2", "11")]
    for seq in range(2, 30):
        peer.session.receive(message("8", seq, AGAIN))
        peer.session.receive(message("8", 29 + seq))
    assert asked(peer) == [("12", "21"), ("22", "31")]
    assert peer.store.next_in == 59
    assert peer.heard.log[1:] == [f"8 {seq}" for seq in range(2, 59)]


def test_what_finds_no_room_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap, "HELD_MESSAGES", 3)
    peer = active()
    peer.session.receive(b"".join(message("8", seq) for seq in range(3, 10)))
    assert asked(peer) == [("2", "0")]
    peer.session.receive(message("8", 2, AGAIN))
    assert peer.heard.log == ["logon", "8 2", "8 3", "8 4", "8 5"]
    assert asked(peer) == [("6", "0")]
    kept = Gap()
    assert kept.hold(1, b"x" * gap.HELD_BYTES)
    assert not kept.hold(2, b"x")
    assert kept.take(1) is not None
    assert kept.hold(2, b"x")


def test_a_gap_that_nobody_fills_is_asked_for_less_and_less_often_and_ends() -> None:
    peer = active(max_skew_s=0.0)
    peer.session.receive(message("8", 4))
    times = []
    for second in range(400):
        if peer.session.phase is not Phase.ACTIVE:
            break
        if asked(peer):
            times.append(second)
        peer.clock.advance(S)
        peer.session.receive(message("8", 5 + second))
        peer.session.tick()
    assert times == [0, 30, 90]
    assert peer.session.reason == "messages 2 to 94 were asked for 3 times and did not come"
    assert not peer.session.fatal


def test_a_resend_that_comes_slowly_is_not_asked_for_again() -> None:
    peer = active(max_skew_s=0.0)
    peer.session.receive(message("8", 20))
    peer.clock.advance(31 * S)
    peer.session.tick()
    assert asked(peer) == [("2", "0"), ("2", "0")]
    peer.session.receive(message("8", 2, AGAIN))
    peer.clock.advance(31 * S)
    peer.session.tick()
    assert asked(peer) == [("3", "0")]
    for seq in range(3, 20):
        peer.session.receive(message("8", seq, AGAIN))
        for _ in range(19):  # a peer that says nothing for 20 s is taken for gone
            peer.session.tick()
            peer.clock.advance(S)
    assert peer.session.phase is Phase.ACTIVE
    assert asked(peer) == []
    assert peer.store.next_in == 21
    peer.session.receive(message("8", 23))
    peer.clock.advance(31 * S)
    peer.session.tick()
    assert asked(peer) == [("21", "0"), ("21", "0")]


def test_unmarked_repeats_of_what_was_asked_for_are_no_breach() -> None:
    peer = active()
    peer.session.receive(message("8", 3) + message("8", 2) + message("8", 3) + message("8", 4))
    assert peer.heard.log == ["logon", "8 2", "8 3", "8 4"]
    peer.session.receive(message("8", 4))
    assert peer.session.phase is Phase.CLOSING


def test_a_reset_inside_the_session_is_answered() -> None:
    peer = active()
    peer.session.receive(message("8", 2))
    peer.session.receive(message("A", 1, "98=0|108=30|141=Y|"))
    [answer] = peer.sent()
    assert (value(answer, 35), value(answer, 34), value(answer, 141)) == ("A", "1", "Y")
    assert (peer.store.next_in, peer.store.next_out) == (2, 2)
    peer.session.receive(message("8", 2))
    assert peer.heard.log == ["logon", "8 2", "gap 3-3", "8 2"]
    peer.session.receive(
        message("A", 1, AGAIN + "98=0|108=30|141=Y|")
    )  # an old logon sent again resets nothing
    assert (peer.store.next_in, peer.kinds()) == (3, [])


def test_a_second_logon_takes_its_number_and_one_too_high_shows_a_gap() -> None:
    peer = active()
    peer.session.receive(message("A", 2, "98=0|108=30|"))
    assert (peer.store.next_in, peer.kinds()) == (3, [])
    peer.session.receive(message("A", 5, "98=0|108=30|"))
    assert asked(peer) == [("3", "0")]
    peer.session.receive(message("4", 3, AGAIN + "123=Y|36=5|"))
    assert peer.store.next_in == 6
    peer.session.receive(message("A", 2, "98=0|108=30|"))
    assert peer.session.phase is Phase.CLOSING


def test_a_resend_request_above_our_last_number_is_refused() -> None:
    peer = active()
    peer.session.receive(message("2", 2, "7=50|16=0|"))
    [reject] = peer.sent()
    assert (value(reject, 35), value(reject, 371), value(reject, 373)) == ("3", "7", "5")
    assert peer.session.phase is Phase.ACTIVE
    peer.session.receive(message("2", 3, "7=1|16=99999999999999999|"))
    [fill] = peer.sent()
    assert (value(fill, 34), value(fill, 36)) == ("1", "3")


def test_heartbeat_interval_zero_means_none() -> None:
    peer = Peer(heartbeat_s=0)
    peer.session.connect()
    peer.sent()
    peer.session.receive(message("A", 1, "98=0|108=0|141=Y|"))
    for _ in range(100):
        peer.clock.advance(60 * S)
        peer.session.tick()
        assert peer.session.deadline_ns >= peer.clock.monotonic_ns() + S
    assert peer.session.phase is Phase.ACTIVE
    assert peer.kinds() == []


def test_the_shorter_heartbeat_interval_of_the_two_counts() -> None:
    peer = Peer()
    peer.session.connect()
    peer.session.receive(message("A", 1, "98=0|108=10|141=Y|"))
    peer.sent()
    peer.clock.advance(5 * S)
    peer.session.receive(message("0", 2))
    peer.clock.advance(5 * S)
    peer.session.tick()
    assert peer.kinds() == ["0"]
    peer.session.connect()
    assert value(peer.sent()[0], 108) == "30"


def cached(**rules: object) -> Peer:
    """An initiator with numbers of an earlier day, its logon sent."""
    peer = Peer(**rules)
    peer.store.next_in, peer.store.next_out = 80, 50
    peer.session.connect()
    peer.sent()
    return peer


TOO_LOW = "58=MsgSeqNum too low, expecting 90 but received 50|"


@pytest.mark.parametrize("answer", [message("A", 1, "98=0|108=30|"), message("5", 90, TOO_LOW)])
def test_a_peer_that_counts_otherwise_ends_in_one_line_with_the_remedy(answer: bytes) -> None:
    peer = cached()
    peer.session.receive(answer)
    assert peer.session.phase is Phase.CLOSING
    assert peer.session.fatal
    assert re.search(r"too low.*; set access\.reset_on_logon .* access\.reset_on_loss", peer.session.reason)


@pytest.mark.parametrize("answer", [message("A", 1, "98=0|108=30|"), message("5", 90, TOO_LOW)])
def test_or_begins_anew_where_that_is_configured_and_not_for_ever(answer: bytes) -> None:
    peer = cached(reset_on_loss=True)
    peer.session.receive(answer)
    assert not peer.session.fatal
    peer.session.lost("closed")
    peer.session.connect()
    logon = peer.sent()[-1]
    assert (value(logon, 34), value(logon, 141)) == ("1", "Y")
    peer.session.receive(answer if b"35=5" in answer else message("A", 0, "98=0|108=30|"))
    assert peer.session.fatal
    assert peer.session.reason.endswith("although it was asked to reset (141=Y)")
    peer.session.connect()
    peer.session.receive(message("A", 1, "98=0|108=30|141=Y|"))
    assert peer.session.phase is Phase.ACTIVE
    peer.session.lost("closed")
    peer.session.connect()
    assert value(peer.sent()[-1], 141) is None


@pytest.mark.parametrize("on_loss", [False, True])
def test_a_reset_that_was_asked_for_with_an_empty_store_is_not_advised(on_loss: bool) -> None:
    peer = Peer(reset_on_loss=on_loss)
    peer.session.connect()
    assert value(peer.sent()[-1], 141) == "Y"
    peer.session.receive(message("5", 90, TOO_LOW))
    assert peer.session.fatal
    assert peer.session.reason.endswith("although it was asked to reset (141=Y)")


def test_a_peer_that_resets_unasked_is_followed() -> None:
    peer = cached()
    peer.session.receive(message("A", 1, "98=0|108=30|141=Y|"))
    assert peer.session.phase is Phase.ACTIVE
    assert (peer.store.next_in, peer.store.next_out) == (2, 2)


@pytest.mark.parametrize(
    ("answer", "why", "fatal"),
    [
        (message("5", 1, "58=maintenance until 18:00|"), "the peer refused the logon: maintenance until 18:00", False),
        (message("5", 1, "58=Invalid password s3cret|"), "the peer refused the logon: Invalid password ***", True),
        (message("3", 1, "45=1|58=RET_INVALID_DATA|"), "the peer refused the logon: RET_INVALID_DATA", False),
        (message("j", 1, "45=1|58=unknown user me2|"), "the peer refused the logon: unknown user ***", True),
    ],
)  # fmt: skip
def test_why_a_logon_was_refused_is_what_the_user_sees(answer: bytes, why: str, fatal: bool) -> None:
    peer = cached(username=Secret("me2"), password=Secret("s3cret"))
    peer.session.receive(answer)
    assert (peer.session.reason, peer.session.fatal) == (why, fatal)
    assert not any("s3cret" in line or "me2" in line for line in peer.dump)


def test_what_a_peer_says_is_one_bounded_line() -> None:
    peer = active(password=Secret("s3cret"))
    peer.session.receive(message("5", 2, "58=bad\nline\ts3cret\x1b[31m" + "x" * 100_000 + "|"))
    assert peer.session.reason.startswith("the peer logged out: bad line *** [31mxxx")
    assert len(peer.session.reason) < 1_100
    assert all(len(line) < 5_000 for line in peer.dump)


def test_an_unauthenticated_logon_resets_nothing() -> None:
    venue = Peer(initiator=False)
    venue.store.next_in, venue.store.next_out = 80, 50
    venue.heard.refuse = "wrong password"
    venue.session.connect()
    venue.session.receive(message("A", 1, "98=0|108=30|141=Y|", who="ME"))
    assert venue.session.phase is Phase.CLOSING
    assert venue.store.next_in == 80


def test_what_the_application_cannot_read_is_refused_and_takes_its_number() -> None:
    peer = active()

    def unreadable(_: Message) -> None:
        raise FieldError("'1,08' is no number")

    peer.heard.on_message = unreadable  # type: ignore[method-assign]
    peer.session.receive(message("8", 2, "31=1,08|"))
    [reject] = peer.sent()
    assert (value(reject, 45), value(reject, 372), value(reject, 373)) == ("2", "8", "6")
    assert peer.heard.log == ["logon", "refused 2: '1,08' is no number"]
    assert peer.store.next_in == 3


def test_an_empty_field_counts_as_absent() -> None:
    peer = active()
    seen: list[bytes | None] = []
    peer.heard.on_message = lambda m: seen.append(m.get(37))  # type: ignore[method-assign]
    peer.session.receive(message("8", 2, "37=|11=a|"))
    assert (seen, peer.kinds(), peer.store.next_in) == ([None], [], 3)


def test_messages_too_long_to_read_field_by_field_are_refused() -> None:
    peer = active()
    peer.session.receive(message("8", 2, "58=" + "x" * 300_000 + "|"))
    peer.session.receive(message("8", 3, "1=1|" * 5_000))
    peer.session.receive(message("y", 4, "1=1|" * 5_000))
    assert [value(m, 373) for m in peer.sent()] == ["99", "99"]
    assert peer.heard.log[1:] == [
        "refused 2: longer than 262144 bytes or 4096 fields",
        "refused 3: longer than 262144 bytes or 4096 fields",
        "y 4",
    ]


def test_a_reject_goes_the_way_back() -> None:
    peer = active()
    routed = "115=JCD|116=CS|144=CHI|129=|"
    head = f"35=1|34=2|49=VENUE|52=20240605-12:00:00|56=ME|{routed}11=x|"
    peer.session.receive(framed(head))
    [reject] = peer.sent()
    assert [value(reject, tag) for tag in (128, 129, 145, 115)] == ["JCD", "CS", "CHI", None]


def test_the_framer_in_hand_is_that_of_the_message_that_waited() -> None:
    peer = active()
    counts: list[int] = []

    def late(frame: Frame) -> None:
        counts.append(len(peer.session.framer.bytes_of(frame)))

    peer.heard.on_late_market = late  # type: ignore[method-assign]
    waited = message("W", 3, "55=1|268=0|58=a longer one|")
    peer.session.receive(
        waited + message("8", 2, AGAIN) + message("W", 4, "43=Y|122=20240605-11:59:00|55=1|268=0|")
    )
    assert counts[0] == len(waited)
    assert len(counts) == 2
    assert counts[1] != counts[0]
