"""Realtime where the platform has it; nothing, and no noise, where it has not. (pg_cron: tests/pgtap.)"""

from __future__ import annotations

from urllib.parse import urlsplit

import asyncpg
import pytest

from sync.migrate import migrate, supabase_folder
from tests.postgres import TestServer

FILE = supabase_folder().parent / "sql" / "60_where_it_exists" / "10_realtime_and_cron.sql"
PUBLISHED = "select tablename from pg_publication_tables where pubname = 'supabase_realtime'"


@pytest.fixture
def unpublished(server: TestServer, platform_database: str) -> str:
    """A project without Realtime, and without our schema: its DSN."""
    server.run("drop publication supabase_realtime", database=urlsplit(platform_database).path[1:])
    return platform_database


@pytest.fixture
def all_published(server: TestServer, unpublished: str) -> str:
    """A project whose Realtime publishes every table, and without our schema: its DSN."""
    server.run("create publication supabase_realtime for all tables", database=urlsplit(unpublished).path[1:])
    return unpublished


async def published(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(PUBLISHED)]
    finally:
        await connection.close()


async def test_delivery_status_goes_to_realtime(database: str) -> None:
    assert await published(database) == ["order_delivery_status"]


async def test_without_realtime_it_is_not_missed(unpublished: str) -> None:
    await migrate(unpublished)
    assert await published(unpublished) == []


async def test_a_publication_of_all_tables_has_ours_already(all_published: str) -> None:
    await migrate(all_published)
    assert "order_delivery_status" in await published(all_published)


async def test_where_nothing_of_it_exists_there_is_no_noise(unpublished: str) -> None:
    await migrate(unpublished)
    connection = await asyncpg.connect(unpublished)
    said: list[str] = []
    connection.add_log_listener(lambda _, message: said.append(message.message))
    await connection.execute(FILE.read_text())
    await connection.close()
    assert said == []
