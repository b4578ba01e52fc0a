"""A shop of any size, made by the database itself in a few minutes at the most: what `large_shop.sql` describes."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from sync.migrate import migrate
from tests.postgres import TestServer

SCRIPT = Path(__file__).with_suffix(".sql")


async def make_large_shop(server: TestServer, database: str, orders: int) -> None:
    """Migrate an empty database and fill it with so many orders and all that belongs to them."""
    await migrate(server.owner(database), superuser_dsn=server.superuser(database))
    connection = await asyncpg.connect(server.superuser(database))
    try:
        await connection.fetchval("select set_config('bench.orders', $1, false)", str(orders))
        await connection.execute(SCRIPT.read_text())
        await connection.execute("vacuum (analyze)")
    finally:
        await connection.close()
