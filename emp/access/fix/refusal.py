"""Why a peer denies a logon, and whether asking again can change it: by codes first, by words last.

In this order, the first that says something decides:

1. SessionStatus (1409) of a Logout, as FIXT 1.1 defines it and many FIX 4.4 gateways send it;
2. the code of a Reject (373) or BusinessMessageReject (380);
3. a code in capitals in the text (58), as gateways in front of other systems pass it on: `CH_CLIENT_AUTH_FAILURE`;
4. the words of the text, first of all whether somebody is logged on under our name;
5. how often it was denied without a session in between (`Denials`), answered or not.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from emp.access.fix.message import Message
from emp.access.fix.schedule import Backoff

_S = 1_000_000_000

_STATUS: Mapping[int, tuple[bool, str]] = {
    3: (True, "the new password does not comply with the policy"),
    5: (True, "invalid user name or password"),
    6: (True, "the account is locked"),
    7: (False, "logons are not allowed at this time"),
    8: (True, "the password has expired"),
}
"""SessionStatus (1409): whether it stands, and what it says where there is no text."""

_NUMBERS_LOW: Final = 9
"""SessionStatus for a MsgSeqNum that is too low."""

_REJECT: Mapping[int, bool] = {0: True, 1: True, 2: True, 4: True, 5: True, 6: True, 9: True, 10: False}
"""SessionRejectReason (373) of our logon: whether it stands. A logon whose fields the peer does not take will not
become better; a clock (10) can be set.
"""

_BUSINESS: Mapping[int, bool] = {4: False, 6: True}
"""BusinessRejectReason (380): application not available, not authorised."""

_CODE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
_FINAL_CODE = re.compile(
    r"AUTH|PASSWORD|CREDENTIAL|TOKEN|NO_SUCH|NOT_FOUND|UNKNOWN|DISABLED|LOCKED|DENIED|NOT_ENTITLED|COMPID"
)
_TOO_LOW = re.compile(r"too low|lower than expected", re.IGNORECASE)
_FINAL_WORDS = re.compile(
    r"password|credential|authenti|authori[sz]|user ?name|log ?in (failed|incorrect)"
    r"|(unknown|invalid|incorrect|wrong|bad|no such)"
    r" (user|account|client|session|(sender|target)?(comp|sub) ?id|sender|target)"
    r"|(comp|sub) ?id (unknown|invalid|incorrect|wrong|not (found|known))"
    r"|(account|user|client|session|login) \S*\s?(is |has been |was )?"
    r"(locked|disabled|suspended|blocked|closed|expired|deactivated)"
    r"|not (entitled|permitted|enabled|allowed to|licen[cs]ed)"
    r"|entitlement|no permission|permission denied|access denied|forbidden",
    re.IGNORECASE,
)
"""Words with which a peer refuses a logon for good: asking again changes nothing, and may lock the account."""

_OCCUPIED = re.compile(
    r"(already|currently)[ _](been[ _])?(logged|signed|connected|active|open|established|in[ _]use)"
    r"|(logged|signed)[ _](on|in)[ _](from[ _])?(elsewhere|another)"
    r"|(another|duplicate|multiple|concurrent|second)[ _](active[ _])?(session|connection|client|log ?[io]n)s?"
    r"|(session|connection)[ _](is[ _]|was[ _]|has[ _]been[ _])?"
    r"(taken[ _]over|replaced|superseded|displaced|in[ _]use)",
    re.IGNORECASE,
)
"""Words of a peer that has somebody logged on under our name: another process, or what is left of ourselves."""

NO_REASON: Final = "no reason given"

_MEANINGS: Mapping[str, tuple[int, Mapping[int, str]]] = {
    "Y": (281, {
        0: "unknown symbol", 1: "duplicate request id", 2: "insufficient bandwidth",
        3: "insufficient permissions", 4: "unsupported type of subscription", 5: "unsupported market depth",
        6: "unsupported type of update", 7: "aggregation is not supported", 8: "unsupported type of entry",
    }),
    "j": (380, {
        0: "other", 1: "unknown id", 2: "unknown security", 3: "unsupported message type",
        4: "application not available", 5: "a required field is missing", 6: "not authorised",
    }),
    "3": (373, {
        0: "invalid tag", 1: "a required field is missing", 2: "a tag that is none of this message",
        4: "a field without a value", 5: "a value that is incorrect", 6: "an incorrect data format",
        9: "CompID problem", 10: "SendingTime problem", 11: "invalid message type", 13: "a field twice",
    }),
}  # fmt: skip
"""The code with which a message refuses a request, and what FIX 4.4 says that its values mean."""


def reason_of(message: Message) -> str:
    """Why a request was refused (35=Y, j or 3): in the peer's words, else in those of its code, with its field."""
    said = message.words(58)
    if said:
        return said
    tag, meanings = _MEANINGS[message.kind]
    code = message.integer(tag)
    if code < 0:
        return NO_REASON
    field = message.words(371)
    meaning = meanings.get(code, "no standard reason")
    return f"{meaning} ({tag}={code}{f', field {field}' if field else ''})"


class Refusal(msgspec.Struct, frozen=True):
    """A peer's answer to a logon that it will not have."""

    text: str  # in the peer's words, in those of its code, or that it gave none
    final: bool = False  # asking again changes nothing
    numbers: bool = False  # the two sides count differently
    occupied: bool = False  # somebody is logged on under our name, we ourselves it may be


def tells_of_another(text: str) -> bool:
    """Whether the words of a Logout say that somebody else is, or has, logged on under our name."""
    return _OCCUPIED.search(text) is not None


def read_refusal(message: Message) -> Refusal:
    """What a Logout, Reject or BusinessMessageReject says that answers a logon."""
    status, said = message.integer(1409), message.words(58)
    meaning = _STATUS.get(status, (False, ""))
    text = said or meaning[1] or NO_REASON
    if status == _NUMBERS_LOW or _TOO_LOW.search(said):
        return Refusal(text, numbers=True)
    if status in _STATUS:
        return Refusal(text, final=meaning[0])
    tag, codes = (373, _REJECT) if message.kind == "3" else (380, _BUSINESS)
    code = message.integer(tag) if message.kind in ("3", "j") else -1
    if code in codes:
        return Refusal(text if said else f"{tag}={code}", final=codes[code])
    if tells_of_another(said):
        return Refusal(text, occupied=True)
    found = _CODE.search(said)
    if found is not None and _FINAL_CODE.search(found[0]):
        return Refusal(text, final=True)
    return Refusal(text, final=_FINAL_WORDS.search(said) is not None)


class Denials:
    """Counts logons that a peer denied one after the other, in words or by closing the connection.

    Its words may be of any language, and many gateways close without any where they do not know who calls. So after
    `backoff.denials` of them in a row, over `backoff.denied_s` at least, it is for good: whatever it may be, an
    account must not be hammered at. A session in between, or a peer that cannot be reached at all, begins anew.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._count = 0
        self._since_ns = 0

    def forget(self) -> None:
        """There was a session, or nobody to deny one."""
        self._count = 0

    def note(self, now_ns: int) -> str:
        """Another one at this monotonic time; returns why it is for good, empty where it is not."""
        if self._count == 0:
            self._since_ns = now_ns
        self._count += 1
        lasted_s = (now_ns - self._since_ns) / _S
        if self._count < self._backoff.denials or lasted_s < self._backoff.denied_s:
            return ""
        return f"denied {self._count} times in a row, for {lasted_s:.0f} s"
