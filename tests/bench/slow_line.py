"""`python -m tests.bench.slow_line DSN`: a line to a database on which each way takes 2.5 ms, and nothing is lost.

Prints the database's address through it. As wide as you like: it delays, and never holds back what is due.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import uvloop

ONE_WAY_SECONDS = 0.0025


class _End(asyncio.Protocol):
    """One end of a connection: what arrives here leaves at the other end, later."""

    def __init__(self) -> None:
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self._under_way: deque[tuple[float, bytes | None]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._send(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._send(None)

    def _send(self, data: bytes | None) -> None:
        due = asyncio.get_running_loop().time() + ONE_WAY_SECONDS
        self._under_way.append((due, data))
        if len(self._under_way) == 1:
            self._wait()

    def _wait(self) -> None:
        asyncio.get_running_loop().call_at(self._under_way[0][0], self._arrive)

    def _arrive(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._under_way and self._under_way[0][0] <= now:
            _, data = self._under_way.popleft()
            if self.other and self.other.transport:
                self.other.transport.write(data) if data is not None else self.other.transport.close()
        if self._under_way:
            self._wait()


class _Entrance(_End):
    """Where clients connect."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._host, self._port = host, port
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        cast(asyncio.Transport, transport).pause_reading()  # what arrived before there is another end would be lost
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        exit_ = _End()
        exit_.other = self
        await asyncio.get_running_loop().create_connection(lambda: exit_, self._host, self._port)
        self.other = exit_
        if self.transport is not None:
            self.transport.resume_reading()


@contextmanager
def slow_line(dsn: str) -> Iterator[str]:
    """Open a line in a process of its own; give the database's address through it."""
    command = [sys.executable, "-m", "tests.bench.slow_line", dsn]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child.stdout.readline().strip()
        finally:
            child.terminate()


async def _serve(dsn: str) -> None:
    target = urlsplit(dsn)
    host, port = str(target.hostname), target.port or 5432
    server = await asyncio.get_running_loop().create_server(lambda: _Entrance(host, port), "127.0.0.1", 0)
    login, _, _ = target.netloc.rpartition("@")
    here = f"{login}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    sys.stdout.write(urlunsplit(target._replace(netloc=here)) + "\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
