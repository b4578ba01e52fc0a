"""The tables and rules of the mirror a second time, in a schema of their own.

The migrations name everything with its schema, `public` or `mirror`, and no two things in them share a name; so the
same statements with both names replaced make the whole mirror anew beside the live one, which they cannot touch. What
makes no difference to applying events is left out: grants, row-level security, comments, publications, scheduled work,
and the rows that a new project begins with.
"""

import re
from collections.abc import Iterator

import asyncpg

from sync.migrate import migrations, supabase_folder
from sync.statements import split

NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
FOREIGN = {"public", "mirror", "auth", "storage", "extensions", "graphql", "realtime", "vault", "cron", "pgbouncer"}
"""Never ours to make or replace."""

MARK = "commerce-mirror: rebuilt from the inbox"
"""The comment by which a schema that we made is known."""

QUALIFIED = re.compile(r"(?<![\w.$\"])(?:public|mirror)\.(?=[\w\"])")
LEADING_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)
NEEDED = re.compile(
    r"""
      create (?:\s+ or \s+ replace)? \s+ (?:unlogged \s+ | unique \s+ | constraint \s+)?
      (?:table | type | domain | function | view | index | trigger | sequence)\b
    | (?:alter | drop) \s+ (?:table | type | domain | function | view | index | trigger | sequence)\b
    | do\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
NEEDLESS = re.compile(r"row\s+level\s+security|pg_publication|pg_extension", re.IGNORECASE)

COPIED = ("stores", "integrations")
"""What admins set and events refer to: copied, with their ids."""


class RebuildError(Exception):
    """The inbox cannot be rebuilt there; the message says why and what to do."""


async def make(connection: asyncpg.Connection, schema: str, *, replace: bool) -> None:
    """Make the schema, all or nothing; raise RebuildError if there is one that may not be replaced."""
    if not NAME.fullmatch(schema) or schema in FOREIGN or schema.startswith(("pg_", "supabase_")):
        raise RebuildError(f"A rebuild cannot go into the schema {schema}. Choose a name of its own, such as rebuilt.")
    async with connection.transaction():
        await connection.execute("set local statement_timeout = 0")
        await _make_room(connection, schema, replace=replace)
        await connection.execute(f"create schema {schema}")
        await connection.execute(f"comment on schema {schema} is '{MARK}'")
        for statement in statements(schema):
            await connection.execute(statement)
        for table, live in zip(COPIED, ("public", "mirror"), strict=True):
            await connection.execute(
                f"insert into {schema}.{table} "
                f"select (jsonb_populate_record(null::{schema}.{table}, to_jsonb(t))).* from {live}.{table} as t"
            )


async def drop(connection: asyncpg.Connection, schema: str) -> None:
    """Remove a schema that a rebuild made."""
    await connection.execute(f"drop schema {schema} cascade")


def statements(schema: str) -> Iterator[str]:
    """Yield the migrations' statements that applying needs, for this schema."""
    for migration in migrations(supabase_folder()):
        for statement in split(migration.file.read_text(encoding="utf-8")):
            bare = LEADING_COMMENTS.sub("", statement)
            if NEEDED.match(bare) and not NEEDLESS.search(bare):
                # A lock of the same name would have admins wait for the rebuild.
                yield QUALIFIED.sub(f"{schema}.", bare).replace("'commerce-mirror: ", f"'commerce-mirror {schema}: ")


async def _make_room(connection: asyncpg.Connection, schema: str, *, replace: bool) -> None:
    found = await connection.fetchrow(
        "select obj_description(oid, 'pg_namespace') as comment from pg_namespace where nspname = $1", schema
    )
    if found is None:
        return
    if found["comment"] != MARK:
        raise RebuildError(f"There is a schema {schema}, which no rebuild has made. Choose another name.")
    if not replace:
        raise RebuildError(f"There is a schema {schema} of an earlier rebuild. Say --replace, or choose another name.")
    await drop(connection, schema)
