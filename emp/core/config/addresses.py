"""Whether the address of a service carries a password: in a URL, in its query, or in a string of libpq's."""

import re
from urllib.parse import unquote, urlsplit

PASSWORDS = frozenset({"password", "sslpassword", "oauth_client_secret"})
"""Parameters of libpq that are secrets (PostgreSQL documentation, 34.1.2); `password` is one of redis URLs too."""

_PAIR = re.compile(
    r"""\s*(?P<name>[^=\s]+)\s*=\s*
        (?: '(?: [^'\\] | \\. )*' | (?: [^\s'\\] | \\. )(?: [^\s\\] | \\. )* | (?=\s|$) )""",
    re.VERBOSE | re.DOTALL,
)
"""One `name = value` of a string as libpq reads it: quotes, and a backslash before what is meant as it stands."""


def carries_password(address: str) -> bool:
    """Whether an address, as libpq or a URL has it, holds a password, however it is written.

    A string that cannot be read counts as one that does where any of the words stands in it.
    """
    if "://" in address:
        return _in_url(address)
    at = 0
    while at < len(address.rstrip()):
        pair = _PAIR.match(address, at)
        if pair is None:
            rest = address[at:].lower()
            return any(word in rest for word in PASSWORDS)
        if pair["name"].lower() in PASSWORDS:
            return True
        at = pair.end()
    return False


def _in_url(address: str) -> bool:
    # libpq takes several hosts after one user, and a host with a slash in percent: neither concerns what is asked
    parts = urlsplit(address)
    user, _, _ = parts.netloc.rpartition("@")
    if user.partition(":")[2]:
        return True
    names = (pair.partition("=")[0] for pair in re.split("[&;]", f"{parts.query}&{parts.fragment}"))
    return any(unquote(name).strip().lower() in PASSWORDS for name in names)
