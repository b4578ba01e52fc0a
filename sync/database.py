"""The database, to everyone who asks something of it: call a SQL function.

Every rule is a function in the schema `mirror`; Python calls it with named arguments and gets a value. A call
is a transaction of its own. What goes wrong comes out as one of two errors: `Retry` (the database is away or
busy: the same call may succeed later) or `Reject` (it refused these arguments).

Two doors lead there: Postgres itself, and a Supabase project's Data API. Nobody else knows which.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sync.doors.base import Door, Heard, Row
from sync.doors.postgres import PostgresDoor
from sync.settings import Address

__all__ = ["Database", "Row", "connect"]


class Database:
    """SQL functions, called through one of the doors.

    Open it with `connect`; safe to use from many tasks.
    """

    def __init__(self, address: Address, *, connections: int) -> None:
        self._door = _door(address, connections)

    async def call(self, function: str, **arguments: Any) -> Any:
        """Return the value of `mirror.<function>(name => value, …)`; JSON comes as text."""
        return await self._door.value(function, arguments)

    async def rows(self, function: str, **arguments: Any) -> list[Row]:
        """Return the rows of a function that returns a table."""
        return await self._door.rows(function, arguments)

    async def hears(self) -> bool:
        """Tell whether notifications arrive: not through a transaction pooler, nor through the Data API."""
        return await self._door.hears()

    async def listen(self, channel: str, heard: Heard) -> None:
        """Call `heard` with each notification on `channel` until cancelled; raise Retry if the connection ends.

        It is called with an empty text first, when nothing is missed any more. Where no notification can arrive it is
        never called: poll beside it.
        """
        await self._door.listen(channel, heard)

    async def close(self) -> None:
        """Give all connections back, after the calls in hand."""
        await self._door.close()


@asynccontextmanager
async def connect(address: Address, *, connections: int = 4) -> AsyncIterator[Database]:
    """Open a Database of at most so many connections. It connects at the first call."""
    database = Database(address, connections=connections)
    try:
        yield database
    finally:
        await database.close()


def _door(address: Address, connections: int) -> Door:
    if isinstance(address, str):
        return PostgresDoor(address, connections=connections)
    from sync.doors.rest import RestDoor  # noqa: PLC0415 - half a second and 50 MB, for whoever needs it

    return RestDoor(address, connections=connections)
