"""The simulated Admin API as an HTTP server on this machine, with faults.

`python -m sync.storm.server --orders N [--port P] [--faults light]` serves a shop of N orders, made from their numbers
on demand, until SIGTERM. It prints one line when it listens: `Listening at http://127.0.0.1:…/admin-api`; the API key
is `storm-key`. Whoever has a shop of their own uses `AdminApiServer`.
"""

import argparse
import asyncio
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import uvicorn

from sync.processes import stop_with_parent
from sync.storm.admin_api import AdminApi, Answer, Shop
from sync.storm.faults import LEVELS, ApiFaults
from sync.storm.large_shop import LargeShop

PATH = "/admin-api"
SLOW_SECONDS = 1.0
SESSION_SECONDS = 5.0
"""All sessions end no more often: who has just logged in is let in."""
DEAD_SECONDS = (1.0, 5.0)
MOST_RETRY_AFTER = 2
"""Seconds: a shop that has enough for now says so in whole ones."""


class AdminApiServer:
    """Serves a shop at `url` while `run` runs; counts in `thrown` which faults it really produced."""

    def __init__(self, shop: Shop, faults: ApiFaults, *, seed: object = 0, port: int = 0) -> None:
        self.faults = faults
        self.thrown: Counter[str] = Counter()
        self._api = AdminApi(shop)
        self._choice = random.Random(f"{seed} api")  # noqa: S311 - no secret
        with bound_at(port) as probe:
            self._port: int = probe.getsockname()[1]
        self._server: LoopbackServer | None = None
        self._signed_out_at = 0.0

    @property
    def url(self) -> str:
        """Where the mirror reaches it."""
        return f"http://127.0.0.1:{self._port}{PATH}"

    async def run(self) -> None:
        """Serve, die and come back, until cancelled."""
        try:
            while True:
                await self._live()
                self.thrown["api: died"] += 1
                await asyncio.sleep(self._choice.uniform(*DEAD_SECONDS))
        finally:
            if self._server:
                self._server.drop()

    async def listening(self) -> None:
        """Wait until it answers."""
        while not (self._server and self._server.started):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Answer a request, or fail to, as an ASGI application."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        await self._send(send, await self._answer(headers, body))

    async def _answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        if self._is("slow"):
            await asyncio.sleep(self._choice.uniform(0, SLOW_SECONDS))
        if time.monotonic() > self._signed_out_at + SESSION_SECONDS and self._is("signed_out"):
            self._api.end_sessions()
            self._signed_out_at = time.monotonic()
        if self._is("busy"):
            retry_after = str(self._choice.randint(1, MOST_RETRY_AFTER))
            return Answer(b"Too many requests", 429, {"retry-after": retry_after})
        if self._is("unavailable"):
            return Answer(b"Service unavailable", 503)
        answer = self._api.answer(headers, body)
        if self._is("truncated"):
            return msgspec.structs.replace(answer, body=answer.body[: self._choice.randrange(len(answer.body))])
        return answer

    async def _send(self, send: Any, answer: Answer) -> None:
        headers = {"content-type": "application/json", "content-length": str(len(answer.body)), **answer.headers}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        if self._is("broken_off"):
            # Not all of it, and no more to come: uvicorn closes the connection.
            await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
            return
        await send({"type": "http.response.body", "body": answer.body})

    def _is(self, fault: str) -> bool:
        """Tell whether a fault befalls this answer."""
        befalls: bool = self._choice.random() < getattr(self.faults, fault)
        self.thrown[f"api: {fault}"] += befalls
        return befalls

    async def _live(self) -> None:
        """Serve for a lifetime."""
        with bound_at(self._port) as bound:
            self._server = LoopbackServer(self)
            serving = asyncio.create_task(self._server.serve(sockets=[bound]))
            try:
                await asyncio.wait({serving, dying := asyncio.create_task(self._age())}, return_when="FIRST_COMPLETED")
                dying.cancel()
            finally:
                self._server.drop()
                await serving

    async def _age(self) -> None:
        """Return when this life is over. The faults are looked at anew each second: a storm abates."""
        is_over = False
        while not is_over:
            await asyncio.sleep(1)
            is_over = self._choice.random() < self.faults.deaths_per_minute / 60


class LoopbackServer(uvicorn.Server):
    """Uvicorn that leaves the signals to its process, and can be dropped dead."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # an answer that is broken off on purpose is an error to uvicorn
                access_log=False,
            )
        )

    def drop(self) -> None:
        """Close every connection, whatever is under way."""
        self.should_exit = self.force_exit = True
        for connection in list(self.server_state.connections):
            if transport := getattr(connection, "transport", None):
                transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def bound_at(port: int) -> Iterator[socket.socket]:
    """Listen on this machine while this lasts; port 0 takes a free one."""
    with socket.create_server(("127.0.0.1", port), backlog=2048) as bound:
        yield bound


async def _serve_large_shop(orders: int, port: int, faults: ApiFaults) -> None:
    server = AdminApiServer(LargeShop(orders), faults, port=port)
    running = asyncio.create_task(server.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    await server.listening()
    sys.stdout.write(f"Listening at {server.url}\n")
    sys.stdout.flush()
    with suppress(asyncio.CancelledError):
        await running


def main() -> None:
    """Serve a large shop."""
    parser = argparse.ArgumentParser(prog="python -m sync.storm.server", description=__doc__)
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--faults", choices=LEVELS, default="none")
    given = parser.parse_args()
    stop_with_parent()
    asyncio.run(_serve_large_shop(given.orders, given.port, LEVELS[given.faults].api))


if __name__ == "__main__":
    main()
