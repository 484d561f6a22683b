"""Heartbeats, resends, sequence resets and the end."""

from tests.fix.acceptance.cases import case
from tests.fix.acceptance.ends import DUP, Initiator, S, Side
from tests.fix.wire import fields


@case("4a_NoDataSentDuringHeartBtInt", "after a silent interval a heartbeat is sent")
def _(d: Side) -> None:
    d.logon(body="98=0|108=3|")
    d.expect("A")
    for seq in (2, 3):
        d.clock.advance(3 * S)
        d.tick()
        d.expect("0")
        d.say("0", seq)
    d.bye(4)


@case("4b_ReceivedTestRequest", "a TestRequest is answered by a heartbeat with its id")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.say("1", 2, "112=HELLO|")
    d.expect("0", t112="HELLO")
    d.bye(3)


@case("6_SendTestRequest", "a silent peer is asked for a sign of life, and given up without one")
def _(d: Side) -> None:
    d.logon(body="98=0|108=3|")
    d.expect("A")
    seq = 2
    for answers in (True, False):
        d.clock.advance(3_600_000_000)
        d.tick()
        name = next(f[112] for f in (dict(fields(a)) for a in d._answers) if f[35] == "1")
        d._answers.clear()
        if answers:
            d.say("0", seq, f"112={name}|")
            seq += 1
    d.clock.advance(3_600_000_000)
    d.tick()
    d.closed()


@case("7_ReceiveRejectMessage", "a Reject is taken and the session goes on")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.say("3", 2, "45=1|58=no|")
    d.alive(3)


def resend(d: Side, wanted: list[tuple[str, int, int]], begin: int, end: int, seq: int) -> None:
    """Ask for a range: (type, number, NewSeqNo or 0) must come, in order, all marked as duplicates."""
    d.say("2", seq, f"7={begin}|16={end}|")
    for kind, number, new in wanted:
        found = d.expect(kind, t34=str(number), t43="Y")
        assert 122 in found
        if new:
            assert (found[123], found[36]) == ("Y", str(new))
    d.nothing()


def talk(d: Side, kinds: str) -> int:
    """A session in which we send test requests (a) and application messages (o); returns the next number."""
    d.logon()
    d.expect("A")
    for seq, kind in enumerate(kinds, 2):
        if kind == "a":
            d.alive(seq)
        elif d.initiator:
            assert isinstance(d, Initiator)
            d.say("0", seq)
            d.session.send(b"D", b"11=never again\x01")
            d.session.drain()
        else:
            d.order(seq, f"a{seq}")
    d.nothing()
    return len(kinds) + 2


@case("8_OnlyAdminMessages", "session messages are never sent again: one gap fill for all of them")
def _(d: Side) -> None:
    seq = talk(d, "aaa")
    resend(d, [("4", 2, 5)], 2, 4, seq)
    resend(d, [("4", 2, 5)], 2, 0, seq + 1)
    d.alive(seq + 2)


@case("8_OnlyApplicationMessages", "reports are sent again as they were, marked; orders of ours never are")
def _(d: Side) -> None:
    seq = talk(d, "ooo")
    again = [("4", 2, 5)] if d.initiator else [("8", 2, 0), ("8", 3, 0), ("8", 4, 0)]
    resend(d, again, 2, 4, seq)
    resend(d, again, 2, 0, seq + 1)
    resend(d, [("4", 2, 4)] if d.initiator else again[:2], 2, 3, seq + 2)


@case("8_AdminAndApplicationMessages", "session messages between reports are gap-filled, exactly")
def _(d: Side) -> None:
    seq = talk(d, "aaaooaao")
    if d.initiator:
        resend(d, [("4", 2, 10)], 2, 9, seq)
        return
    resend(d, [("4", 2, 5)], 2, 4, seq)
    resend(d, [("4", 2, 5), ("8", 5, 0), ("8", 6, 0)], 2, 6, seq + 1)
    whole = [("4", 2, 5), ("8", 5, 0), ("8", 6, 0), ("4", 7, 9)]
    resend(d, whole, 2, 8, seq + 2)
    resend(d, [*whole, ("8", 9, 0)], 2, 9, seq + 3)
    resend(d, [*whole, ("8", 9, 0)], 2, 0, seq + 4)
    d.alive(seq + 5)


@case("20_SimultaneousResendRequest", "a ResendRequest that is itself too high is answered at once")
def _(d: Side) -> None:
    seq = talk(d, "oo")
    d.say("0", seq + 3)
    d.expect("2", t7=str(seq))
    resend(d, [("4", 2, 4)] if d.initiator else [("8", 2, 0), ("8", 3, 0)], 2, 3, seq + 4)
    for missing in range(seq, seq + 3):
        d.say("0", missing, extra=DUP)
    d.nothing()
    d.bye(seq + 5)


@case(
    "RejectResentMessage",
    "a resent message that is rejected takes its number; what waited is acted on in order",
)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.say("1", 3, "112=HELLO1|")
    d.expect("2", t7="2", t16="0")
    if d.initiator:
        d.say("1", 2, extra=DUP)
        d.reject(2, 1, 112)
    else:
        kind, _, body = d.application("a").partition("|")
        d.say(kind[3:], 2, body + "126=20040415|", DUP)
        d.reject(2, 6, 126)
    d.say("1", 4, "112=HELLO2|")
    d.expect("0", t112="HELLO1")
    d.expect("0", t112="HELLO2")
    d.bye(11)


@case("10_MsgSeqNumEqual", "a gap fill with the expected number moves it")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.say("4", 2, "123=Y|36=20|")
    d.alive(20)


@case("10_MsgSeqNumGreater", "a gap fill too high is itself a gap")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.say("4", 10, "123=Y|36=20|")
    d.say("1", 20, "112=HELLO|")
    d.expect("2", t7="2", t16="0")
    d.nothing()


@case("10_MsgSeqNumLess", "a gap fill too low is ignored where it is a duplicate, else ends the session")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.say("4", 1, "123=Y|36=20|", DUP)
    d.alive(2)
    d.say("4", 1, "123=Y|36=20|")
    d.expect("5", t58="MsgSeqNum too low, expecting 3 but received 1")
    d.closed()


@case("11a_NewSeqNoGreater", "a reset to a higher number holds, whatever its own number")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.say("4", 0, "36=20|")
    d.alive(20)


@case("11b_NewSeqNoEqual", "a reset to the expected number changes nothing")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.say("4", 0, "36=2|")
    d.alive(2)


@case("11c_NewSeqNoLess", "a reset to a lower number is rejected (5)")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    for gap_fill in ("", "123=N|"):
        d.say("4", 0, f"36=1|{gap_fill}")
        d.reject(0, 5)
    d.alive(2)


@case("SessionReset", "a logon with 141=Y inside a session is answered in kind; both sides begin at 1")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    for seq in range(2, 10):
        d.say("0", seq)
    d.alive(10)
    d.say("A", 1, "98=0|108=30|141=Y|")
    d.expect("A", t34="1", t141="Y")
    d.say("1", 2, "112=1|")
    d.expect("0", t34="2", t112="1")
    d.bye(3)


@case("13b_UnsolicitedLogoutMessage", "a logout is answered and the connection closed")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.bye(2)
