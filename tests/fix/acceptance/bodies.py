"""Fields: their order, presence, format, and groups."""

from collections.abc import Callable

from tests.fix.acceptance.cases import FIELD_RULES, case
from tests.fix.acceptance.ends import Side
from tests.fix.wire import framed


def flawed(d: Side, change: Callable[[str], str], why: int, tag: int, seq: int = 2) -> None:
    """An order with a flaw is rejected, takes its number, and is not acted on."""
    before = list(d.taken)
    kind, _, body = d.application(f"f{seq}").partition("|")
    d.receive(framed(change(f"{kind}|{d.head(seq)}{body}")))
    d.reject(seq, why, tag)
    assert d.taken == before


@case("14a_BadField", "a tag that is none of FIX 4.4 is rejected (0)", FIELD_RULES)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    for seq, tag in enumerate((999, 5000, 0), 2):
        flawed(d, lambda text, tag=tag: f"{text}{tag}=HI|", 0, tag, seq)
    d.bye(5)


@case("14b_RequiredFieldMissing", "a required field missing in header or body is rejected (1) with its tag")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.receive(framed(f"35=0|{d.head(2)}".partition("56=")[0]))
    d.reject(2, 1, 56)
    if d.initiator:
        d.say("1", 3)
        d.reject(3, 1, 112)
    else:
        flawed(d, lambda text: text.replace("55=EURUSD|", ""), 1, 55, 3)
    d.bye(4)


@case("14c_TagNotDefinedForMsgType", "a field that the type does not have is rejected (2)", FIELD_RULES)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    flawed(d, lambda text: text + "41=HELLO|", 2, 41)
    d.bye(3)


@case("14d_TagSpecifiedWithoutValue", "a field without a value is rejected (4) with its tag")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.receive(framed(f"35=0|{d.head(2)}".partition("56=")[0] + "56=|"))
    d.reject(2, 4, 56)
    d.bye(3)


@case("14e_IncorrectEnumValue", "a value that the field cannot have is rejected (5)", FIELD_RULES)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    flawed(d, lambda text: text.replace("21=3", "21=4"), 5, 21)
    d.bye(3)


@case("14f_IncorrectDataFormat", "a value that is not of the field's type is rejected (6)", FIELD_RULES)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    flawed(d, lambda text: text.replace("38=1000", "38=+200.00"), 6, 38)
    d.bye(3)


@case("14g_HeaderBodyTrailerFieldsOutOfOrder", "a header field behind a body field is rejected (14)")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    for seq, first in ((2, 99), (3, 1)):
        kind, _, body = d.application(f"g{seq}").partition("|")
        parts = body.split("|")[:-1]
        d.receive(
            framed(
                "|".join([kind, *parts[:first]]) + "|" + d.head(seq) + "".join(f"{p}|" for p in parts[first:])
            )
        )
        d.reject(seq, 14, 34)
    assert d.taken == []
    d.bye(4)


@case("14h_RepeatedTag", "a field twice outside a group is rejected (13)", FIELD_RULES)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    flawed(d, lambda text: text + "40=2|", 13, 40)
    d.bye(3)


@case(
    "14i_RepeatingGroupCountNotEqual",
    "a group whose count is not that of its entries is rejected (16)",
    FIELD_RULES,
)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    flawed(d, lambda text: text + "386=3|336=PRE-OPEN|336=AFTER-HOURS|", 16, 386)
    d.bye(3)


@case("15_HeaderAndBodyFieldsOrderedDifferently", "fields of header and body in another order are taken")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.order(2, "a")
    kind, _, body = d.application("b").partition("|")
    head, body = d.head(3).split("|")[:-1], "|".join(reversed(body.split("|")[:-1]))
    d.receive(framed("|".join([kind, head[1], head[0], head[3], head[2], body]) + "|"))
    assert d.taken == ["a", "b"]
    d.bye(4)


@case(
    "19a_PossResendMessageThatHAsAlreadyBeenSent",
    "PossResend of an order that is known: ignored",
    "the application's: reports are known by their execID",
)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.order(2, "a")
    d.order(3, "a", "97=Y|")
    d.nothing()
    assert d.taken == ["a"]
    d.bye(4)


@case("19b_PossResendMessageThatHasNotBeenSent", "PossResend of something new is taken")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    d.order(2, "a")
    d.order(3, "b", "97=Y|")
    assert d.taken == ["a", "b"]
    d.bye(4)


@case("21_RepeatingGroupSpecifierWithValueOfZero", "a group with no entries is taken")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    kind, _, body = d.application("a").partition("|")
    d.say(kind[3:], 2, body + ("386=0|" if not d.initiator else "382=0|"))
    assert d.taken == ["a"]
    d.bye(3)


ROUTES = (
    ("115=JCD|", {128: "JCD"}),
    ("128=JCD|", {115: "JCD"}),
    ("115=JCD|116=CS|", {128: "JCD", 129: "CS"}),
    ("128=JCD|129=CS|", {115: "JCD", 116: "CS"}),
    ("115=JCD|116=CS|144=CHI|", {128: "JCD", 129: "CS", 145: "CHI"}),
    ("128=JCD|129=CS|145=CHI|", {115: "JCD", 116: "CS", 144: "CHI"}),
)


@case(
    "ReverseRoute",
    "a reject of a routed message goes the way back: 115, 116, 144 and 128, 129, 145 change places",
)
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    for seq, (route, back) in enumerate(ROUTES, 2):
        d.say("1", seq, extra=route)
        found = d.expect("3", t45=str(seq), t373="1", t371="112")
        assert {tag: found.get(tag) for tag in (115, 116, 144, 128, 129, 145) if found.get(tag)} == back
    d.bye(8)


@case("ReverseRouteWithEmptyRoutingTags", "empty routing fields are rejected or ignored, and never sent back")
def _(d: Side) -> None:
    d.logon()
    d.expect("A")
    for seq, route in enumerate(("115=|116=|", "128=|129=|144=|145=|"), 2):
        d.say("1", seq, extra=route)
        found = d.expect("3", t45=str(seq))
        assert not {115, 116, 144, 128, 129, 145} & set(found)
    d.bye(4)
