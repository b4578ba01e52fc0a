"""The API as a server: one process, one loop, HTTP/1.1 by uvicorn.

It listens before it says so, and keeps no access log: addresses hold customers' phone numbers. Told to stop, it turns
nobody away: it takes no new connections, answers what is in hand and what still comes over connections that are open,
and ends each of them with an answer that says so (`Connection: close`). Answers that never end by themselves have to
look: `app.state.stopping` is set then. docs/decisions/0022 says why it is done so.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from litestar import Litestar
from litestar.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.app import create_app
from api.edge.connections import bounded
from api.sockets import BACKLOG, address_of, listening_socket
from sync.garbage import spare_what_is_loaded
from sync.settings import Settings

LINGER_SECONDS = 3.0
"""Told to stop, we wait so long for the next request of a connection that is open, so that none meets a closed door."""

GRACE_SECONDS = 12
"""Requests in hand that are not done by then are cut off."""

IDLE_SECONDS = 30


async def serve(settings: Settings, *, stop: asyncio.Event, listening: Callable[[str], None]) -> None:
    """Run the API until `stop` is set. `listening` is called once, with its address, when it takes requests.

    Raises:
        SettingsError: the address cannot be used, or an active integration lacks its secrets.
    """
    await serve_app(create_app(settings), settings.host, settings.port, stop=stop, listening=listening)


async def serve_app(
    app: Litestar, host: str, port: int, *, stop: asyncio.Event, listening: Callable[[str], None]
) -> None:
    """Run any app in the same way."""
    app.state["stopping"] = stop
    with listening_socket(host, port) as bound:
        async with _opened(app):
            spare_what_is_loaded()
            server = _Server(_config(app, stop), stop=stop, listening=lambda: listening(address_of(bound)))
            await server.serve(sockets=[bound])


class _Server(uvicorn.Server):
    """Uvicorn that says when it listens, ends in order, and leaves the signals to whoever runs the process."""

    def __init__(self, config: uvicorn.Config, *, stop: asyncio.Event, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

    async def main_loop(self) -> None:
        ending = asyncio.create_task(self._end())
        try:
            await super().main_loop()
        finally:
            ending.cancel()

    async def _end(self) -> None:
        """Once told to stop, let every connection end with an answer; then let uvicorn close the rest."""
        await self._stop.wait()
        for listener in self.servers:
            listener.close()
        for connection in self.server_state.connections:
            if isinstance(connection, HttpToolsProtocol) and connection.cycle:
                connection.cycle.keep_alive = False  # even if its answer has begun, as a stream's has
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self.server_state.connections:  # noqa: ASYNC110 - uvicorn tells nobody
                    await asyncio.sleep(0.02)
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _opened(app: Litestar) -> AsyncIterator[None]:
    try:
        async with app.lifespan():
            yield
    except ExceptionGroup as group:  # Litestar opens an app inside a task group
        raise group.exceptions[0] from None


def _config(app: Litestar, stop: asyncio.Event) -> uvicorn.Config:
    return uvicorn.Config(
        _closing(app, stop),
        interface="asgi3",
        http=bounded(app.state["max_connections"]),
        ws="none",
        lifespan="off",  # `serve` runs it, so that what goes wrong reaches the caller
        log_config=None,
        log_level="error",  # what is no HTTP is answered, and anybody may send it
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _closing(app: Litestar, stop: asyncio.Event) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the app, with answers that end their connection once `stop` is set."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if stop.is_set() and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await app(scope, receive, answer)

    return serve
