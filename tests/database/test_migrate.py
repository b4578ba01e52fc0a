"""Migrating: in order, once, all or nothing, in the history that the Supabase CLI reads."""

from __future__ import annotations

import asyncio
import subprocess
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from sync import embedded
from sync.migrate import Applied, MigrationError, migrate, migrations, pending, supabase_folder
from tests.postgres import TestServer, with_database

HISTORY = "select version, name, statements from supabase_migrations.schema_migrations order by version"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A Supabase project with two migrations."""
    (tmp_path / "migrations").mkdir()
    (tmp_path / "platform.sql").write_text((supabase_folder() / "platform.sql").read_text())
    add(tmp_path, "20260101000000_shelves", "create table shelves (id int);\ninsert into shelves values (1);")
    add(tmp_path, "20260102000000_books", "-- the books\ncreate table books (id int); -- done\n")
    return tmp_path


def add(project: Path, title: str, sql: str) -> None:
    (project / "migrations" / f"{title}.sql").write_text(sql)


async def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def run(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def test_all_of_ours_apply_and_a_second_time_there_is_nothing_to_do(platform_database: str) -> None:
    titles = [migration.title for migration in migrations(supabase_folder())]
    assert await pending(platform_database) == titles
    assert await migrate(platform_database) == Applied(titles, platform=False)
    assert await pending(platform_database) == []
    assert await migrate(platform_database) == Applied([], platform=False)


async def test_history_is_kept_as_the_supabase_cli_keeps_it(platform_database: str, project: Path) -> None:
    await migrate(platform_database, folder=project)
    assert await rows(platform_database, HISTORY) == [
        ("20260101000000", "shelves", ["create table shelves (id int)", "insert into shelves values (1)"]),
        ("20260102000000", "books", ["-- the books\ncreate table books (id int)", "-- done"]),
    ]


async def test_what_the_cli_has_applied_is_not_applied_again(platform_database: str, project: Path) -> None:
    await migrate(platform_database, folder=project)
    await run(platform_database, "delete from supabase_migrations.schema_migrations where name = 'books'")
    await run(platform_database, "drop table books")
    assert await pending(platform_database, folder=project) == ["20260102000000_books"]
    assert (await migrate(platform_database, folder=project)).migrations == ["20260102000000_books"]


async def test_migrations_of_others_in_the_same_history_are_left_alone(platform_database: str, project: Path) -> None:
    await migrate(platform_database, folder=project)
    (project / "migrations" / "20260101000000_shelves.sql").unlink()
    assert await pending(platform_database, folder=project) == []
    assert len(await rows(platform_database, HISTORY)) == 2


async def test_two_at_once_apply_each_migration_once(platform_database: str, project: Path) -> None:
    results = await asyncio.gather(*(migrate(platform_database, folder=project) for _ in range(4)))
    assert sorted(title for result in results for title in result.migrations) == [
        "20260101000000_shelves",
        "20260102000000_books",
    ]
    assert await rows(platform_database, "select id from shelves") == [(1,)]


async def test_a_failing_migration_leaves_nothing_and_says_where_and_why(platform_database: str, project: Path) -> None:
    add(project, "20260103000000_broken", "create table half (id int);\n\nselect 1,\n  missing from half;\n")
    with pytest.raises(MigrationError) as failure:
        await migrate(platform_database, folder=project)
    message = str(failure.value)
    assert message.startswith('20260103000000_broken.sql, line 4: column "missing" does not exist')
    assert "select 1,\n  missing from half" in message
    assert await rows(platform_database, "select to_regclass('half')::text") == [(None,)]
    assert await pending(platform_database, folder=project) == ["20260103000000_broken"]


async def test_an_error_tells_the_detail_that_postgres_knows(platform_database: str, project: Path) -> None:
    add(project, "20260103000000_twice", "create table n (id int unique);\ninsert into n values (7), (7);")
    with pytest.raises(MigrationError, match=r"line 2: duplicate key(?s:.*)Detail: Key \(id\)=\(7\)"):
        await migrate(platform_database, folder=project)


async def test_one_migration_s_settings_do_not_reach_the_next(platform_database: str, project: Path) -> None:
    add(project, "20260101500000_path", "set search_path = ''; set default_transaction_read_only = on;")
    await migrate(platform_database, folder=project)
    assert await rows(platform_database, "select to_regclass('public.books')::text") == [("books",)]


async def test_a_plain_postgres_gets_the_platform_first(server: TestServer, bare_database: str) -> None:
    dsn = server.owner(bare_database)
    applied = await migrate(dsn, superuser_dsn=server.superuser(bare_database))
    assert applied.platform
    assert await rows(dsn, "select auth.uid()") == [(None,)]
    assert not (await migrate(dsn, superuser_dsn=server.superuser(bare_database))).platform


async def test_the_platform_may_be_applied_again(server: TestServer, platform_database: str) -> None:
    database = urlsplit(platform_database).path[1:]
    sql = (supabase_folder() / "platform.sql").read_text()
    await run(server.superuser(database), sql)
    await run(server.superuser(database), sql)


async def test_several_databases_of_a_new_server_may_get_the_platform_at_once(tmp_path: Path) -> None:
    with embedded.start(tmp_path / "new") as server:
        names = ["one", "two", "three"]
        for name in names:
            await run(server.superuser_dsn, f"create database {name} owner postgres")
        migrating = (
            migrate(with_database(server.dsn, name), superuser_dsn=with_database(server.superuser_dsn, name))
            for name in names
        )
        assert [applied.platform for applied in await asyncio.gather(*migrating)] == [True, True, True]


async def test_without_the_rights_to_make_the_platform_the_error_says_what_to_do(
    server: TestServer, bare_database: str
) -> None:
    with pytest.raises(MigrationError, match=r"plain Postgres.*postgres may not.*superuser's DATABASE_URL"):
        await migrate(server.owner(bare_database))
    assert await rows(server.owner(bare_database), "select to_regnamespace('auth')::text") == [(None,)]


async def test_hosted_rights_suffice(platform_database: str) -> None:
    await migrate(platform_database)
    superuser = "select rolsuper from pg_roles where rolname = current_user"
    assert await rows(platform_database, superuser) == [(False,)]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(platform_database, "create table auth.mine (id int)")


def test_a_wheel_carries_the_migrations(tmp_path: Path) -> None:
    build = ["uv", "build", "--wheel", "--out-dir", str(tmp_path)]
    subprocess.run(build, cwd=supabase_folder().parent, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        archive.extractall(tmp_path / "installed")
    packaged = tmp_path / "installed" / "sync" / "_supabase"
    assert [m.title for m in migrations(packaged)] == [m.title for m in migrations(supabase_folder())]
    assert (packaged / "platform.sql").is_file()
