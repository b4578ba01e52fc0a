"""The Supabase CLI works on our project: it shares its history with `mirror migrate`, loads the seed, writes types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from sync.migrate import migrate, migrations, pending, supabase_folder
from tests.database.catalog import describe
from tests.e2e.supabase_cli import copy_project, supabase
from tests.postgres import TestServer, apply_platform

HISTORY = "select * from supabase_migrations.schema_migrations order by version"
TYPED = """
    select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')
    union select typname from pg_type where typnamespace = 'public'::regnamespace and typtype = 'e'
    union select proname from pg_proc where pronamespace = 'public'::regnamespace
"""
LINT = ("db", "advisors", "--type", "all", "--level", "warn", "--fail-on", "warn")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path)


@pytest.fixture
def second_database(server: TestServer) -> Iterator[str]:
    name = server.create()
    apply_platform(server, name)
    yield server.owner(name)
    server.drop(name)


async def history(dsn: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(HISTORY))
    finally:
        await connection.close()


async def test_what_the_cli_pushes_is_what_we_apply(
    platform_database: str, second_database: str, project: Path
) -> None:
    supabase(project, platform_database, "db", "push")
    await migrate(second_database)
    assert await history(platform_database) == await history(second_database)
    assert await describe(platform_database) == await describe(second_database)


async def test_after_the_cli_nothing_is_pending_for_us(platform_database: str, project: Path) -> None:
    supabase(project, platform_database, "db", "push")
    assert await pending(platform_database) == []
    assert (await migrate(platform_database)).migrations == []


async def test_after_us_nothing_is_pending_for_the_cli(platform_database: str, project: Path) -> None:
    await migrate(platform_database)
    assert "up to date" in supabase(project, platform_database, "db", "push")
    listed = supabase(project, platform_database, "migration", "list")
    for migration in migrations(supabase_folder()):
        assert listed.count(f"`{migration.version}`") == 2, "once as local, once as remote"


async def test_supabase_s_advisors_find_nothing(platform_database: str, project: Path) -> None:
    await migrate(platform_database)
    assert "No issues found" in supabase(project, platform_database, *LINT)


async def test_supabase_s_advisors_do_look(platform_database: str, project: Path) -> None:
    connection = await asyncpg.connect(platform_database)
    await connection.execute("create table public.open (id int primary key); grant select on public.open to anon")
    await connection.close()
    with pytest.raises(RuntimeError, match="rls_disabled_in_public"):
        supabase(project, platform_database, *LINT)


async def test_the_cli_loads_the_example_shop(platform_database: str, project: Path) -> None:
    supabase(project, platform_database, "db", "push", "--include-seed")
    connection = await asyncpg.connect(platform_database)
    orders = await connection.fetchval("select count(*) from public.customer_orders_summary")
    await connection.close()
    assert orders == 12


async def test_the_cli_writes_types_of_every_table_view_enum_and_function(
    platform_database: str, project: Path
) -> None:
    await migrate(platform_database)
    types = supabase(project, platform_database, "gen", "types", "--lang=typescript", "--schema=public")
    connection = await asyncpg.connect(platform_database)
    names = [row[0] for row in await connection.fetch(TYPED)]
    await connection.close()
    assert [name for name in names if f'"{name}":' not in types] == []
    stages = '"delivery_stage":"ORDER_CONFIRMED"|"SOURCING"|"ARRIVED"|"DISPATCHED"|"DELIVERED"'
    assert stages in "".join(types.split())
