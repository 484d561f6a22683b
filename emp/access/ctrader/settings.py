"""What a connection to the Open API needs to know, and what comes out of it."""

import msgspec

from emp.access.port import Cause, Reach
from emp.core.config.secrets import Secret
from emp.core.contracts import OrderUpdate
from emp.core.errors import VenueError
from emp.core.records import Array

MS = 1_000_000
S = 1_000_000_000


class Credentials(msgspec.Struct, frozen=True):
    """Secrets of the application and the account; none of them ever shows itself."""

    client_id: Secret
    client_secret: Secret
    access_token: Secret
    refresh_token: Secret | None = None
    expires_at_ns: int | None = None  # when the access token expires, ns UTC; None where not known

    def mask(self, text: str) -> str:
        """The text with every secret in it, should the venue echo one, replaced."""
        for secret in (self.client_secret, self.access_token, self.refresh_token, self.client_id):
            if secret is not None and secret.reveal():
                text = text.replace(secret.reveal(), "***")
        return text


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Facts and limits of a connection; the defaults are the venue's published limits, kept with a margin."""

    account: int  # ctidTraderAccountId
    reach: Reach = Reach.ORDERS
    demo: bool | None = None  # True: only a demo account will do, False: only a live one; None: either
    depth: bool = True  # rows from depth; False: from best prices, for symbols without depth
    heartbeat_ns: int = 8 * S  # the venue asks for one every 10 s
    silence_ns: int = 15 * S  # without a whole frame for so long, ask for a sign of life
    answer_ns: int = 5 * S  # how long an answer may take
    settle_ns: int = 5 * S  # how long after its sending an order may still be on its way to the venue's books
    order_wait_ns: int = 250 * MS  # how long an order may wait here before it is refused
    requests_per_s: int = 50
    historical_per_s: int = 5
    refresh_margin_ns: int = 3_600 * S  # how long before its expiry a token is exchanged
    backoff_first_ns: int = 500 * MS
    backoff_last_ns: int = 60 * S
    stuck_ns: int = 5 * S  # a book crossed or locked for so long is asked for anew
    seed: int = 0  # of the jitter between attempts to connect


class Rows(msgspec.Struct, frozen=True):
    """EVENT rows."""

    rows: Array


class Report(msgspec.Struct, frozen=True):
    """A report on one of our orders."""

    update: OrderUpdate
    px: int = 0  # at which something has just filled, in ticks; 0: nothing, or nobody says


class Ready(msgspec.Struct, frozen=True):
    """Logged on, subscribed, reconciled: commands may be sent."""


class Dropped(msgspec.Struct, frozen=True):
    """The connection must be closed, or is gone; the next attempt may begin after `retry_ns`."""

    reason: str
    retry_ns: int
    cause: Cause = "lost"


class Failed(msgspec.Struct, frozen=True):
    """It makes no sense to try again."""

    error: VenueError


class Renewed(msgspec.Struct, frozen=True):
    """New tokens, which must be kept: the old ones are void."""

    credentials: Credentials


class Left(msgspec.Struct, frozen=True):
    """The orderly goodbye is over: close the connection."""


class Notice(msgspec.Struct, frozen=True):
    """Something worth a line in the log."""

    text: str


Output = Rows | Report | Ready | Dropped | Failed | Renewed | Left | Notice
