"""`GET /schema`: the API's own description, for people. Swagger UI, from a package: nothing comes from elsewhere.

The document itself is `/schema/openapi.json`.
"""

from importlib.resources import files
from typing import Any

from litestar import Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.params import FromPath

from api.edge.headers import HEADERS

ASSETS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "start.js": "text/javascript"}
START = b"""window.onload = () => SwaggerUIBundle({
    url: "/schema/openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null
});
"""
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>commerce-mirror: the API</title>
<link rel="stylesheet" href="/schema/assets/swagger-ui.css">
</head>
<body>
<main id="api"></main>
<script src="/schema/assets/swagger-ui-bundle.js"></script>
<script src="/schema/assets/start.js"></script>
</body>
</html>
"""
POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}
"""Swagger UI writes styles into its elements; scripts come from our files only."""

DAY = {"Cache-Control": "public, max-age=86400"}


class Viewer(OpenAPIRenderPlugin):
    """The page."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the page, which asks for the document itself."""
        return PAGE.encode()


def viewer_router() -> Router:
    """Return where Litestar puts document and page, with the page's files."""
    folder = files("swagger_ui") / "static"

    @get("/assets/{name:str}", include_in_schema=False)
    async def send_asset(name: FromPath[str]) -> Response[bytes]:
        if name not in ASSETS:
            raise NotFoundException
        content = START if name == "start.js" else (folder / name).read_bytes()
        return Response(content, media_type=ASSETS[name], headers=DAY)

    return Router("/schema", route_handlers=[send_asset], opt={HEADERS: POLICY}, include_in_schema=False)
