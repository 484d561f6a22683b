"""Logons, numbers, duplicates and garbled messages."""

from collections.abc import Callable

from tests.fix.acceptance.cases import CASES, ONLY_ACCEPTOR, Case, case
from tests.fix.acceptance.ends import DUP, Acceptor, S, Side
from tests.fix.wire import framed


@case(
    "1a_ValidLogonMsgSeqNumTooHigh", "a logon too high is answered, then the missing messages are asked for"
)
def _(d: Side) -> None:
    d.logon(5)
    d.expect("A")
    d.expect("2", t7="1")


@case("1a_ValidLogonWithCorrectMsgSeqNum", "a valid logon is answered")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.bye(2)


@case(
    "1b_DuplicateIdentity",
    "a second connection of the same identity is closed, the first stands",
    ONLY_ACCEPTOR,
)
def second_connection(d: Acceptor) -> None:
    d.logon()
    d.expect("A")
    first = d.client
    d.logon()
    d.closed()
    d._answers.clear()
    d.client, d.open = first, True
    d.alive(2)


CASES.append(
    Case(
        "AlreadyLoggedOn",
        "a second connection of one that is logged on is closed",
        second_connection,
        ONLY_ACCEPTOR,
    )
)


def bad_logon(d: Side, data: Callable[[str], str], begin: str = "FIX.4.4") -> None:
    d.connect()
    d.receive(framed(data(f"35=A|{d.head(1)}98=0|108=30|"), begin))
    d.clock.advance(11 * S)
    if d.open:
        d.tick()
    assert not any(b"\x0135=A\x01" in answer for answer in d._answers)
    d.closed()


@case("1c_InvalidSenderCompID", "a logon from somebody else ends the connection")
def _(d: Side) -> None:
    bad_logon(d, lambda text: text.replace("49=", "49=X"))


@case("1c_InvalidTargetCompID", "a logon to somebody else ends the connection")
def _(d: Side) -> None:
    bad_logon(d, lambda text: text.replace("56=", "56=X"))


@case("1d_InvalidLogonBadSendingTime", "a logon with a SendingTime far off ends the connection")
def _(d: Side) -> None:
    bad_logon(d, lambda text: text.replace("52=2024", "52=2001"))


@case(
    "1d_InvalidLogonLengthInvalid", "a logon with a wrong length is no logon: the connection ends (in time)"
)
def _(d: Side) -> None:
    d.connect()
    d.receive(framed(f"35=A|{d.head(1)}98=0|108=30|").replace(b"\x019=", b"\x019=1", 1))
    d.clock.advance(11 * S)
    d.tick()
    d.nothing()
    d.closed()


@case("1d_InvalidLogonWrongBeginString", "a logon of another version ends the connection")
def _(d: Side) -> None:
    bad_logon(d, lambda text: text, "FIX.4.1")


@case("1e_NotLogonMessage", "anything but a logon first ends the connection")
def _(d: Side) -> None:
    d.connect()
    d.order(1, "a")
    d.closed()
    assert d.taken == []


@case("2a_MsgSeqNumCorrect", "messages in order are taken")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    for seq in (2, 3, 4):
        d.order(seq, f"a{seq}")
    assert d.taken == ["a2", "a3", "a4"]
    d.bye(5)


@case("2b_MsgSeqNumTooHigh", "a number too high makes one ResendRequest; what is sent again is taken")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    for seq in (2, 3, 4, 10):
        d.say("0", seq)
    d.expect("2", t7="5", t16="0")
    for seq in range(5, 10):
        d.say("0", seq)
    d.nothing()
    d.bye(11)


@case(
    "2c_MsgSeqNumTooLow", "a number too low that is no duplicate ends the session, with the number expected"
)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.say("0", 2)
    d.say("0", 1)
    d.expect("5", t58="MsgSeqNum too low, expecting 3 but received 1")
    d.closed()


@case("2d_GarbledMessage", "a garbled message is ignored and takes no number")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.garbled(lambda data: data.replace(b"\x0149=", b"\x0148="), 2)
    d.nothing()
    d.alive(2)


@case("2e_PossDupAlreadyReceived", "a duplicate of what was taken is ignored")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.order(2, "a")
    d.order(2, "a", DUP)
    d.nothing()
    assert d.taken == ["a"]
    d.alive(3)


@case("2e_PossDupNotReceived", "a possible duplicate that was not taken before is taken")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.order(2, "a", DUP)
    assert d.taken == ["a"]
    d.alive(3)


@case("2f_PossDupOrigSendingTimeTooHigh", "a duplicate sent before it was first sent: reject (10) and logout")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.order(2, "a")
    d.order(2, "a", "43=Y|122=20240605-12:00:10|")
    d.reject(2, 10)
    d.expect("5")
    d.closed()


@case("2g_PossDupNoOrigSendingTime", "a duplicate without OrigSendingTime is rejected (1)")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.order(2, "a")
    d.order(2, "a", "43=Y|")
    d.reject(2, 1, 122)
    d.alive(3)


@case("2i_BeginStringValueUnexpected", "another version inside a session: logout")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.receive(framed(f"35=1|{d.head(2)}112=x|", "FIX.4.1"))
    d.expect("5", t58="incorrect BeginString")
    d.closed()


@case("2k_CompIDDoesNotMatchProfile", "a wrong CompID inside a session: reject (9) and logout")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.receive(framed(f"35=0|{d.head(2)}".replace("49=", "49=X")))
    d.reject(2, 9)
    d.expect("5")
    d.closed()


@case(
    "2m_BodyLengthValueNotCorrect",
    "a length too short or too long: ignored; the next sound message shows the gap",
)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    sound = framed(f"{d.application('a')}".replace("|", f"|{d.head(2)}", 1))
    length = sound.split(b"\x01")[1]
    d.receive(sound.replace(length, b"9=30", 1))
    d.order(3, "b")
    d.expect("2", t7="2")
    d.order(2, "a", "122=20240605-12:00:00|")  # sent again unmarked, as the definition has it
    assert d.taken == ["a", "b"]
    d.receive(sound.replace(length, b"9=%d" % (int(length[2:]) + 60), 1).replace(b"34=2", b"34=4"))
    d.order(5, "d")
    for seq, name in ((4, "c"), (5, "d")):
        d.order(seq, name)
    assert d.taken == ["a", "b", "c", "d"]
    d._answers.clear()  # a reader that swallows the message behind a length too long asks for nothing here; we do
    d.bye(6)


@case("2o_SendingTimeValueOutOfRange", "a SendingTime two minutes off either way: reject (10) and logout")
def _(d: Side) -> None:
    for late in (-121.0, 121.0):
        d.logon(body="98=0|108=30|141=Y|")
        d.expect("A")
        d.say("0", 2, late_s=late)
        d.reject(2, 10)
        d.expect("5")
        d.closed()


@case("2q_MsgTypeNotValid", "a MsgType that can be none is rejected (11)")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.say("*", 2)
    d.reject(2, 11)
    d.bye(3)


@case(
    "2r_UnregisteredMsgType",
    "a type that is not supported gets a BusinessMessageReject (3)",
    "venues only: what a broker tells beyond what we asked for is ignored",
)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.say("R", 2, "131=x|146=1|55=EURUSD|")
    d.expect("j", t45="2", t372="R", t380="3")
    d.alive(3)


@case("2t_FirstThreeFieldsOutOfOrder", "a message that does not begin 8, 9, 35 is garbled: ignored")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.garbled(lambda data: b"35=0\x01" + data.replace(b"35=0\x01", b""), 2)
    d.alive(2)
    d.receive(framed(f"{d.head(3)}35=0|"))
    d.alive(3)


@case("3b_InvalidChecksum", "a wrong sum: ignored; the next sound message shows the gap")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.garbled(lambda data: data[:-4] + b"%03d\x01" % ((int(data[-4:-1]) + 1) % 256), 2)
    d.nothing()
    d.say("0", 3)
    d.expect("2", t7="2")


@case("3c_GarbledMessage", "a garbled message is ignored; the next sound message shows the gap")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.garbled(lambda data: data.replace(b"\x0149=", b"garbled9="), 2)
    d.say("0", 2)
    d.garbled(lambda data: data.replace(b"\x0149=", b"49garbled="), 3)
    d.say("0", 4)
    d.expect("2", t7="3")
    d.order(3, "a", DUP)
    assert d.taken == ["a"]
