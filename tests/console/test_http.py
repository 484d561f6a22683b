"""Who may see and do what over HTTP, and what a page is fed with."""

import asyncio
import json
import socket
import time
from collections.abc import Mapping
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from emp.app.console import refusals, stream
from emp.app.console.console import Console
from emp.app.console.pages import files
from emp.app.console.token import NAME, read_token
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.errors import ConfigError, UsageError
from emp.observe import connections
from emp.observe.board import Board
from emp.observe.http import HttpServer, create_app
from tests.console.kit import GOLD, SILVER, TOKEN, Served, served, view

EVIL = "http://evil.example"


class Reader:
    """Reads server-sent events of a stream."""

    def __init__(self, page: Served, path: str = "/events", **headers: str) -> None:
        self.connection = HTTPConnection(page.host, timeout=10)
        self.connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        self.answer = self.connection.getresponse()
        self.ident = ""

    def next(self) -> dict:
        found, kind = "", ""
        while line := self._line():
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "id":
                self.ident = value
            elif name == "event":
                kind = value
            elif name == "data":
                found = value
            elif not line.strip() and found:
                return {"kind": kind, **json.loads(found)}
        return {"kind": "closed"}

    def _line(self) -> str:
        try:
            return self.answer.readline().decode()
        except (IncompleteRead, OSError):
            return ""

    def close(self) -> None:
        self.connection.close()
        self.answer.close()


# --- controls -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"X_Emp_Token": ""}, "token"),
        ({"X_Emp_Token": TOKEN[:-1] + "x"}, "token"),
        ({"X_Emp_Token": TOKEN + "x"}, "token"),
        ({"X_Emp_Token": "\xe9"}, "token"),
        ({"Origin": EVIL}, "Origin"),
        ({"Origin": ""}, "Origin"),
        ({"Origin": "null"}, "Origin"),
        ({"Origin": "file://127.0.0.1"}, "Origin"),
        ({"Origin": "http://[127.0.0.1"}, "Origin"),
        ({"Sec_Fetch_Site": "cross-site"}, "another site"),
        ({"Sec_Fetch_Site": "same-site"}, "another site"),
        ({"Content_Type": "text/plain"}, "application/json"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, "application/json"),
    ],
)
def test_a_control_that_is_not_a_page_of_ours_with_the_token_is_refused(
    changed: dict[str, str], why: str
) -> None:
    with served() as page:
        page.console.attach(Path("/nowhere"))
        answer = page.control("kill", **changed)
        assert answer.status == 403
        assert why in answer.told["text"]
        right = page.control("kill")
        assert (right.status, right.told["text"]) == (409, "/nowhere: no engine runs there (any more)")


def test_another_name_for_this_machine_is_refused() -> None:
    """A name that a stranger's name server points here: the browser would call it the same origin."""
    with served() as page:
        answer = page.control("kill", Host="evil.example", Origin="http://evil.example")
        assert answer.status == 400
        assert page.control("kill", Host="localhost:1", Origin="http://localhost:2").status == 403


def test_what_cannot_be_understood_is_refused_before_anything_is_done() -> None:
    with served() as page:
        assert page.control("kill").told["text"] == "the run has not begun yet"
        page.console.attach(Path("/nowhere"))
        headers = {"Origin": page.server.url, "Content_Type": "application/json", "X_Emp_Token": TOKEN}
        for body in (
            "",
            "{",
            "[]",
            '{"do": 1}',
            '{"do": "kill", "more": 1}',
            '{"do": "reload"}',
            "[" * 4000,
            "x" * 5000,
            "x" * 20_000,
        ):
            assert page.ask("POST", "/control", body, **headers).status == 400, body[:20]
        assert page.ask("GET", "/control").status == 405


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    "path", ["/events", "/snapshot", "/runs.json", "/history?instrument=GC", "/static/main.js"]
)
def test_a_page_of_another_site_gets_nothing_of_what_it_asks_for_behind_its_readers_back(
    path: str, site: str
) -> None:
    with served() as page:
        page.board.publish(view(GOLD))
        for mode in ("no-cors", "cors", ""):
            answer = page.ask("GET", path, Sec_Fetch_Site=site, Sec_Fetch_Mode=mode)
            assert (answer.status, answer.body) == (403, "asked for by a page of another site\n"), mode
            assert page.ask("HEAD", path, Sec_Fetch_Site=site, Sec_Fetch_Mode=mode).status == 403
        led = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate"}
        assert page.ask("GET", path, **led).status == 403, "a link leads to a page, or nowhere"
        assert page.console._stream._pages == 0
        for own in ("/", "/runs"):
            assert page.ask("GET", own, **led, Sec_Fetch_Dest="document").status == 200
            assert page.ask("GET", own, **led, Sec_Fetch_Dest="iframe").status == 403


def test_the_stream_is_for_a_script_alone() -> None:
    with served() as page:
        for site in ("same-origin", "none"):
            opened = page.ask("GET", "/events", Sec_Fetch_Site=site, Sec_Fetch_Dest="document")
            assert (opened.status, opened.body) == (403, "the stream is for a page's script\n")
        asked = page.ask("HEAD", "/events")
        assert (asked.status, asked.body) == (200, "")
        assert asked.headers["content-type"].startswith("text/event-stream")
        assert page.console._stream._pages == 0
        reader = Reader(page, Sec_Fetch_Site="same-origin", Sec_Fetch_Dest="empty")
        assert reader.next()["reset"]
        reader.close()


def test_of_many_streams_at_once_no_more_begin_than_there_may_be() -> None:
    console = Console(Board(LiveClock()), TOKEN)
    app = create_app(Board(LiveClock()), console.routes, console.middleware)
    begun: list[int] = []

    async def open_one(gone: asyncio.Event, *, broken: bool) -> None:
        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                begun.append(message["status"])
                if broken:
                    raise OSError("nobody is there any more")
                await asyncio.sleep(0)

        async def receive() -> Mapping[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        scope = {"type": "http", "method": "GET", "path": "/events", "query_string": b"", "app": app}
        await app({**scope, "headers": [(b"host", b"127.0.0.1")]}, receive, send)

    async def many(*, broken: bool) -> None:
        begun.clear()
        gone = asyncio.Event()
        tasks = [asyncio.create_task(open_one(gone, broken=broken)) for _ in range(stream.MOST + 24)]
        while len(begun) < len(tasks):
            await asyncio.sleep(0.01)
        gone.set()
        await asyncio.wait(tasks)
        assert (begun.count(200), begun.count(503)) == (stream.MOST, 24)
        assert console._stream._pages == 0

    for broken in (False, True):
        asyncio.run(many(broken=broken))


def guess(page: Served, times: int) -> None:
    """Show three wrong tokens, and what is none, so many times."""
    for _ in range(times):
        page.ask("POST", "/login", "token=wrong", Origin=page.server.url)
        page.ask("GET", "/snapshot", Authorization="Bearer wrong")
        page.control("kill", Authorization=f"Bearer {TOKEN}", X_Emp_Token="wrong")
        page.ask("POST", "/login", "token=wrong", Origin=EVIL)
        page.ask("POST", "/login", "", Origin=page.server.url)
        page.ask("POST", "/login", "token=", Origin=page.server.url)
        page.ask("GET", "/snapshot", Cookie="emp_console=of-an-earlier-run")
        page.ask("GET", "/")


def test_wrong_tokens_are_told_once_a_minute_with_their_number() -> None:
    with capture_logs() as told, served(login=True) as page:
        guess(page, 10)
        assert [(one["event"], one["times"]) for one in told] == [("a wrong token was shown", 1)]
        page.console.refusals.close()
        assert (told[-1]["times"], told[-1]["client"], len(told)) == (29, "127.0.0.1", 2)
        page.console.refusals.close()
        assert len(told) == 2, "nothing is told twice"


def test_guesses_before_a_silence_are_told_when_their_minute_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "EVERY_S", 2.0)
    with capture_logs() as told, served(login=True) as page:
        guess(page, 3)
        end = time.monotonic() + 20.0
        while sum(one["times"] for one in told) < 9 and time.monotonic() < end:
            time.sleep(0.05)
        assert sum(one["times"] for one in told) == 9
        assert told[0]["times"] == 1
        lines = len(told)
        time.sleep(2.5)
        assert len(told) == lines, "a silence is not told"


# --- logins -------------------------------------------------------------------------------------------------


def test_off_loopback_everything_needs_a_login() -> None:
    with served(login=True) as page:
        page.board.publish(view(GOLD))
        for path in (
            "/health",
            "/metrics",
            "/snapshot",
            "/events",
            "/history?instrument=GC",
            "/static/main.js",
            "/nope",
        ):
            assert page.ask("GET", path).status == 401, path
            assert page.ask("GET", path, Authorization="Bearer wrong").status == 401
            assert page.ask("GET", path, Cookie=f"emp_console={TOKEN}").status == 401, (
                "the cookie is not the token"
            )
        assert page.ask("GET", "/metrics", Authorization=f"Bearer {TOKEN}").status == 200
        form = page.ask("GET", "/")
        assert form.status == 401
        assert "<form" in form.body
        assert GOLD.name not in form.body
        wrong = page.ask("POST", "/login", "token=wrong", Origin=page.server.url)
        assert (wrong.status, "Set-Cookie" in wrong.headers, "not the token" in wrong.body) == (
            403,
            False,
            True,
        )
        assert page.ask("POST", "/login", f"token={TOKEN}", Origin=EVIL).status == 403
        right = page.ask("POST", "/login", f"token={TOKEN}", Origin=page.server.url)
        cookie = {name.lower(): value for name, value in right.headers.items()}["set-cookie"]
        assert right.status == 303
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert page.ask("GET", "/snapshot", Cookie=cookie.partition(";")[0]).status == 200
        assert page.control("kill", Cookie=cookie.partition(";")[0], X_Emp_Token="").status == 403, (
            "seeing is not doing"
        )


def test_a_port_that_such_a_run_holds_is_told_as_that() -> None:
    with served(login=True) as page, pytest.raises(UsageError, match="in use by a run that asks for a login"):
        HttpServer(create_app(Board(LiveClock())), "127.0.0.1", int(page.host.split(":")[1])).start()


def test_a_run_that_others_can_reach_needs_a_token_of_its_owner(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    text = "mode: mock\ninstruments: {names: [GOOG]}\nhttp: {host: 0.0.0.0, expose: true%s}\n"
    config.write_text(text % "")
    with pytest.raises(ConfigError, match=r"http\.token_file: must be given with http\.expose"):
        SystemConfig.load(config)
    config.write_text(text % f", token_file: {tmp_path / 'token'}")
    assert SystemConfig.load(config).http.token_file == tmp_path / "token"


def test_a_token_that_others_can_read_or_guess_will_not_do(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(UsageError, match="cannot read"):
        read_token(path)
    path.write_text(TOKEN + "\n")
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path) == TOKEN
    for bad in ("short", "x" * 30 + " y", "é" * 30, ""):
        path.write_text(bad)
        with pytest.raises(UsageError, match="at least 24 ASCII"):
            read_token(path)


def test_the_token_of_a_run_is_its_owners_alone_and_ends_with_it(tmp_path: Path) -> None:
    console = Console(Board(LiveClock()))
    console.attach(tmp_path)
    path = tmp_path / NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().strip() == console.token
    assert console.address("http://x") == f"http://x/#token={console.token}"
    assert Console(Board(LiveClock())).token != console.token
    console.close()
    assert not path.exists()
    own = Console(Board(LiveClock()), TOKEN)
    own.attach(tmp_path)
    assert not path.exists()
    assert TOKEN not in own.address("http://x")


# --- the page and its stream ---------------------------------------------------------------------------------


def test_the_page_is_whole_small_and_asks_nobody_else() -> None:
    with served() as page:
        index = page.ask("GET", "/")
        assert index.status == 200
        assert "script-src 'self'" in index.headers["content-security-policy"]
        size = 0
        for name, text in files().items():
            assert "://" not in text, name
            size += len(text.encode())
            assert page.ask("GET", f"/static/{name}").body == text
        assert size < 150_000, "even uncompressed"
        for stranger in ("nope.js", "..%2fconsole.py", "%2e%2e/token.py"):
            assert page.ask("GET", f"/static/{stranger}").status == 404


def test_a_stream_begins_anew_then_tells_what_is_new_and_is_taken_up_where_it_broke() -> None:
    with served() as page:
        first = Reader(page)
        assert first.next()["view"] is None
        first.close()
        page.board.publish(view(GOLD, SILVER))
        page.console.log.add('{"event": "one"}\n')
        reader = Reader(page)
        begun = reader.next()
        assert begun["reset"]
        assert [i["name"] for i in begun["view"]["instruments"]] == ["GC", "SI"]
        assert begun["view"]["instruments"][0]["decisions"] == [], "those come with what is new"
        assert begun["log"] == ['{"event": "one"}']
        reader.close()
        later = msgspec.structs.replace(GOLD, last_ts=GOLD.last_ts + 1, position=5)
        page.board.publish(view(later, now_ns=10**10))
        page.console.log.add('{"event": "two"}\n')
        again = Reader(page, Last_Event_ID=reader.ident)
        resumed = again.next()
        assert not resumed["reset"]
        assert resumed["since"]["GC"]["lines"]["position"] == [5]
        assert resumed["log"] == ['{"event": "two"}']
        again.close()
        for foreign in ("OTHER-1/1.0", "RUN-1/999999.0", "RUN-1/x.y", "RUN-1/-1.0", "nonsense"):
            stranger = Reader(page, Last_Event_ID=foreign)
            assert stranger.next()["reset"], foreign
            stranger.close()
        history = json.loads(page.ask("GET", "/history?instrument=GC").body)
        assert history["lines"]["position"] == [-4, 5]
        assert len(history["decisions"]) == 1
        assert page.ask("GET", "/history?instrument=XX").status == 404


def test_a_page_that_reads_slowly_gets_the_newest_state_and_no_backlog() -> None:
    with served() as page:
        page.board.publish(view(GOLD))
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.settimeout(10)
        host, port = page.host.split(":")
        sock.connect((host, int(port)))
        sock.sendall(f"GET /events HTTP/1.1\r\nHost: {page.host}\r\n\r\n".encode())
        big = msgspec.structs.replace(GOLD, closing="x" * 200_000)  # one event fills every buffer on the way
        for i in range(30):
            time.sleep(0.1)
            page.board.publish(view(msgspec.structs.replace(big, position=i), now_ns=i))
        text, deadline = "", time.monotonic() + 10
        while '"position":29' not in text and time.monotonic() < deadline:
            text += sock.recv(1 << 16).decode()
        sock.close()
        events = text.count("\nid: ")
        assert '"position":29' in text
        assert events <= 5, "what it had not read in time was not kept for it"


def test_a_stream_goes_on_while_it_is_read_and_is_cut_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "ANSWER_S", 0.7)
    monkeypatch.setattr(connections, "_LOOK_S", 0.1)
    with served() as page:
        page.board.publish(view(msgspec.structs.replace(GOLD, closing="x" * 1_000_000)))
        reader = Reader(page)
        end = time.monotonic() + 1.6
        while time.monotonic() < end:
            assert reader.next()["kind"] == ""
        kind, pause = "", 2.0
        while (
            kind == "" and pause < 40.0
        ):  # until what is sent has no room any more: how much that is the system knows
            time.sleep(pause)
            for _ in range(100):
                kind = reader.next()["kind"]
                if kind:
                    break
            pause *= 2.0
        reader.close()
        assert kind == "closed", "a page that reads nothing is let go"


def test_few_pages_at_a_time_and_they_are_told_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST", 2)
    with served() as page:
        page.board.publish(view(GOLD))
        readers = [Reader(page), Reader(page)]
        for reader in readers:
            reader.next()
        refused = page.ask("GET", "/events")
        assert (refused.status, refused.body) == (503, "too many pages are open: 2 at a time\n")
        told = page.ask("GET", "/events", Accept="text/event-stream")
        assert (told.status, told.body) == (200, 'event: full\ndata: {"most": 2}\n\n')
        assert page.ask("GET", "/health").status == 200
        readers.pop().close()
        deadline = time.monotonic() + 5
        while True:
            third = Reader(page)
            if third.answer.status == 200 or time.monotonic() > deadline:
                break
            third.close()
        third.next()
        readers.append(third)
        began = time.monotonic()
        page.server.stop()
        assert time.monotonic() - began < 4.0, "streams do not hold up the end"
        for reader in readers:
            kinds = []
            while not kinds or kinds[-1] not in ("end", "closed"):
                kinds.append(reader.next()["kind"])
            assert kinds[-1] == "end"
            reader.close()
