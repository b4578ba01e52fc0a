"""What every request passes on its way in, and every answer on its way out; around the whole API, whatever the route.

In: a request gets its id, which is bound to the lines it leaves in the log, and a time by which it must be answered.
Out: the id, the security headers, what CORS allows, how much of a limit is left. It costs microseconds, because hooks
pass it, too: headers are ready-made, and one answer is looked at once.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import msgspec
import structlog
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Send
from structlog.contextvars import bind_contextvars

from api.answers import MEDIA_TYPE, members
from api.edge.cors import Cors
from api.edge.headers import RawHeaders, SecurityHeaders
from api.edge.ids import request_id
from api.edge.slashes import keep_slashes
from api.problems import UNAVAILABLE

log = structlog.get_logger()

ANSWER_SECONDS = 30.0
"""Each route has shorter ones of its own for what it waits for; this is for what nobody has thought of."""

STATE_ID = "request_id"
STATE_HEADERS = "headers"
"""Keys of a request's state: its id, and headers that whatever handles it adds to its answer."""

Observe = Callable[[str, str, int, float], None]
"""Takes an answer's method, route, status (0: there was none) and seconds."""


class Door:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, *, security: SecurityHeaders, cors: Cors, observe: Observe) -> None:
        self._app = app
        self._cors = cors
        self._security = security
        self._observe = observe

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = keep_slashes(scope)
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}  # the server, which keeps its own, leaves the body out
        exchange = _Exchange(scope, send, self._security, is_head=method == "HEAD")
        began = time.perf_counter()
        try:
            if self._cors.concerns(scope["path"]) and await exchange.is_preflight(self._cors):
                return
            await exchange.handle(self._app, receive)
        finally:
            route = scope.get("path_template", "")
            self._observe(method, route, exchange.status, time.perf_counter() - began)


class _Exchange:
    """A request and its answer."""

    __slots__ = ("_id", "_is_head", "_is_late", "_origin", "_scope", "_security", "_send", "_task", "_timer", "status")

    def __init__(self, scope: Any, send: Send, security: SecurityHeaders, *, is_head: bool) -> None:
        given = traceparent = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
            elif name == b"traceparent":
                traceparent = value
        self._scope = scope
        self._send = send
        self._security = security
        self._id = request_id(given, traceparent)
        self._is_head = is_head
        self._is_late = False
        self._timer: asyncio.TimerHandle | None = None
        self._origin: RawHeaders = []
        self.status = 0
        scope["state"][STATE_ID] = self._id
        bind_contextvars(request_id=self._id)

    async def is_preflight(self, cors: Cors) -> bool:
        """Look what the sender's site may do; answer if that is all it asks."""
        headers = dict(self._scope["headers"])
        origin, query = headers.get(b"origin"), self._scope["query_string"]
        if self._scope["method"] == "OPTIONS" and origin and b"access-control-request-method" in headers:
            await cors.answer_preflight(origin, query, self._answer)
            return True
        self._origin = await cors.headers(origin, query)
        return False

    async def handle(self, app: ASGIApp, receive: Receive) -> None:
        """Have the request answered; after ANSWER_SECONDS with 503, if nothing has been said until then."""
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._give_up)
        try:
            await app(self._scope, receive, self._answer)
        except asyncio.CancelledError:
            if not self._is_late:
                raise
            self._task.uncancel()
            log.exception("api.late", route=self._scope.get("path_template", ""), seconds=ANSWER_SECONDS)
            await self._say_unavailable()
        finally:
            self._timer.cancel()

    def _give_up(self) -> None:
        self._is_late = True
        self._task.cancel()

    async def _answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._timer is not None:
                self._timer.cancel()  # what streams takes as long as it takes
            self.status = message["status"]
            message["headers"] = self._headers(message)
            await self._send(message)
            if self._is_head:  # all is said, even if the body would be a stream
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        elif not self._is_head:
            await self._send(message)

    def _headers(self, message: HTTPResponseStartEvent) -> RawHeaders:
        scope = self._scope
        handler = scope.get("route_handler")
        security = self._security.of(handler.opt if handler is not None else None)
        own = list(message["headers"])
        names = {name for name, _ in own}
        own.append((b"x-request-id", self._id.encode()))
        own.extend(header for header in security if header[0] not in names)
        own.extend(self._origin)
        if added := scope["state"].get(STATE_HEADERS):
            own.extend(added)
        return own

    async def _say_unavailable(self) -> None:
        body = msgspec.json.encode(members(UNAVAILABLE))
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in UNAVAILABLE.headers.items()),
        ]
        await self._answer({"type": "http.response.start", "status": UNAVAILABLE.status, "headers": headers})
        await self._answer({"type": "http.response.body", "body": body, "more_body": False})
