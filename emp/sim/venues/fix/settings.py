"""How the FIX venue is called and speaks."""

from collections.abc import Mapping

import msgspec

from emp.access.fix.dialect import MOCK, Dialect
from emp.core.config.secrets import Secret


class VenueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the venue is called and speaks."""

    sender: str = "EMPVENUE"
    target: str = "EMP"  # the one client it serves
    dialect: Dialect = MOCK
    symbols: Mapping[str, str] = msgspec.field(default_factory=dict)  # instrument -> symbol; absent: its name
    host: str = "127.0.0.1"
    port: int = 0  # 0 takes any free one
    password: Secret | None = None
    cancel_on_disconnect: int = 0  # tag of a logon; with Y, what rests is withdrawn where the client is lost
    depth: bool = True  # False: books are refused, best prices (264=1) are given
    strict: bool = False  # fields and formats are checked by the dictionary, and refused with 35=3
    lockstep: bool = False  # the next event waits until the client has dealt with the last
