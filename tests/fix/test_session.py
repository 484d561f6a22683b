"""The session state machine, driven by bytes and a clock that stands still until told."""

import pytest

from emp.access.fix.message import checksum, masked
from emp.access.fix.schedule import Hours
from emp.access.fix.terms import Phase
from emp.core.config.secrets import Secret
from tests.fix.side import Peer, S, active, message
from tests.fix.wire import fields, framed, value


def test_logon_carries_what_it_must_and_hides_the_password() -> None:
    peer = Peer(username=Secret("me"), password=Secret("hunter2"), sender_sub="QUOTE", target_sub="QUOTE")
    peer.session.connect()
    [logon] = peer.sent()
    found = dict(fields(logon))
    assert [tag for tag, _ in fields(logon)][:3] == [8, 9, 35]
    assert (found[98], found[108], found[141], found[553], found[554]) == ("0", "30", "Y", "me", "hunter2")
    assert (found[49], found[56], found[50], found[57], found[34]) == ("ME", "VENUE", "QUOTE", "QUOTE", "1")
    assert not any("hunter2" in line for line in peer.dump)
    assert "554=***" in peer.dump[0]
    assert "hunter2" not in repr(peer.session.config)
    assert "hunter2" not in masked(logon)


def test_a_quiet_peer_is_asked_after_ten_seconds_and_given_up_after_ten_more() -> None:
    peer = active()
    peer.clock.advance(10 * S - 1)
    peer.session.tick()
    assert peer.kinds() == []
    peer.clock.advance(1)
    peer.session.tick()
    assert peer.kinds() == ["1"]
    peer.session.receive(message("0", 2, "112=x|"))
    peer.clock.advance(10 * S)
    peer.session.tick()
    assert peer.kinds() == ["1"]
    peer.clock.advance(10 * S - 1)
    peer.session.tick()
    assert peer.session.phase is Phase.ACTIVE
    peer.clock.advance(1)
    peer.session.tick()
    assert peer.session.phase is Phase.CLOSING
    assert "silent for 20.0 s" in peer.session.reason


def test_heartbeats_go_on_at_their_own_interval() -> None:
    peer = active()
    sent: list[str] = []
    for second in range(1, 61):
        peer.clock.advance(S)
        if second % 5 == 0:
            peer.session.receive(message("0", 1 + second // 5))
        peer.session.tick()
        sent += peer.kinds()
    assert sent == ["0", "0"]


def test_deadline_is_when_something_must_be_done() -> None:
    peer = active()
    for _ in range(20):
        if peer.session.phase is not Phase.ACTIVE:
            break
        peer.clock.advance(max(0, peer.session.deadline_ns - peer.clock.monotonic_ns()))
        before = len(peer.dump)
        peer.session.tick()
        assert len(peer.dump) > before or peer.session.phase is Phase.CLOSING
    assert peer.clock.monotonic_ns() == 20 * S


def answered_after(peer: Peer, delay_s: int, number: int) -> bool:
    """Whether a peer that takes so long for its answers to test requests is still there after one."""
    before = peer.clock.monotonic_ns()
    while "1" not in peer.kinds():
        assert peer.clock.monotonic_ns() - before < 60 * S
        peer.clock.advance(S)
        peer.session.tick()
    for _ in range(delay_s):
        peer.clock.advance(S)
        peer.session.tick()
    if peer.session.phase is not Phase.ACTIVE:
        return False
    peer.session.receive(message("0", number, "112=x|"))
    return True


def test_a_slow_peer_is_cut_once_at_most_and_a_quick_one_not_waited_for() -> None:
    peer = active(max_skew_s=0.0)
    assert not answered_after(peer, 15, 2)
    peer.session.lost("")
    peer.session.connect()
    peer.session.receive(message("A", 1, "98=0|108=30|141=Y|"))
    peer.sent()
    for number in range(2, 6):
        assert answered_after(peer, 15, number), number
    assert answered_after(peer, 1, 6)
    assert not answered_after(peer, 15, 7), "patience stays for ever"


def test_short_heartbeats_are_the_measure_where_they_are_shorter() -> None:
    peer = active(heartbeat_s=2)
    peer.clock.advance(12 * S // 5)
    peer.session.tick()
    assert peer.kinds() == ["1"]
    peer.clock.advance(12 * S // 5 - 1)
    peer.session.tick()
    assert peer.session.phase is Phase.ACTIVE
    peer.clock.advance(1)
    peer.session.tick()
    assert peer.session.phase is Phase.CLOSING


def test_wall_clock_steps_disturb_no_timer() -> None:
    peer = active(max_skew_s=0.0)
    peer.clock.step(-3600 * S)
    peer.session.tick()
    peer.clock.step(7200 * S)
    peer.session.tick()
    assert peer.kinds() == []


def test_test_request_is_answered() -> None:
    peer = active()
    peer.session.receive(message("1", 2, "112=hello|"))
    [answer] = peer.sent()
    assert (value(answer, 35), value(answer, 112)) == ("0", "hello")


def test_logon_timeout_and_logout() -> None:
    peer = Peer()
    peer.session.connect()
    peer.clock.advance(10 * S)
    peer.session.tick()
    assert peer.session.phase is Phase.CLOSING
    peer = active()
    peer.session.logout("done")
    assert peer.kinds() == ["5"]
    peer.session.receive(message("5", 2))
    assert peer.session.phase is Phase.CLOSING
    peer = active()
    peer.session.logout("done")
    peer.clock.advance(2 * S)
    peer.session.tick()
    assert peer.session.phase is Phase.CLOSING
    peer = active()
    peer.session.receive(message("5", 2, "58=maintenance|"))
    assert peer.kinds() == ["5"]
    assert "maintenance" in peer.session.reason
    peer.session.lost("x")
    assert peer.heard.log[-1] == "logout the peer logged out: maintenance"


def test_too_high_asks_once_and_takes_the_resend() -> None:
    peer = active()
    peer.session.receive(message("8", 4, "37=c|") + message("8", 5, "37=d|"))
    [ask] = peer.sent()
    assert (value(ask, 35), value(ask, 7), value(ask, 16)) == ("2", "2", "0")
    assert peer.heard.log == ["logon"]
    again = "43=Y|122=20240605-11:59:00|"
    peer.session.receive(
        b"".join(
            [
                message("8", 2, again + "37=a|"),
                message("4", 3, again + "123=Y|36=4|"),
                message("8", 4, again + "37=c|"),
                message("8", 5, again + "37=d|"),
                message("8", 6, "37=e|"),
            ]
        )
    )
    assert peer.heard.log == ["logon", "8 2", "gap 3-3", "8 4", "8 5", "8 6"]
    assert peer.kinds() == []
    assert peer.store.next_in == 7
    peer.clock.advance(31 * S)
    peer.session.tick()
    assert peer.kinds() == ["1"]  # a sign of life, and nothing is asked for again


def test_unanswered_resend_request_is_repeated() -> None:
    peer = active()
    peer.session.receive(message("8", 4))
    assert peer.kinds() == ["2"]
    peer.clock.advance(29 * S)
    peer.session.tick()
    assert peer.kinds() == ["1"]
    peer.clock.advance(S)
    peer.session.tick()
    assert peer.kinds() == ["2"]


def test_garbled_frame_takes_no_number_and_the_next_one_shows_the_gap() -> None:
    peer = active()
    good = message("8", 2, "37=a|")
    peer.session.receive(good.replace(b"37=a", b"37=b"))
    assert peer.store.next_in == 2
    assert peer.sent() == []
    peer.session.receive(message("8", 3, "37=c|"))
    assert peer.kinds() == ["2"]


def test_garbage_is_no_sign_of_life() -> None:
    peer = active()
    for _ in range(80):
        peer.clock.advance(S)
        peer.session.receive(b"\x00garbage\x01")
        peer.session.tick()
    assert peer.session.phase is Phase.CLOSING
    assert "silent" in peer.session.reason


def test_too_low_ends_the_session_unless_it_may_be_a_duplicate() -> None:
    peer = active()
    peer.session.receive(message("8", 2) + message("8", 2, "43=Y|122=20240605-11:59:00|"))
    assert peer.session.phase is Phase.ACTIVE
    assert peer.heard.log == ["logon", "8 2"]
    peer.session.receive(message("8", 2, "43=Y|"))
    [reject] = peer.sent()
    assert (value(reject, 35), value(reject, 371), value(reject, 373)) == ("3", "122", "1")
    peer.session.receive(message("8", 1))
    [logout] = peer.sent()
    assert value(logout, 58) == "MsgSeqNum too low, expecting 3 but received 1"
    assert peer.session.phase is Phase.CLOSING


def test_sequence_reset_in_both_modes() -> None:
    peer = active()
    peer.session.receive(message("4", 2, "123=Y|36=6|"))
    assert peer.store.next_in == 6
    peer.session.receive(message("4", 6, "123=Y|36=6|"))
    [reject] = peer.sent()
    assert (value(reject, 35), value(reject, 373)) == ("3", "5")
    peer.session.receive(message("4", 99, "36=20|"))
    assert peer.store.next_in == 20
    peer.session.receive(message("4", 1, "36=19|"))
    [reject] = peer.sent()
    assert (value(reject, 35), value(reject, 373)) == ("3", "5")
    assert peer.store.next_in == 20
    refused = "refused 6: NewSeqNo must be above MsgSeqNum"
    assert peer.heard.log == ["logon", "gap 2-5", refused, "gap 7-19"]


def test_gap_fill_too_high_is_a_gap_itself() -> None:
    peer = active()
    peer.session.receive(message("4", 5, "123=Y|36=9|"))
    assert peer.kinds() == ["2"]
    assert peer.store.next_in == 2


def test_resend_request_gets_kept_messages_again_and_gaps_filled() -> None:
    peer = active(resend=frozenset({"8"}))
    first = peer.session.send(b"8", b"37=a\x01")
    peer.session.send(b"0", b"")
    peer.session.send(b"D", b"11=never-again\x01")
    peer.session.send(b"8", b"37=b\x01")
    originals = peer.sent()
    peer.clock.advance(S)
    peer.session.receive(message("2", 2, f"7={first}|16=0|"))
    again = peer.sent()
    assert [(value(m, 35), value(m, 34), value(m, 43)) for m in again] == [
        ("8", "2", "Y"),
        ("4", "3", "Y"),
        ("8", "5", "Y"),
    ]
    assert value(again[1], 36) == "5"
    assert value(again[0], 122) == value(originals[0], 52)
    peer.session.receive(message("2", 3, "7=3|16=4|"))
    [fill] = peer.sent()
    assert (value(fill, 35), value(fill, 34), value(fill, 36)) == ("4", "3", "5")
    peer.session.receive(message("2", 4, "7=5|16=3|"))
    assert peer.kinds() == ["3"]


def test_resend_request_above_the_expected_number_is_answered_first() -> None:
    peer = active()
    peer.session.receive(message("2", 9, "7=1|16=0|"))
    assert peer.kinds() == ["4", "2"]


@pytest.mark.parametrize(
    ("body", "why", "tag"),
    [
        ("35=8|34=2|49=VENUE|52=20240605-12:00:00|56=ME|x7=1|", "0", None),
        ("35=8|34=2|49=VENUE|52=20240605|56=ME|37=1|", "6", "52"),
        ("35=8|34=2|49=VENUE|52=|56=ME|37=1|", "4", "52"),
        ("35=8|34=2|49=VENUE|56=ME|37=1|", "1", "52"),
        ("35=8|34=2|52=20240605-12:00:00|56=ME|37=1|", "1", "49"),
        ("35=8|34=2|49=VENUE|52=20240605-12:00:00|56=|37=1|", "4", "56"),
        ("35=8|34=2|49=VENUE|52=20240605-12:00:00|37=1|56=ME|", "14", "56"),
        ("35=8|37=1|34=2|49=VENUE|52=20240605-12:00:00|56=ME|", "14", "34"),
        ("35=8|34=2|34=3|49=VENUE|52=20240605-12:00:00|56=ME|37=1|", "13", "34"),
        ("35=*|34=2|49=VENUE|52=20240605-12:00:00|56=ME|37=1|", "11", None),
        ("35=2|34=2|49=VENUE|52=20240605-12:00:00|56=ME|7=1|", "1", "16"),
        ("35=2|34=2|49=VENUE|52=20240605-12:00:00|56=ME|7=1|16=x|", "6", "16"),
        ("35=4|34=2|49=VENUE|52=20240605-12:00:00|56=ME|123=Y|", "1", "36"),
        ("35=1|34=2|49=VENUE|52=20240605-12:00:00|56=ME|", "1", "112"),
    ],
)
def test_flawed_message_is_rejected_and_takes_its_number(body: str, why: str, tag: str | None) -> None:
    peer = active()
    peer.session.receive(framed(body))
    [reject] = peer.sent()
    assert (value(reject, 35), value(reject, 45), value(reject, 373)) == ("3", "2", why)
    assert value(reject, 371) == tag
    assert len(peer.heard.log) == 2
    assert peer.heard.log[1].startswith("refused 2: ")
    assert peer.store.next_in == 3
    assert peer.session.phase is Phase.ACTIVE


@pytest.mark.parametrize(
    "body",
    [
        "35=8|34=2|49=OTHER|52=20240605-12:00:00|56=ME|",
        "35=8|34=2|49=VENUE|52=20240605-12:00:00|56=YOU|",
        "35=8|34=2|49=VENUE|52=20240605-12:03:00|56=ME|",
        "35=8|49=VENUE|52=20240605-12:00:00|56=ME|",
    ],
)
def test_breach_ends_the_session_and_reaches_nobody(body: str) -> None:
    peer = active()
    peer.session.receive(framed(body))
    assert peer.kinds()[-1] == "5"
    assert peer.session.phase is Phase.CLOSING
    assert peer.heard.log == ["logon"]


def test_wrong_begin_string_ends_the_session() -> None:
    peer = active()
    peer.session.receive(framed("35=8|34=2|49=VENUE|52=20240605-12:00:00|56=ME|", begin="FIX.4.2"))
    assert peer.session.phase is Phase.CLOSING


def test_first_message_must_be_a_logon() -> None:
    peer = Peer()
    peer.session.connect()
    peer.session.receive(message("8", 1))
    assert peer.session.phase is Phase.CLOSING
    peer = Peer()
    peer.session.connect()
    peer.session.receive(message("5", 1, "58=bad password|"))
    assert "bad password" in peer.session.reason


def test_logon_with_a_number_too_high_is_taken_and_the_rest_asked_for() -> None:
    peer = Peer()
    peer.store.next_in, peer.store.next_out = 5, 9
    peer.session.connect()
    [logon] = peer.sent()
    assert (value(logon, 141), value(logon, 34)) == (None, "9")
    peer.session.receive(message("A", 7, "98=0|108=30|"))
    assert peer.heard.log == ["logon"]
    [ask] = peer.sent()
    assert (value(ask, 35), value(ask, 7)) == ("2", "5")


def test_reset_on_logon_begins_with_one_each_time() -> None:
    peer = Peer(reset_on_logon=True)
    for _ in range(3):
        peer.session.connect()
        [logon] = peer.sent()
        assert (value(logon, 34), value(logon, 141)) == ("1", "Y")
        peer.session.receive(message("A", 1, "98=0|108=30|"))
        peer.session.receive(message("8", 2))
        assert peer.store.next_in == 3
        peer.session.lost("cut")
    assert peer.heard.log == ["logon", "8 2", "logout cut"] * 3


def talk(a: Peer, b: Peer) -> None:
    """Carry bytes both ways until both are quiet."""
    for _ in range(50):
        moved = False
        for source, sink in ((a, b), (b, a)):
            data = source.session.drain()
            if data:
                moved = True
                sink.session.receive(data)
        if not moved:
            return


def test_both_ends_of_ours_talk_and_recover_from_lost_messages() -> None:
    us, venue = Peer(), Peer(initiator=False, resend=frozenset({"8"}))
    for end in (venue, us):
        end.session.connect()
    talk(us, venue)
    assert us.heard.log == venue.heard.log == ["logon"]
    venue.session.send(b"8", b"37=1\x01")
    venue.session.drain()  # lost on the way
    venue.session.send(b"8", b"37=2\x01")
    us.session.send(b"D", b"11=a\x01")
    us.session.drain()
    us.session.send(b"F", b"11=b\x01")
    talk(us, venue)
    # 4 was the venue asking for its own gap
    assert us.heard.log == ["logon", "withheld 2-4", "8 2", "8 3"]
    assert venue.heard.log == ["logon", "withheld 4-4", "gap 2-2", "F 3"]  # 4 as well
    assert us.store.next_in == venue.store.next_out
    assert venue.store.next_in == us.store.next_out


def test_acceptor_refuses_what_its_application_refuses() -> None:
    us, venue = Peer(), Peer(initiator=False)
    venue.heard.refuse = "wrong password"
    for end in (venue, us):
        end.session.connect()
    talk(us, venue)
    assert venue.session.phase is Phase.CLOSING
    assert "wrong password" in us.session.reason


def test_session_hours_end_the_session_and_reset_the_numbers() -> None:
    hours = Hours(
        start="17:00", end="16:55", days=("sun", "mon", "tue", "wed", "thu"), zone="America/New_York"
    )
    peer = active(hours=hours)
    peer.clock.advance(int(8.9 * 3600) * S)
    peer.session.receive(message("0", 2, when="20240605-20:54:00"))
    peer.session.tick()
    assert peer.session.phase is Phase.ACTIVE
    peer.clock.advance(90 * S)
    peer.session.tick()
    assert value(peer.sent()[-1], 58) == "end of session hours"
    peer.store.next_in, peer.store.next_out = 50, 60
    peer.clock.advance(600 * S)
    peer.session.connect()
    [logon] = peer.sent()
    assert (value(logon, 34), value(logon, 141)) == ("1", "Y")


def test_checksum_of_any_length() -> None:
    for size in (0, 1, 255, 256, 257, 5000):
        data = bytes(255 - i % 7 for i in range(size))
        assert checksum(data) == sum(data) % 256
