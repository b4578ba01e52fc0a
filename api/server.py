"""The API as a server: one process, one loop, HTTP/1.1 by uvicorn.

It listens before it says so, serves the requests in hand before it stops, and keeps no access log: addresses hold
customers' phone numbers.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from litestar import Litestar

from api.app import create_app
from api.edge.connections import bounded
from sync.settings import Settings, SettingsError

GRACE_SECONDS = 30
"""Requests in hand that are not done by then are cut off."""

IDLE_SECONDS = 30
BACKLOG = 2048


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
    with _bound(host, port) as bound:
        async with _opened(app):
            server = _Server(_config(app), listening=lambda: listening(_address(bound)))
            async with _stopped_by(stop, server):
                await server.serve(sockets=[bound])


class _Server(uvicorn.Server):
    """Uvicorn that says when it listens, and leaves the signals to whoever runs the process."""

    def __init__(self, config: uvicorn.Config, *, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

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


def _config(app: Litestar) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=bounded(app.state["max_connections"]),
        ws="none",
        lifespan="off",  # `serve` runs it, so that what goes wrong reaches the caller
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"The API cannot listen on {host}, port {port}: {error.strerror}. "
            "Set MIRROR_HOST and MIRROR_PORT to an address of this machine and a free port; port 0 takes any."
        ) from None
    with bound:
        yield bound


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def _stopped_by(stop: asyncio.Event, server: uvicorn.Server) -> AsyncIterator[None]:
    async def watch() -> None:
        await stop.wait()
        server.should_exit = True

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
