"""Servers that take alerts: HTTP as webhooks and push services have it, and as much of SMTP as sending a mail needs."""

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Posted(NamedTuple):
    """One request that came."""

    path: str
    body: Any
    authorization: str


class Hook:
    """What came, and what is answered from now on."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 204
        self.location = ""
        self.posts: list[Posted] = []

    def named(self) -> list[tuple[str, str]]:
        """(alert, status) of everything that came."""
        return [(one.body["alert"], one.body["status"]) for one in self.posts]


@contextmanager
def hook() -> Iterator[Hook]:
    """An HTTP server on loopback that remembers what is posted to it."""
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.posts.append(Posted(self.path, body, self.headers.get("Authorization", "")))
            self.send_response(found.status)
            if found.location:
                self.send_header("Location", found.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Mailbox:
    """An SMTP server's mails, and how it behaves."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[bytes] = []
        self.logins: list[tuple[str, str]] = []
        self.secured: list[bool] = []
        self.answer_to_recipient = "250 ok"


@contextmanager
def mailbox(pem: Path | None = None, *, from_the_start: bool = False) -> Iterator[Mailbox]:
    """An SMTP server on loopback; with a certificate it offers STARTTLS, or speaks TLS from the start."""
    box = Mailbox()
    secure = None
    if pem is not None:
        secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.load_cert_chain(pem)
    loop = asyncio.new_event_loop()
    begun = threading.Event()
    over: asyncio.Event = asyncio.Event()

    async def main() -> None:
        wrapped = secure if from_the_start else None
        server = await asyncio.start_server(
            lambda r, w: _serve(box, r, w, secure, wrapped), "127.0.0.1", 0, ssl=wrapped
        )
        box.port = server.sockets[0].getsockname()[1]
        begun.set()
        await over.wait()
        server.close()
        await server.wait_closed()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    begun.wait(20)
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


async def _serve(
    box: Mailbox,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    secure: ssl.SSLContext | None,
    wrapped: ssl.SSLContext | None,
) -> None:
    is_secure = wrapped is not None
    say: Callable[[str], None] = lambda line: writer.write(line.encode() + b"\r\n")  # noqa: E731
    say("220 here")
    try:
        while line := (await reader.readline()).decode().strip():
            word = line.upper().split()[0]
            if word == "EHLO":
                offers = ["250-here"]
                if secure is not None and not is_secure:
                    offers.append("250-STARTTLS")
                for offer in [*offers, "250 AUTH PLAIN"]:
                    say(offer)
            elif word == "STARTTLS" and secure is not None:
                say("220 go on")
                await writer.start_tls(secure)
                is_secure = True
            elif word == "AUTH":
                _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
                box.logins.append((user, password))
                say("235 welcome")
            elif word == "RCPT":
                say(box.answer_to_recipient)
            elif word == "DATA":
                say("354 go on")
                mail = []
                while (text := await reader.readline()) != b".\r\n":
                    mail.append(
                        text.removeprefix(b".")
                    )  # of two at the beginning of a line one is the protocol's
                box.mails.append(b"".join(mail))
                box.secured.append(is_secure)
                say("250 taken")
            elif word == "QUIT":
                say("221 bye")
                break
            else:
                say("250 ok")
    except (ssl.SSLError, ConnectionError):
        pass  # the other side has had enough
    finally:
        writer.close()
