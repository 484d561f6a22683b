"""What a holder leaves with its lease for whoever follows: the same that a run leaves for the account's next run."""

import msgspec

from emp.core.errors import JournalError
from emp.journal.account_file import Carried


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """Of one instrument."""

    run: str  # in which it was traded
    ts: int  # ns UTC, when this was so
    carried: Carried


def encode_left(left: Left) -> str:
    """As it stands in a record."""
    return msgspec.json.encode(left).decode()


def decode_left(text: str) -> Left | None:
    """None where nothing is known; JournalError where it is not what a holder writes."""
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=Left)
    except msgspec.MsgspecError as error:
        raise JournalError(
            f"what the lease says of the account is damaged ({error}): look at it in Redis"
        ) from error
