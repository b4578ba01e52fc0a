"""A network between the API and Postgres that can fail: go silent on the way back, or break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

CHUNK = 64 * 1024


class Proxy:
    """Passes bytes between clients and a server, until told otherwise."""

    def __init__(self, dsn: str) -> None:
        self._target = dsn
        self._writers: set[asyncio.StreamWriter] = set()
        self._answers = asyncio.Event()
        self._answers.set()
        self._is_cut = False
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def dsn(self) -> str:
        """The database, through this proxy."""
        parts = urlsplit(self._target)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{self._port}", query=""))

    def swallow_answers(self) -> None:
        """From now on nothing comes back from the server; what goes there still arrives."""
        self._answers.clear()

    def strand(self) -> None:
        """Let nothing come back on the connections there are; new ones work."""
        self._answers.clear()
        self._answers = asyncio.Event()
        self._answers.set()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Let new connections through again."""
        self._is_cut = False
        self._answers.set()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if not self._is_cut:
            there, back = await self._connect()
            self._writers.add(back)
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer, self._answers))
        writer.close()

    async def _close(self) -> None:
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self._target)
        if folder := parse_qs(parts.query).get("host"):
            return await asyncio.open_unix_connection(Path(folder[0]) / ".s.PGSQL.5432")
        return await asyncio.open_connection(parts.hostname, parts.port)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event | None = None
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if gate is not None:
                    await gate.wait()
                writer.write(chunk)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxy(dsn: str) -> AsyncIterator[Proxy]:
    """Open a proxy to a database."""
    opened = Proxy(dsn)
    server = await asyncio.start_server(opened._serve, "127.0.0.1", 0)
    opened._port = server.sockets[0].getsockname()[1]
    try:
        yield opened
    finally:
        server.close()
        await opened._close()
