"""The load: a fixed number of requests over a fixed number of connections, as fast as they are answered or at a rate.

Runs in a process of its own (`Load.run` sends it there), makes and signs all requests beforehand, and counts only
requests that were answered as expected; any other answer ends the run with an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Literal, cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from tests.bench.shop import order_hook
from tests.hooks import signed

CONNECTIONS = 64
SECONDS = 120
"""A run that takes longer has failed."""


class Hooks(msgspec.Struct, frozen=True):
    """Signed hooks of one order each, all different."""

    path: str
    first: int
    count: int
    status: Literal[202] = 202

    def requests(self) -> Iterator[bytes]:
        for number in range(self.first, self.first + self.count):
            body = order_hook(number)
            headers = "".join(f"{name}: {value}\r\n" for name, value in signed(body).items())
            head = f"POST {self.path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
            yield head.encode() + body


class Lookups(msgspec.Struct, frozen=True):
    """Questions after orders that are there."""

    path: str
    orders: list[tuple[str, str]]
    """Code and phone of each."""
    count: int
    status: Literal[200] = 200

    def requests(self) -> Iterator[bytes]:
        for number in range(self.count):
            code, phone = self.orders[number % len(self.orders)]
            yield f"GET {self.path}/{code}?phone={phone} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()


Load = Hooks | Lookups


class Outcome(msgspec.Struct, frozen=True):
    """What a run measured."""

    per_second: float
    p50_ms: float
    p99_ms: float


def run(address: str, load: Load, *, per_second: float | None = None) -> Outcome:
    """Put the load on the server from another process; return what it measured.

    At a rate each request has its time, and counts from then, whether or not those before it were answered.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as elsewhere:
        return elsewhere.submit(_run_here, address, load, per_second).result(timeout=SECONDS * 2)


def _run_here(address: str, load: Load, per_second: float | None) -> Outcome:
    return uvloop.run(_drive(address, load, per_second))


async def _drive(address: str, load: Load, per_second: float | None) -> Outcome:
    requests = list(load.requests())
    took: list[float] = []
    target = urlsplit(address)
    loop = asyncio.get_running_loop()
    pending = _timed(requests, per_second)
    clients = [_Client(pending, took, load.status) for _ in range(CONNECTIONS)]
    for client in clients:
        await loop.create_connection(partial(_itself, client), str(target.hostname), target.port or 80)
    started = time.perf_counter()
    for client in clients:
        client.send()
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(client.finished for client in clients))
    elapsed = time.perf_counter() - started
    took.sort()
    return Outcome(len(took) / elapsed, took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000)


def _timed(requests: list[bytes], per_second: float | None) -> Iterator[tuple[bytes, float]]:
    """Yield each request with its time; 0: at once."""
    started = 0.0
    for number, request in enumerate(requests):
        started = started or time.perf_counter()
        yield request, started + number / per_second if per_second else 0.0


class _Client(asyncio.Protocol):
    """One connection: sends the next request when the answer to the last one is complete, and not before its time."""

    def __init__(self, pending: Iterator[tuple[bytes, float]], took: list[float], status: int) -> None:
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending = pending
        self._took = took
        self._expected = f"HTTP/1.1 {status} ".encode()
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def send(self) -> None:
        request, at = next(self._pending, (None, 0.0))
        now = time.perf_counter()
        self._sent_at = at or now
        if request is None:
            self._transport.close()
            self.finished.set_result(None)
        elif at > now:
            asyncio.get_running_loop().call_later(at - now, self._transport.write, request)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < content_length(head):
            return
        self._received = b""
        if not head.startswith(self._expected):
            self._fail(f"answered {head[:40]!r} {body[:300]!r}")
            return
        self._took.append(time.perf_counter() - self._sent_at)
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self._fail(f"connection lost: {exc}")

    def _fail(self, reason: str) -> None:
        self.finished.set_exception(RuntimeError(f"the server {reason}"))
        self._transport.abort()


def _itself(client: _Client) -> _Client:
    return client


def content_length(head: bytes) -> int:
    """Return how long the body of an answer with this head is."""
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
