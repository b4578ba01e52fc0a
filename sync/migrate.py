"""Bring a database to the schema this version of the mirror works with.

Applies the files of `supabase/migrations` in order of their version, each in one transaction, and records
each in `supabase_migrations.schema_migrations` as the Supabase CLI does: what one applied, the other knows.
It promises:

- All or nothing: a migration that fails leaves the database as the one before it left it, and the error
  names file, line, statement and reason.
- Once: a lock lets one apply at a time. The transaction holds it, so it works through a transaction pooler.
- Migrations of others in the same history are left alone.
- On a plain Postgres, and only there, it first applies `supabase/platform.sql`, which takes a superuser.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import asyncpg

from sync.statements import split

LOCK = "select pg_advisory_xact_lock(hashtext('commerce-mirror: migrate'))"
HAS_PLATFORM = "select to_regrole('anon') is not null and to_regnamespace('auth') is not null"
HAS_HISTORY = "select to_regclass('supabase_migrations.schema_migrations') is not null"
CREATE_HISTORY = """
    create schema if not exists supabase_migrations;
    create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
    alter table supabase_migrations.schema_migrations add column if not exists statements text[];
    alter table supabase_migrations.schema_migrations add column if not exists name text;
"""
VERSIONS = "select version from supabase_migrations.schema_migrations"
IS_APPLIED = "select exists (select from supabase_migrations.schema_migrations where version = $1)"
RECORD = "insert into supabase_migrations.schema_migrations (version, name, statements) values ($1, $2, $3)"


class MigrationError(RuntimeError):
    """A migration or the platform part could not be applied; the database is as it was before it."""


@dataclass(frozen=True)
class Migration:
    """A file `<version>_<name>.sql`."""

    version: str
    name: str
    file: Path

    @property
    def title(self) -> str:
        return self.file.stem


@dataclass(frozen=True)
class Applied:
    """What `migrate` did: the titles of the migrations it applied, and whether it prepared the platform."""

    migrations: list[str]
    platform: bool


async def migrate(dsn: str, *, superuser_dsn: str | None = None, folder: Path | None = None) -> Applied:
    """Apply what is pending and return it.

    `superuser_dsn` is used for the platform part only, if the database lacks it and `dsn` may not make it.
    `folder` is a Supabase project with migrations other than the mirror's own.

    Raises:
        MigrationError: a migration failed, the database refused the connection, or the platform is missing and
            the rights to make it, too.
    """
    folder = folder or supabase_folder()
    platform = await _ensure_platform(superuser_dsn or dsn, folder)
    connection = await _connect(dsn)
    try:
        applied = [m.title for m in migrations(folder) if await _apply(connection, m)]
    finally:
        await connection.close()
    return Applied(applied, platform)


async def pending(dsn: str, *, folder: Path | None = None) -> list[str]:
    """Name the migrations that `migrate` would apply; changes nothing."""
    connection = await _connect(dsn)
    try:
        known = set()
        if await connection.fetchval(HAS_HISTORY):
            known = {row["version"] for row in await connection.fetch(VERSIONS)}
    finally:
        await connection.close()
    return [m.title for m in migrations(folder or supabase_folder()) if m.version not in known]


def supabase_folder() -> Path:
    """Find the Supabase project: inside the installed package, or beside it in a checkout."""
    packaged = Path(__file__).parent / "_supabase"
    return packaged if packaged.exists() else Path(__file__).parent.parent / "supabase"


def migrations(folder: Path) -> list[Migration]:
    """List a Supabase project's migrations, oldest first."""
    files = sorted((folder / "migrations").glob("[0-9]*_*.sql"))
    if not files:
        raise MigrationError(f"There are no migrations in {folder / 'migrations'}: install the mirror again.")
    return [Migration(*_version_and_name(file), file) for file in files]


def _version_and_name(file: Path) -> tuple[str, str]:
    version, _, name = file.stem.partition("_")
    return version, name


async def _connect(dsn: str) -> asyncpg.Connection:
    try:
        # No statement cache: a transaction pooler would mix up the connections' prepared statements.
        return await asyncpg.connect(dsn, statement_cache_size=0)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise MigrationError(
            f"The database cannot be reached: {str(error) or type(error).__name__}. "
            "Check DATABASE_URL, and that the server is up."
        ) from error


async def _apply(connection: asyncpg.Connection, migration: Migration) -> bool:
    """Apply and record a migration unless it is; tell whether it was applied now."""
    sql = migration.file.read_text(encoding="utf-8")
    statements = split(sql)
    await connection.execute("reset all")  # whatever the migration before has set
    async with connection.transaction():
        await connection.execute(LOCK)
        if await _is_applied(connection, migration):
            return False
        await _run(connection, migration.file, sql, statements)
        await connection.execute(RECORD, migration.version, migration.name, statements)
    return True


async def _is_applied(connection: asyncpg.Connection, migration: Migration) -> bool:
    try:
        await connection.execute(CREATE_HISTORY)
        return bool(await connection.fetchval(IS_APPLIED, migration.version))
    except asyncpg.InsufficientPrivilegeError as error:
        raise MigrationError(
            f"The history of migrations cannot be read: {error}. Migrate as the role that did so first."
        ) from error


async def _run(connection: asyncpg.Connection, file: Path, sql: str, statements: list[str]) -> None:
    offset = 0
    for statement in statements:
        offset = sql.index(statement, offset)
        try:
            await connection.fetch(statement)  # not `execute`, which fails on a mere comment
        except asyncpg.PostgresError as error:
            raise MigrationError(_explain(error, file, sql, offset, statement)) from error
        offset += len(statement)


def _explain(error: asyncpg.PostgresError, file: Path, sql: str, offset: int, statement: str) -> str:
    """Say in which file, line and statement, why, and what Postgres adds to it."""
    within = int(error.position) - 1 if error.position else 0
    line = sql.count("\n", 0, offset + within) + 1
    more = [f"{name}: {text}" for name, text in (("Detail", error.detail), ("Hint", error.hint)) if text]
    return "\n".join([
        f"{file.name}, line {line}: {error.message or error}", *more,
        "Nothing of this file was applied. The statement:", statement,
    ])  # fmt: skip


async def _ensure_platform(dsn: str, folder: Path) -> bool:
    connection = await _connect(dsn)
    try:
        if await connection.fetchval(HAS_PLATFORM):
            return False
        await _require_superuser(connection)
        file = folder / "platform.sql"
        sql = file.read_text(encoding="utf-8")
        async with connection.transaction():
            await _run(connection, file, sql, split(sql))
        return True
    finally:
        await connection.close()


async def _require_superuser(connection: asyncpg.Connection) -> None:
    role = await connection.fetchval("select current_user")
    if await connection.fetchval("select current_setting('is_superuser')") != "on":
        raise MigrationError(
            "This is a plain Postgres: it has no Supabase roles or no schema auth, and the role "
            f"{role} may not make them. Run `mirror migrate` once with a superuser's DATABASE_URL; "
            f"after that, {role} suffices."
        )
