"""Who may see and who may do what over HTTP.

Seen is everything by this machine's users, and off loopback only by who has logged in. Done is something only with the
token in a header of its own, from a page of ours: another site's page cannot set that header, says another Origin, and
under another name for this machine another Host.
"""

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from emp.app.console.pages import HEADERS, asset
from emp.app.console.refusals import Refusals
from emp.app.console.token import is_token, session_of
from emp.engine.control_socket import LINE

COOKIE = "emp_console"
HEADER = "X-Emp-Token"
BODY = LINE // 4
"""Bytes of a request that asks for something: on its way to the engine, in ASCII, three times as many at most."""

_OPEN = ("/login", "/static/style.css")  # what a login page is made of

_PAGES = ("/", "/runs")  # where a link of another site may lead

FOREIGN = "asked for by a page of another site"


class OwnSite:
    """A page of another site gets nothing that it asks for unseen, streams least; a link may lead to a page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 403; what is posted is judged where it is taken."""
        if (
            scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and _is_foreign(scope["path"], HTTPConnection(scope).headers)
        ):
            await PlainTextResponse(FOREIGN + "\n", 403, HEADERS)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class LoginRequired:
    """Lets only those through who have logged in, by cookie (a browser) or `Authorization: Bearer` (a scraper)."""

    def __init__(self, app: ASGIApp, token: str, refusals: Refusals) -> None:
        self._app, self._token, self._refusals = app, token, refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a login page or 401."""
        if scope["type"] != "http" or scope["path"] in _OPEN or self._knows(HTTPConnection(scope)):
            await self._app(scope, receive, send)
            return
        wants_page = scope["path"] == "/" and scope["method"] == "GET"
        answer: Response = (
            HTMLResponse(asset("login.html"), 401, HEADERS)
            if wants_page
            else PlainTextResponse("a login is required\n", 401, HEADERS | {"WWW-Authenticate": "Bearer"})
        )
        await answer(scope, receive, send)

    def _knows(self, request: HTTPConnection) -> bool:
        kind, _, shown = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and is_token(shown, self._token):
            return True
        if is_token(request.cookies.get(COOKIE, ""), session_of(self._token)):
            return True
        if shown:  # a cookie may well be that of an earlier run
            self._refusals.add(request)
        return False


def why_refused(request: Request, token: str, refusals: Refusals) -> str:
    """Why a request that asks for something is not taken; "" where it is."""
    foreign = why_foreign(request.headers)
    if foreign:
        return foreign
    if request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        return "a control is asked for in application/json"
    shown = request.headers.get(HEADER, "")
    if not is_token(shown, token):
        if shown:
            refusals.add(request)
        return "the token is wrong or missing"
    return ""


def why_foreign(headers: Headers) -> str:
    """Why a request is not from a page of ours; "" where it is."""
    if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return FOREIGN
    scheme, _, host = headers.get("Origin", "").partition("://")
    if scheme not in ("http", "https") or host != headers.get("Host"):
        return "the Origin is not this page's"
    return ""


def _is_foreign(path: str, headers: Headers) -> bool:
    """Whether a browser fetches for a page of another site, shows inside one, or is led by one to what is no page."""
    if headers.get("Sec-Fetch-Site") not in ("cross-site", "same-site"):
        return False
    led = (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest", "document")) == (
        "navigate",
        "document",
    )
    return not led or path not in _PAGES


async def read_body(request: Request) -> bytes:
    """A body of at most BODY bytes; ValueError where it is longer."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY:
            raise ValueError("the request is too long")
    return body


async def log_in(request: Request, token: str, refusals: Refusals) -> Response:
    """Answer a login form: a cookie for who shows the token."""
    shown = "" if why_foreign(request.headers) else await _token_in(request)
    if is_token(shown, token):
        answer = RedirectResponse("/", 303, HEADERS)
        answer.set_cookie(COOKIE, session_of(token), httponly=True, samesite="strict", path="/")
        return answer
    if shown:
        refusals.add(request)
    return HTMLResponse(asset("login.html").replace("<!--problem-->", "That is not the token."), 403, HEADERS)


async def _token_in(request: Request) -> str:
    """What a login form shows as the token; "" where it shows none."""
    try:
        name, _, shown = (await read_body(request)).decode("ascii").strip().partition("=")
    except ValueError:
        return ""
    return shown.strip() if name == "token" else ""
