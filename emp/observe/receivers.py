"""Who alerts are sent to: a webhook, a push service that speaks as ntfy does, an e-mail address.

Each delivers one message or raises `UndeliveredError`; none of them knows when or how often. Whoever calls them does it
in a thread that trading never waits for.
"""

import smtplib
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from http.client import HTTPException
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from emp.core.config.secrets import Secret
from emp.core.errors import ConfigError
from emp.observe.alert_log import Told

TIMEOUT_S = 10.0
"""Longest silence of a receiver."""

PASSING = frozenset({408, 425, 429})
"""HTTP answers of the 4xx that say nothing of the message itself."""

Encryption = Literal["tls", "starttls", "none"]


class UndeliveredError(Exception):
    """A message was not taken; `for_good` where trying it again cannot help."""

    def __init__(self, why: str, *, for_good: bool = False) -> None:
        super().__init__(why)
        self.for_good = for_good


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where an alert comes from."""

    run: str
    mode: str
    host: str


class Receiver(Protocol):
    """Takes messages."""

    name: str

    def deliver(self, told: Told, origin: Origin) -> None:
        """Hand one message over; raise UndeliveredError where it was not taken."""


def title_of(told: Told, origin: Origin) -> str:
    """One line: what it is about."""
    what = told.alert.name.replace("_", " ")
    state = "over" if told.status == "resolved" else told.alert.severity
    return f"EMP {origin.mode}, {state}: {what}"


def body_of(told: Told, origin: Origin) -> str:
    """What happened, in words."""
    lines = [told.alert.text, "", f"since {_stamp(told.since_ns)}"]
    if told.status == "resolved":
        lines.append(f"over at {_stamp(told.at_ns)}")
    return "\n".join([*lines, f"run {origin.run} on {origin.host}"])


def _stamp(ns: int) -> str:
    return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class Webhook:
    """POSTs JSON: version 1, status, alert, severity, instrument, detail, title, text, since, at, run, mode, host.

    `since` and `at` are ISO UTC. A bearer token goes along where there is one.
    """

    name = "webhook"

    def __init__(self, url: str, token: Secret | None = None) -> None:
        self._url, self._token = _checked(url, "alerts.webhook", token), token

    def deliver(self, told: Told, origin: Origin) -> None:
        """POST it."""
        alert = told.alert
        body = {
            "version": 1,
            "status": told.status,
            "alert": alert.name,
            "severity": alert.severity,
            "instrument": alert.instrument,
            "detail": alert.detail,
            "title": title_of(told, origin),
            "text": body_of(told, origin),
            "since": _iso(told.since_ns),
            "at": _iso(told.at_ns),
            **msgspec.to_builtins(origin),
        }
        _post(self._url, body, self._token)


class Push:
    """Publishes to a topic of an ntfy server (its JSON form): a phone that has subscribed to it rings."""

    name = "push"

    def __init__(self, url: str, token: Secret | None = None) -> None:
        checked = urlsplit(_checked(url, "alerts.push", token))
        above, _, self._topic = checked.path.rstrip("/").rpartition("/")
        if not self._topic:
            raise ConfigError(f"alerts.push: {url} names no topic: https://HOST/TOPIC")
        self._url, self._token = checked._replace(path=above + "/", query="").geturl(), token

    def deliver(self, told: Told, origin: Origin) -> None:
        """Publish it; a critical one has the highest priority, what is over a low one."""
        firing = told.status == "firing"
        body = {
            "topic": self._topic,
            "title": title_of(told, origin),
            "message": body_of(told, origin),
            "priority": (5 if told.alert.severity == "critical" else 4) if firing else 2,
            "tags": ["rotating_light" if firing else "white_check_mark"],
        }
        _post(self._url, body, self._token)


class Email:
    """Writes an e-mail through a server of the owner's."""

    name = "email"

    def __init__(
        self,
        to: str,
        host: str,
        *,
        sender: str | None = None,
        port: int | None = None,
        encryption: Encryption = "tls",
        user: Secret | None = None,
        password: Secret | None = None,
    ) -> None:
        """`port`: 465 with tls, 587 with starttls and 25 without, where it is None. Raises ConfigError."""
        if (user is None) != (password is None):
            raise ConfigError("alerts: EMP_ALERT_SMTP_USERNAME and EMP_ALERT_SMTP_PASSWORD go together")
        if user is not None and encryption == "none" and not _is_loopback(host):
            raise ConfigError(f"alerts.smtp_encryption: a password would go to {host} in the clear")
        self._to, self._sender, self._host = to, sender or to, host
        self._port = port or {"tls": 465, "starttls": 587, "none": 25}[encryption]
        self._encryption, self._user, self._password = encryption, user, password

    def deliver(self, told: Told, origin: Origin) -> None:
        """Send it; answers of the 5xx of SMTP are for good."""
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = title_of(told, origin), self._sender, self._to
        message["Date"], message["Message-ID"] = (
            formatdate(told.at_ns / 1e9),
            make_msgid(domain="emp.invalid"),
        )
        message.set_content(body_of(told, origin))
        try:
            with self._connected() as server:
                if self._user is not None and self._password is not None:
                    server.login(self._user.reveal(), self._password.reveal())
                server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise UndeliveredError(f"{self._host} refuses {self._to}", for_good=min(codes) >= 500) from None
        except smtplib.SMTPResponseException as error:
            why = f"{self._host} answers {error.smtp_code}"  # its words may repeat what was sent
            raise UndeliveredError(why, for_good=error.smtp_code >= 500) from None
        except (OSError, smtplib.SMTPException) as error:
            raise UndeliveredError(f"{self._host}: {_in_words(error)}") from None

    def _connected(self) -> smtplib.SMTP:
        secure = ssl.create_default_context()
        if self._encryption == "tls":
            return smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_S, context=secure)
        server = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)
        if self._encryption == "starttls":
            try:
                server.starttls(context=secure)
            except BaseException:
                server.close()
                raise
        return server


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is redirected is not followed: the token would go to whomever an answer names."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _post(url: str, body: Mapping[str, object], token: Secret | None) -> None:
    request = urllib.request.Request(url, msgspec.json.encode(body), {"Content-Type": "application/json"})
    if token is not None:
        request.add_unredirected_header("Authorization", f"Bearer {token.reveal()}")
    host = urlsplit(url).hostname  # never the whole address: it may be the secret itself
    try:
        with _opener.open(request, timeout=TIMEOUT_S) as answer:
            answer.read(1 << 16)
    except urllib.error.HTTPError as error:
        error.close()
        for_good = error.code < 500 and error.code not in PASSING
        raise UndeliveredError(f"{host} answers {error.code}", for_good=for_good) from None
    except (OSError, HTTPException) as error:
        raise UndeliveredError(f"{host}: {_in_words(error)}") from None


def _in_words(error: object) -> str:
    if isinstance(error, urllib.error.URLError):
        error = error.reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _checked(url: str, field: str, token: Secret | None) -> str:
    """The address, or a ConfigError that does not show more of it than its host."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise ConfigError(f"{field}: not an address") from None
    if parts.scheme not in ("http", "https") or not host or any(ord(c) <= 32 or ord(c) > 126 for c in url):
        raise ConfigError(f"{field}: not an http or https address")
    if parts.username or parts.password:
        raise ConfigError(f"{field}: names a user or password; a token belongs into the secrets")
    if token is not None and parts.scheme == "http" and not _is_loopback(host):
        raise ConfigError(f"{field}: a token would go to {host} in the clear; use https")
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        return False
    return packed[0] == 127 if len(packed) == 4 else packed == b"\0" * 15 + b"\1"


def _iso(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
