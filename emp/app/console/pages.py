"""The page: files that stand beside this module and are served as they are."""

from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # with no-referrer a form says the Origin null
    "X-Content-Type-Options": "nosniff",
}

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


@cache
def files() -> dict[str, str]:
    """Every file of the page by name."""
    folder = resources.files(__package__).joinpath("static")
    return {one.name: one.read_text(encoding="utf-8") for one in folder.iterdir() if _kind(one.name)}


def asset(name: str) -> str:
    """The text of one file."""
    return files()[name]


async def index(_: Request) -> Response:
    """Answer with the page."""
    return Response(asset("index.html"), media_type="text/html", headers=HEADERS)


async def static(request: Request) -> Response:
    """Answer with one of its files."""
    name = request.path_params["name"]
    if name not in files():
        return PlainTextResponse("no such file\n", 404, HEADERS)
    return Response(asset(name), media_type=_kind(name), headers=HEADERS)


def _kind(name: str) -> str:
    return _KINDS.get(name.rpartition(".")[2], "")
