"""Supabase Studio's table editor: the very statements that it sends, so that tests edit as an admin does.

Several cells that are saved together are one transaction of one UPDATE per cell, in the order of the edits.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest

APPLICATION = "supabase/dashboard-table-editor"


class Studio:
    """An admin's table editor, as role `postgres`."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def edit(self, table: str, row_id: UUID, **cells: Any) -> asyncpg.Record:
        """Save edited cells of a row, in this order; return the row as the last UPDATE shows it."""
        async with self.connection.transaction():
            rows = [await self._edit_cell(table, row_id, column, value) for column, value in cells.items()]
        return rows[-1]

    async def _edit_cell(self, table: str, row_id: UUID, column: str, value: Any) -> asyncpg.Record:
        (row,) = await self.connection.fetch(
            f'update {_qualified(table)} set ("{column}") = (select "{column}" from json_populate_record('
            f"null::{_qualified(table)}, {_literal({column: value})})) where id = '{row_id}' returning *;"
        )
        return row

    async def insert(self, table: str, **cells: Any) -> asyncpg.Record:
        """Insert a row of which these cells were filled in."""
        columns = ", ".join(f'"{column}"' for column in cells)
        (row,) = await self.connection.fetch(
            f"insert into public.{table} ({columns}) select {columns} from jsonb_populate_recordset("
            f"null::public.{table}, {_literal([cells])}) returning *;"
        )
        return row

    async def delete(self, table: str, *row_ids: UUID) -> None:
        """Delete the rows that were ticked."""
        ids = ", ".join(f"'{row_id}'" for row_id in row_ids)
        await self.connection.execute(f"delete from {_qualified(table)} where id in ({ids});")

    async def delete_all(self, table: str) -> None:
        """Delete all rows, with the box above them ticked and no filter set."""
        await self.connection.execute(f"truncate {_qualified(table)};")

    async def run(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a query in the SQL editor."""
        return list(await self.connection.fetch(query, *arguments))


@asynccontextmanager
async def studio(dsn: str) -> AsyncIterator[Studio]:
    """Open Studio on a database."""
    connection = await asyncpg.connect(dsn, server_settings={"application_name": APPLICATION})
    try:
        yield Studio(connection)
    finally:
        await connection.close()


async def refusal(attempt: Awaitable[object]) -> tuple[str, str | None]:
    """Return the sentence and the hint with which the database refuses."""
    with pytest.raises(asyncpg.PostgresError) as refused:
        await attempt
    return refused.value.args[0], refused.value.hint


def _qualified(table: str) -> str:
    """Return a table with its schema, which Studio lets an admin choose: `public`, unless the name says another."""
    return table if "." in table else f"public.{table}"


def _literal(value: Any) -> str:
    return "'" + json.dumps(value, default=str).replace("'", "''") + "'"
