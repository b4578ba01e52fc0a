"""The one door to the database: call a SQL function.

Every rule is a function in the schema `mirror`; Python calls it with named arguments and gets a value. A call
is a transaction of its own. What goes wrong comes out as one of two errors: `Retry` (the database is away or
busy: the same call may succeed later) or `Reject` (it refused these arguments).

Behind it is a pool of asyncpg. It works through a transaction pooler, too (Supavisor on port 6543,
PgBouncer): there it prepares nothing that outlives a transaction.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import structlog

from sync.errors import Await, Reject, Retry

log = structlog.get_logger()

TRANSACTION_POOLER_PORT = 6543
SESSION_POOLER_HOST = ".pooler.supabase.com"
"""Supabase's pooler: on this port it pools by transaction, on any other by session
(https://supabase.com/docs/guides/database/connecting-to-postgres)."""

TRANSIENT_CLASSES = ("08", "25", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that say nothing about the arguments: connection, transaction state, rollback,
resources, not in a state for it, operator intervention, system error, internal error (Postgres, appendix A)."""

ORDER_CODE_INDEX = "customer_orders_summary_order_code"
"""Two orders with one code are a matter of time: the one that had it gave it up, or is deleted, by a later event."""

CONNECT_SECONDS = 10
CALL_SECONDS = 60
"""A call that takes longer is given up, and may be tried again."""


class _Connection(asyncpg.Connection):
    """A connection that is not reset between calls: our functions leave no session state behind."""

    def get_reset_query(self) -> str:
        return ""


class Database:
    """A pool of connections through which SQL functions are called.

    Open it with `connect`; safe to use from many tasks.
    """

    def __init__(self, dsn: str, *, connections: int) -> None:
        self._dsn = dsn
        self._connections = connections
        self._is_pooled = False
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def call(self, function: str, **arguments: Any) -> Any:
        """Return the value of `mirror.<function>(name => value, …)`; JSON comes as text."""
        rows = await self._fetch(f"select {_call(function, arguments)}", arguments)
        return rows[0][0]

    async def rows(self, function: str, **arguments: Any) -> list[asyncpg.Record]:
        """Return the rows of a function that returns a table."""
        return await self._fetch(f"select * from {_call(function, arguments)}", arguments)  # noqa: S608

    async def listen(self, channel: str, wake: asyncio.Event) -> None:
        """Set `wake` at each notification on `channel` until cancelled; raise Retry if the connection ends.

        Through a transaction pooler none arrives: then it only waits.
        """
        try:
            await self._opened()
            if self._is_pooled:
                await asyncio.Event().wait()
            connection = await asyncpg.connect(self._dsn, statement_cache_size=0)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise _translated(error) from error
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        try:
            await connection.add_listener(channel, lambda *_: wake.set())
            wake.set()
            await ended.wait()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise _translated(error) from error
        finally:
            connection.terminate()
        raise Retry("the connection that listens for new events ended")

    async def close(self) -> None:
        """Give all connections back, after the calls in hand."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def _fetch(self, query: str, arguments: dict[str, Any]) -> list[asyncpg.Record]:
        try:
            return await self._fetch_once(query, arguments)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
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
                self._is_pooled = await _is_transaction_pooler(self._dsn)
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=1,
                    max_size=self._connections,
                    connection_class=_Connection,
                    statement_cache_size=0 if self._is_pooled else 100,
                    server_settings={"application_name": "commerce-mirror"},
                    timeout=CONNECT_SECONDS,
                    command_timeout=CALL_SECONDS,
                )
            return self._pool


@asynccontextmanager
async def connect(dsn: str, *, connections: int = 4) -> AsyncIterator[Database]:
    """Open a Database of at most so many connections. It connects at the first call."""
    database = Database(dsn, connections=connections)
    try:
        yield database
    finally:
        await database.close()


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
        log.info("database.pooler", action="nothing is prepared, and the daemon polls")
    return is_pooler


def _call(function: str, arguments: dict[str, Any]) -> str:
    placeholders = ", ".join(f"{name} => ${i}" for i, name in enumerate(arguments, 1))
    return f"mirror.{function}({placeholders})"


def _translated(error: Exception) -> Retry | Reject:
    """Say what to do about an error of asyncpg. Detail lines stay out: they quote the data."""
    if not isinstance(error, asyncpg.PostgresError):
        return Retry(f"the database cannot be reached: {type(error).__name__}")
    if isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == ORDER_CODE_INDEX:
        return Await("another order has this code for now: its own change has not arrived yet")
    state = error.sqlstate or "XX000"
    reason = f"{error.args[0] if error.args else type(error).__name__} (SQLSTATE {state})"
    if state.startswith(TRANSIENT_CLASSES) or isinstance(error, asyncpg.InvalidPasswordError):
        return Retry(reason)
    return Reject(reason)
