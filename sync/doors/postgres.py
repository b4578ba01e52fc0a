"""The door that speaks Postgres' own protocol: a pool of asyncpg.

It works through a transaction pooler, too (Supavisor on port 6543, PgBouncer): there it prepares nothing that outlives
a transaction.
"""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import structlog

from sync.doors.base import Heard, Row, translated
from sync.errors import Reject, Retry

log = structlog.get_logger()

TRANSACTION_POOLER_PORT = 6543
SESSION_POOLER_HOST = ".pooler.supabase.com"
"""Supabase's pooler: on this port it pools by transaction, on any other by session
(https://supabase.com/docs/guides/database/connecting-to-postgres)."""

FAULTS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises; the last when a connection is cut at an awkward moment: "cannot switch to state …"."""

CONNECT_SECONDS = 10
CALL_SECONDS = 60
"""A call that takes longer is given up, and may be tried again."""


class _Connection(asyncpg.Connection):
    """A connection that is not reset between calls: our functions leave no session state behind."""

    def get_reset_query(self) -> str:
        return ""


class PostgresDoor:
    """A pool of connections, opened at the first call. Safe to use from many tasks."""

    def __init__(self, dsn: str, *, connections: int) -> None:
        self._dsn = dsn
        self._connections = connections
        self._is_pooled = False
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def value(self, function: str, arguments: dict[str, Any]) -> Any:
        rows = await self._fetch(f"select {_call(function, arguments)}", arguments)
        return rows[0][0]

    async def rows(self, function: str, arguments: dict[str, Any]) -> list[Row]:
        return await self._fetch(f"select * from {_call(function, arguments)}", arguments)  # noqa: S608

    async def hears(self) -> bool:
        """Tell whether this is no transaction pooler: through one no notification arrives."""
        await self._opened()
        return not self._is_pooled

    async def listen(self, channel: str, heard: Heard) -> None:
        """Tell of notifications. Where none arrives it only waits."""
        if not await self.hears():
            await asyncio.Event().wait()
        try:
            connection = await asyncpg.connect(self._dsn, statement_cache_size=0)
        except FAULTS as error:
            raise _translated(error) from error
        ended = asyncio.Event()

        def notified(_connection: object, _pid: int, _channel: str, told: object) -> None:
            heard(str(told))

        connection.add_termination_listener(lambda _: ended.set())
        try:
            await connection.add_listener(channel, notified)
            heard("")
            await ended.wait()
        except FAULTS as error:
            raise _translated(error) from error
        finally:
            connection.terminate()
        raise Retry("the connection that listens for notifications ended")

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def _fetch(self, query: str, arguments: dict[str, Any]) -> list[Any]:
        try:
            return await self._fetch_once(query, arguments)
        except FAULTS as error:
            raise _translated(error) from error

    async def _fetch_once(self, query: str, arguments: dict[str, Any]) -> list[asyncpg.Record]:
        pool = await self._opened()
        async with pool.acquire() as connection:
            try:
                if not self._is_pooled:
                    return await connection.fetch(query, *arguments.values())
                # Parse and execute reach the same server only within a transaction.
                async with connection.transaction():
                    return await connection.fetch(query, *arguments.values())
            except (asyncio.CancelledError, TimeoutError):
                connection.terminate()  # it may never answer, and to be cleaned up for the next call it would have to
                raise

    async def _opened(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._opening:
            if self._pool is None:
                try:
                    self._pool = await self._open()
                except FAULTS as error:  # whatever it says, it is of the address, and not of what is to be called
                    raise Retry(_translated(error).reason) from error
            return self._pool

    async def _open(self) -> "asyncpg.Pool[asyncpg.Record]":
        self._is_pooled = await _is_transaction_pooler(self._dsn)
        return await asyncpg.create_pool(
            self._dsn,
            min_size=1,
            max_size=self._connections,
            connection_class=_Connection,
            statement_cache_size=0 if self._is_pooled else 100,
            server_settings={"application_name": "commerce-mirror", "timezone": "UTC"},
            timeout=CONNECT_SECONDS,
            command_timeout=CALL_SECONDS,
        )


async def _is_transaction_pooler(dsn: str) -> bool:
    """Tell whether each transaction may run in another session, so that nothing prepared outlives it.

    A pooler gives itself away: the process it names at login is not the one that answers.
    """
    address = urlsplit(dsn)
    if address.port == TRANSACTION_POOLER_PORT:
        return True
    if (address.hostname or "").endswith(SESSION_POOLER_HOST):
        return False
    connection = await asyncpg.connect(dsn, statement_cache_size=0, timeout=CONNECT_SECONDS)
    try:
        async with connection.transaction():
            is_pooler: bool = await connection.fetchval("select pg_backend_pid()") != connection.get_server_pid()
    finally:
        connection.terminate()
    if is_pooler:
        log.info("database.pooler", action="nothing is prepared; daemon and API look for what is new")
    return is_pooler


def _call(function: str, arguments: dict[str, Any]) -> str:
    placeholders = ", ".join(f"{name} => ${i}" for i, name in enumerate(arguments, 1))
    return f"mirror.{function}({placeholders})"


def _translated(error: Exception) -> Retry | Reject:
    """Say what to do about an error of asyncpg."""
    if not isinstance(error, asyncpg.PostgresError):
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return Retry(f"the database cannot be reached: {why}")
    found = translated(
        error.sqlstate or "XX000",
        str(error.args[0] if error.args else type(error).__name__),
        constraint=error.constraint_name,
    )
    # A password that is refused says nothing about the arguments.
    return Retry(found.reason) if isinstance(error, asyncpg.InvalidPasswordError) else found
