"""A mirror without its processes: takes events into the inbox of a database and drains them, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from sync import inbox
from sync.database import Database
from sync.drain import Counts, Drain
from sync.engines.base import Event
from tests.factory import Document, received

INTEGRATION = "select id from mirror.integrations where slug = 'vendure'"


class Mirror:
    """The inbox and the drain over one database, and a connection to look at the tables."""

    def __init__(self, database: Database, connection: asyncpg.Connection, integration: UUID) -> None:
        self.database = database
        self.connection = connection
        self.integration = integration

    @classmethod
    async def over(cls, database: Database, connection: asyncpg.Connection) -> Mirror:
        return cls(database, connection, await connection.fetchval(INTEGRATION))

    async def accept(self, *events: Document) -> list[bool]:
        """Store events, as one hook brings them."""
        return await self.accept_read(received(*events))

    async def accept_read(self, events: Sequence[Event]) -> list[bool]:
        return await inbox.accept(self.database, [(self.integration, event) for event in events])

    async def take(self, *events: Document) -> Counts:
        """Store events and apply them, in one slice."""
        await self.accept(*events)
        return await self.drain().run()

    async def take_in_turn(self, *events: Document) -> None:
        """Store and apply one event after the other."""
        for event in events:
            await self.take(event)

    def drain(self, *, slice_size: int = 500, lease: float = 60) -> Drain:
        return Drain(self.database, slice_size=slice_size, lease=timedelta(seconds=lease))

    async def row(self, table: str, source_id: str) -> asyncpg.Record:
        """Return the row of an engine's entity."""
        rows = await self.connection.fetch(f"select * from public.{table} where source_id = $1", source_id)
        (row,) = rows
        return row

    async def customer(self, source_id: str) -> asyncpg.Record:
        return await self.row("customers", source_id)

    async def order(self, source_id: str) -> asyncpg.Record:
        return await self.row("customer_orders_summary", source_id)

    async def column(self, query: str, *arguments: Any) -> list[Any]:
        """Return the values of a query's first column."""
        return [row[0] for row in await self.connection.fetch(query, *arguments)]

    async def events(self, column: str = "state") -> list[Any]:
        """Return a column of the inbox, in the order of the events' ids."""
        return await self.column(f"select {column} from mirror.webhook_events order by event_id")
