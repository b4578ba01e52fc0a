"""How long an accepted hook waits until its order is there: API, daemon and Postgres at half of what they sustain.

First so many hooks as fast as they are taken, until the last order is there: what is sustained. Then hooks at half of
that rate, each at its time whether or not those before it were answered. A hook counts from its answer until a query,
asked again and again, first sees the order.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from urllib.parse import urlsplit

import asyncpg
import uvloop

from tests.bench import load, routes
from tests.hooks import SECRET

LOOK_SECONDS = 0.005
"""Between two looks: what is measured is at most so much too long."""
SECONDS = 600
SEEN = "select source_id from public.customer_orders_summary where source = 'vendure' and source_id = any($1)"


def measure_lag(dsn: str, address: str, count: int) -> dict[str, float]:
    """Return percentiles of the lag in ms, the rate at which they were measured and the one that is sustained."""
    with _daemon(dsn):
        sustained = _elsewhere(dsn, load.Hooks(routes.REAL_HOOKS, 50_000_000, count), address, None)
        rate = count / max(seen for _, seen in sustained) / 2
        lags = _elsewhere(dsn, load.Hooks(routes.REAL_HOOKS, 60_000_000, count), address, rate)
    waited = sorted(seen - accepted for accepted, seen in lags)
    return {
        "lag_p50_ms": waited[len(waited) // 2] * 1000,
        "lag_p99_ms": waited[len(waited) * 99 // 100] * 1000,
        "lag_at_per_second": rate,
    }


@contextmanager
def _daemon(dsn: str) -> Iterator[None]:
    """Run `mirror work`."""
    environment = {**os.environ, "DATABASE_URL": dsn, "VENDURE_HOOK_SECRETS": SECRET}
    with subprocess.Popen(
        [sys.executable, "-m", "sync", "work"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        try:
            yield
        finally:
            child.terminate()


def _elsewhere(dsn: str, hooks: load.Hooks, address: str, per_second: float | None) -> list[tuple[float, float]]:
    """Send hooks from another process; return when each was accepted and seen, in seconds from the first."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as elsewhere:
        return elsewhere.submit(_run, dsn, hooks, address, per_second).result(timeout=SECONDS * 2)


def _run(dsn: str, hooks: load.Hooks, address: str, per_second: float | None) -> list[tuple[float, float]]:
    return uvloop.run(_drive(dsn, hooks, address, per_second))


async def _drive(dsn: str, hooks: load.Hooks, address: str, per_second: float | None) -> list[tuple[float, float]]:
    requests = list(hooks.requests())
    numbers = [str(number) for number in range(hooks.first, hooks.first + hooks.count)]
    accepted: dict[str, float] = {}
    connection = await asyncpg.connect(dsn)
    senders = [_Sender(accepted) for _ in range(load.CONNECTIONS)]
    target = urlsplit(address)
    for sender in senders:
        connect = asyncio.get_running_loop().create_connection
        await connect(partial(_itself, sender), str(target.hostname), target.port or 80)
    started = time.perf_counter()
    async with asyncio.timeout(SECONDS):
        sending = asyncio.create_task(_send(senders, list(zip(numbers, requests, strict=True)), per_second))
        seen = await _look(connection, accepted, len(numbers), sending)
        await sending
    await connection.close()
    return [(accepted[number] - started, seen[number] - started) for number in numbers]


async def _send(senders: list[_Sender], requests: list[tuple[str, bytes]], per_second: float | None) -> None:
    """Send each request over a connection that is free, as fast as they are answered or at a rate."""
    free: asyncio.Queue[_Sender] = asyncio.Queue()
    for sender in senders:
        sender.free = free
        free.put_nowait(sender)
    started = time.perf_counter()
    for position, (number, request) in enumerate(requests):
        if per_second and (wait := started + position / per_second - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        (await free.get()).send(number, request)
    for _ in senders:
        (await free.get()).close()


async def _look(
    connection: asyncpg.Connection, accepted: dict[str, float], count: int, sending: asyncio.Task[None]
) -> dict[str, float]:
    """Return when each order was first seen."""
    seen: dict[str, float] = {}
    waiting: set[str] = set()
    known = 0
    while len(seen) < count:
        if sending.done():
            sending.result()  # raises what went wrong
        answered = list(accepted)
        waiting.update(answered[known:])
        known = len(answered)
        found = await connection.fetch(SEEN, list(waiting)) if waiting else []
        now = time.perf_counter()
        seen.update({row[0]: now for row in found})
        waiting.difference_update(row[0] for row in found)
        await asyncio.sleep(LOOK_SECONDS)
    return seen


class _Sender(asyncio.Protocol):
    """One connection: sends a request, and is free again when it was accepted."""

    def __init__(self, accepted: dict[str, float]) -> None:
        self.free: asyncio.Queue[_Sender] | None = None
        self._accepted = accepted
        self._received = b""
        self._number = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, number: str, request: bytes) -> None:
        self._number = number
        self._transport.write(request)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < load.content_length(head):
            return
        if not head.startswith(b"HTTP/1.1 202 "):
            raise RuntimeError(f"the server answered {head[:40]!r} {body[:300]!r}")
        self._received = b""
        self._accepted[self._number] = time.perf_counter()
        assert self.free is not None
        self.free.put_nowait(self)


def _itself(sender: _Sender) -> _Sender:
    return sender
