"""The console: one page that shows what the engine sees, does and why. It reads `/snapshot`, nothing else."""

from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

POLICY = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"


def routes() -> list[BaseRoute]:
    """The page at `/`, for `emp.observe.http.create_app`."""
    page = resources.files(__name__).joinpath("index.html").read_text(encoding="utf-8")

    async def index(_: Request) -> Response:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
        return Response(page, media_type="text/html", headers=headers)

    return [Route("/", index)]
