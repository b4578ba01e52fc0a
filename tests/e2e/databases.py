"""Reaching a database by its DSN: libpq variables for other processes, and single statements."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote, urlsplit

import asyncpg


def libpq_environment(dsn: str) -> dict[str, str]:
    """The variables that lead a process to a database."""
    parts = urlsplit(dsn)
    found = {
        "PGHOST": parts.hostname,
        "PGPORT": str(parts.port or 5432),
        "PGUSER": parts.username,
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.removeprefix("/"),
    }
    return {name: value for name, value in found.items() if value}


def fetch(dsn: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Run one statement on a connection of its own: the script is in no hurry."""
    return asyncio.run(_fetch(dsn, statement, arguments))


async def _fetch(dsn: str, statement: str, arguments: tuple[object, ...]) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement, *arguments)
    finally:
        await connection.close()
