"""Databases for tests: one server a run, one template with the migrations, a clone of it for each test.

The server is the embedded Postgres in a folder of the run's own, so that several runs do not meet: in memory where
there is room, since a clone is a thousand files, and making and removing them takes five times as long on a disk. With
`MIRROR_TEST_SERVER_DSN`, a superuser's address on a throwaway server, it is that one (`task test:pg15`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from sync import embedded
from sync.migrate import supabase_folder

OTHER_SERVER = "MIRROR_TEST_SERVER_DSN"
MEMORY = Path("/dev/shm")  # noqa: S108 - its files are private, and their names made up
ROOM_BYTES = 4 * 2**30
"""Of several servers side by side, each with a hundred megabytes of data and as much of its log."""

FORGETFUL = ("alter system set fsync = off", "alter system set max_wal_size = '256MB'", "select pg_reload_conf()")
"""Nothing here outlives the machine; what outlives a killed server, outlives it without fsync, too."""


@dataclass(frozen=True)
class TestServer:
    """A running server: where its databases are, for role `postgres` and for the superuser."""

    __test__ = False

    dsn: str
    superuser_dsn: str

    def create(self, template: str | None = None) -> str:
        """Create a database that role `postgres` owns, and return its name."""
        name = f"test_{uuid.uuid4().hex}"
        source = f" template {template}" if template else ""
        self.run(f"create database {name} owner postgres{source}")
        return name

    def drop(self, name: str) -> None:
        self.run(f"drop database {name} with (force)")

    def run(self, *statements: str, database: str | None = None) -> None:
        """Run statements as superuser."""
        asyncio.run(_run(self.superuser(database) if database else self.superuser_dsn, statements))

    def owner(self, database: str) -> str:
        """The address of a database for role `postgres`, which is no superuser."""
        return with_database(self.dsn, database)

    def superuser(self, database: str) -> str:
        return with_database(self.superuser_dsn, database)

    def authenticator(self, database: str) -> str:
        """The address of a database for the role that PostgREST logs in as; `let_authenticator_in` comes first."""
        return as_role("authenticator", self.superuser(database))

    def let_authenticator_in(self) -> None:
        self.run(f"alter role authenticator password '{urlsplit(self.superuser_dsn).password or ''}'")


@contextmanager
def quick_folder() -> Iterator[Path]:
    """Give a folder for a server's data while this lasts: in memory where there is room."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    with TemporaryDirectory(prefix="mirror-tests-", dir=MEMORY if has_room else None) as name:
        yield Path(name)


@contextmanager
def running_server(folder: Path) -> Iterator[TestServer]:
    """Give the server that this run works with."""
    if other := os.environ.get(OTHER_SERVER):
        server = TestServer(as_role("postgres", other), other)
        server.run(_CREATE_POSTGRES, f"alter role postgres password '{urlsplit(other).password or ''}'")
        yield server
        return
    with embedded.start(folder) as started:
        yield TestServer(started.dsn, started.superuser_dsn)


def apply_platform(server: TestServer, database: str) -> None:
    """Give a database what Supabase has and a plain Postgres lacks."""
    server.run((supabase_folder() / "platform.sql").read_text(), database=database)


def with_database(dsn: str, database: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


_CREATE_POSTGRES = """
    do $$ begin
      if not exists (select from pg_roles where rolname = 'postgres') then
        create role postgres nosuperuser createdb createrole replication bypassrls login;
      end if;
    end $$
"""


def as_role(role: str, dsn: str) -> str:
    """Return the address of the same database for a role with the same password."""
    parts = urlsplit(dsn)
    _, _, where = parts.netloc.rpartition("@")
    login = f"{role}:{parts.password}" if parts.password else role
    return urlunsplit(parts._replace(netloc=f"{login}@{where}"))


async def _run(dsn: str, statements: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
