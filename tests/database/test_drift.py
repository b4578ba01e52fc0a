"""`sql/`, which people read and edit, and the migrations, which databases get, make the same schema."""

from __future__ import annotations

import asyncpg
import pytest

from sync.migrate import supabase_folder
from tests.database.catalog import describe

SQL = supabase_folder().parent / "sql"

# One fact of each kind that the comparison must notice.
CHANGES = {
    "a table": "create table public.extra ()",
    "a column": "alter table public.stores add extra int",
    "a default": "alter table public.stores alter name set default 'x'",
    "a nullable column": "alter table public.stores alter name drop not null",
    "a constraint": "alter table public.stores add constraint extra check (name <> '')",
    "an index": "create index extra on public.stores (name)",
    "a function": "create function mirror.extra() returns int language sql return 1",
    "a revoked grant on a function": "revoke execute on function mirror.uuid_v7() from service_role",
    "how a function is run": "alter function mirror.uuid_v7() security definer",
    "a trigger": "create trigger extra before update on public.stores execute function "
    "suppress_redundant_updates_trigger()",
    "a policy": "create policy extra on public.stores using (true)",
    "an enum's value": "create type public.extra as enum ('a')",
    "a domain": "create domain public.extra as int check (value > 0)",
    "a comment": "comment on column public.stores.name is 'extra'",
    "row security": "alter table public.stores disable row level security",
    "forced row security": "alter table public.stores no force row level security",
    "a grant": "grant insert on public.stores to anon",
    "a grant on a column": "grant update (name) on public.stores to authenticated",
    "a view": "create view public.extra as select 1 as one",
    "a published table": "alter publication supabase_realtime add table public.stores",
}


async def run(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_sql_and_the_migrations_make_the_same_schema(database: str, platform_database: str) -> None:
    await run(platform_database, *(file.read_text() for file in sorted(SQL.rglob("*.sql"))))
    wanted, migrated = await describe(platform_database), await describe(database)
    assert sorted(set(wanted) - set(migrated)) == [], "in sql/, but in no migration"
    assert sorted(set(migrated) - set(wanted)) == [], "in a migration, but not in sql/"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_the_comparison_notices(database: str, change: str) -> None:
    before = await describe(database)
    await run(database, change)
    assert await describe(database) != before
