"""Server-sent events: the state of an order, and again whenever it changes
(https://html.spec.whatwg.org/multipage/server-sent-events.html).

An event's id is the order's version. Whoever comes back with the present one as `Last-Event-ID` is told nothing anew,
with any other the present state. A stream ends when its proof expires, the order is gone, it has lasted long, or the
process ends; the browser then comes back by itself, to whoever serves by then.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import structlog
from litestar.types import Receive, Scope, Send

from api.errors import TooManyStreamsError
from api.tracking.orders import Asked, Found
from api.tracking.told import TrackedOrder
from api.tracking.watch import Watch, Watcher

log = structlog.get_logger()

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_SECONDS = 15.0
"""A comment, so that nothing on the way takes the connection for a dead one, and a dead one is noticed."""

LIFE_SECONDS = 30 * 60.0
COME_BACK_SECONDS = (2.0, 6.0)
"""Who is cut off comes back after a time from this range, chosen by chance: not all at once."""

OF_ORDER = 20
"""So many may watch one order."""

HEADERS = [
    (b"content-type", MEDIA_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]
HEARTBEAT = b":\n\n"

_encoder = msgspec.json.Encoder()


class Client(msgspec.Struct, frozen=True):
    """Who watches."""

    address: str
    """As limits count it."""
    version: str | None
    """What it has been told before."""


class Streams:
    """Counts who watches: so many for an address, so many in all."""

    def __init__(self, watch: Watch, *, total: int, of_client: int) -> None:
        self._watch = watch
        self._total = total
        self._of_client = of_client
        self._open = 0
        self._counts: Counter[str] = Counter()

    def stream(self, asked: Asked, found: Found, client: Client, stopping: asyncio.Event) -> "Stream":
        """Return an answer that goes on, until `stopping` is set at the latest."""
        return Stream(self, asked, found, client, stopping)

    @contextmanager
    def watching(self, stream: "Stream") -> Iterator[Watcher]:
        """Watch, if that is not too much; raise TooManyStreamsError if it is."""
        client = stream.client.address
        limits = {client: self._of_client, f"order {stream.found.order_id}": OF_ORDER}
        if self._open >= self._total or any(self._counts[who] >= limit for who, limit in limits.items()):
            log.warning("tracking.too_many_streams", open=self._open, of_client=self._counts[client])
            raise TooManyStreamsError
        self._open += 1
        self._counts.update(limits.keys())
        try:
            with self._watch.watching(stream.asked, stream.found, stream.stopping) as watcher:
                yield watcher
        finally:
            self._open -= 1
            self._counts.subtract(limits.keys())
            self._counts += Counter()  # forget those who have none


class Stream:
    """An ASGI application: one answer."""

    def __init__(self, streams: Streams, asked: Asked, found: Found, client: Client, stopping: asyncio.Event) -> None:
        self.asked = asked
        self.found = found
        self.client = client
        self.stopping = stopping
        self._streams = streams

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        with self._streams.watching(self) as watcher:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            ending = asyncio.get_running_loop().call_later(self._life(), watcher.end)
            leaving = asyncio.create_task(_gone(receive))
            leaving.add_done_callback(lambda _: watcher.end())
            try:
                await self._tell(watcher, send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                ending.cancel()
                leaving.cancel()

    def _life(self) -> float:
        """Return for how many seconds it may go on."""
        left = LIFE_SECONDS if self.asked.until is None else self.asked.until - time.time()
        return max(0.0, min(left, LIFE_SECONDS * random.uniform(0.8, 1)))  # noqa: S311 - no secret

    async def _tell(self, watcher: Watcher, send: Send) -> None:
        """Send the state whenever it is another one, and a heartbeat when it stays."""
        told = self.client.version
        come_back = random.uniform(*COME_BACK_SECONDS) * 1000  # noqa: S311 - no secret
        message = b"retry: %d\n\n" % come_back
        while True:
            watcher.changed.clear()
            order = watcher.found.order
            if order.version != told:
                message += event(order)
                told = order.version
            await send({"type": "http.response.body", "body": message, "more_body": True})
            if watcher.is_over:
                return
            message = b""
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await watcher.changed.wait()
            if watcher.is_over:
                return
            if watcher.found.order.version == told:
                message = HEARTBEAT


def event(order: TrackedOrder) -> bytes:
    """Return the event that tells of an order: one line of JSON."""
    return b"id: %s\ndata: %s\n\n" % (order.version.encode(), _encoder.encode(order))


async def _gone(receive: Receive) -> None:
    """Wait until the client goes away."""
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await receive()
