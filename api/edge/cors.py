"""CORS: which sites' scripts may read what customers are told. Each store says so itself, in `stores.allowed_origins`.

A request that names its store (`?store=`) is answered for that store's sites, any other for those of all stores: its
body may name the store, which a preflight does not see. Nothing here goes by cookies, so credentials are never allowed.
"""

from http import HTTPStatus
from urllib.parse import parse_qs

from litestar.types import Send

from api.edge.headers import RawHeaders
from api.stores import Store, Stores
from sync.errors import SyncError

PATHS = ("/orders/", "/otp/")
"""What storefronts call. Hooks, health and metrics are no business of browsers."""

METHODS = b"GET, POST"
REQUEST_HEADERS = b"authorization, content-type, if-none-match, last-event-id, traceparent, x-request-id"
EXPOSED = b"etag, ratelimit, ratelimit-policy, retry-after, x-request-id"
MAX_AGE_SECONDS = 600

VARY = (b"vary", b"Origin")


class Cors:
    """What browsers are told of other sites."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def concerns(self, path: str) -> bool:
        """Tell whether a path is one that other sites may call."""
        return path.startswith(PATHS)

    async def headers(self, origin: bytes | None, query: bytes) -> RawHeaders:
        """Return what an answer to a script of `origin` says."""
        if origin is None or not await self._is_allowed(origin.decode("latin-1"), query):
            return [VARY]
        return [VARY, (b"access-control-allow-origin", origin), (b"access-control-expose-headers", EXPOSED)]

    async def answer_preflight(self, origin: bytes, query: bytes, send: Send) -> None:
        """Say whether a script of `origin` may send what it asks to send."""
        headers = await self.headers(origin, query)
        if len(headers) > 1:
            headers = [
                *headers[:2],
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", REQUEST_HEADERS),
                (b"access-control-max-age", str(MAX_AGE_SECONDS).encode()),
            ]
        headers = [*headers, (b"vary", b"Access-Control-Request-Method, Access-Control-Request-Headers")]
        await send({"type": "http.response.start", "status": HTTPStatus.NO_CONTENT, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _is_allowed(self, origin: str, query: bytes) -> bool:
        try:
            stores = await self._named(query)
        except SyncError:  # it cannot be known now, and the request itself will say so
            return False
        return any(origin in store.allowed_origins for store in stores)

    async def _named(self, query: bytes) -> list[Store]:
        named = parse_qs(query.decode("latin-1")).get("store") if b"store=" in query else None
        if not named:
            return await self._stores.all()
        store = await self._stores.find(named[0])
        return [store] if store else []
