"""A whole mirror on this machine: database, API and daemon, started and stopped together.

The database is the one that DATABASE_URL or SUPABASE_URL names, or else an embedded Postgres of our own, whose hook
secret is made at the first start and kept in its folder.
"""

import asyncio
import base64
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec

from sync import embedded
from sync.database import connect
from sync.errors import Reject
from sync.migrate import migrate, migrations, pending, supabase_folder
from sync.processes import Process
from sync.settings import SECRET_PREFIX, Address, Project, Settings, SettingsError

SECRETS_VARIABLE = "VENDURE_HOOK_SECRETS"
LOOPBACK = "127.0.0.1"
"""Where what is only for this machine listens, wherever MIRROR_HOST would have the API."""
START_SECONDS = 30
LINES_SHOWN = 5

NO_DATABASE = """The environment is not right:
  DATABASE_URL: Environment variable not set. It names the database, as in
  postgresql://user:password@host:5432/postgres; where only HTTPS leads out, SUPABASE_URL and SUPABASE_SECRET_KEY do.
  `mirror up` and `mirror demo` bring a database of their own."""

NO_CONNECTION = """The environment is not right:
  DATABASE_URL: Environment variable not set. This takes a connection to Postgres itself; SUPABASE_URL gives none."""

NOT_CURRENT = """The schema behind SUPABASE_URL is not the one of this version ({pending}).
It takes a connection to Postgres to change that: from a place that has one, run `mirror migrate` with DATABASE_URL,
or `supabase db push`."""


class Ground(msgspec.Struct, frozen=True):
    """The migrated database that a stack stands on."""

    address: Address
    psql: str | None
    """A command line that opens psql on it, if it is our own."""
    secret: str | None
    """The hook secret that we made, if the environment has none."""

    @property
    def environment(self) -> dict[str, str]:
        """What the processes need to work on it."""
        made = {SECRETS_VARIABLE: self.secret} if self.secret else {}
        return {"DATABASE_URL": self.address, **made} if isinstance(self.address, str) else made


class StackError(Exception):
    """The stack did not start; the message says why and where to look."""


def make_secret() -> str:
    """Return a new hook secret (Standard Webhooks): `whsec_` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


@contextmanager
def open_ground(settings: Settings) -> Iterator[Ground]:
    """Give a database with the current schema: the configured one, or our own, running while this lasts.

    Raises:
        StackError: the configured one is not current, and cannot be brought there through the Data API.
    """
    if settings.database is not None:
        asyncio.run(_bring_to_current(settings.database))
        yield Ground(settings.database, None, None)
        return
    with embedded.start(settings.home / "postgres") as server:
        asyncio.run(migrate(server.dsn, superuser_dsn=server.superuser_dsn))
        secret = None if os.environ.get(SECRETS_VARIABLE) else _kept_secret(settings.home / "hook-secret")
        yield Ground(server.dsn, server.psql, secret)


@contextmanager
def existing_database(settings: Settings) -> Iterator[Address]:
    """Give the address of the configured database, or of the embedded one that `mirror up` made here.

    Raises:
        SettingsError: there is neither.
    """
    if settings.database is not None:
        yield settings.database
        return
    if not (settings.home / "postgres" / "data").exists():
        raise SettingsError(NO_DATABASE)
    with embedded.start(settings.home / "postgres") as server:
        yield server.dsn


@contextmanager
def direct_database(settings: Settings) -> Iterator[str]:
    """Give the same, for what takes a connection to Postgres itself.

    Raises:
        SettingsError: there is no such database, or only its Data API.
    """
    with existing_database(settings) as address:
        if isinstance(address, Project):
            raise SettingsError(NO_CONNECTION)
        yield address


async def pending_migrations(address: Address) -> list[str]:
    """Name the migrations that the database lacks."""
    if isinstance(address, str):
        return await pending(address)
    known = migrations(supabase_folder())
    async with connect(address, connections=1) as database:
        lacking = await database.call("pending_migrations", p_versions=[migration.version for migration in known])
    return [migration.title for migration in known if migration.version in lacking]


async def _bring_to_current(address: Address) -> None:
    """Migrate a database; of one that is only reached through its Data API, require that it is."""
    if isinstance(address, str):
        await migrate(address)
        return
    try:
        lacking = await pending_migrations(address)
    except Reject as error:  # not even the function to ask is there
        raise StackError(NOT_CURRENT.format(pending=error.reason)) from None
    if lacking:
        raise StackError(NOT_CURRENT.format(pending=f"pending: {', '.join(lacking)}"))


@asynccontextmanager
async def running(
    address: str, environment: Mapping[str, str], logs: Path | None = None, *, daemons: int = 1
) -> AsyncIterator[list[Process]]:
    """Run API and daemons as processes while this lasts; give them, the API first.

    `address` is where the API will answer.
    """
    _require_free(address)
    processes = [
        Process([command], environment, logs / f"{command}.log" if logs else None)
        for command in ("serve", *["work"] * daemons)
    ]
    tasks = [asyncio.create_task(process.keep_running()) for process in processes]
    try:
        await _wait_until_ready(address, processes[0], logs)
        yield processes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _require_free(address: str) -> None:
    """Raise StackError if the API could not listen there: whoever does would be taken for it."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, parts.port or 0), family=family).close()
    except OSError as error:
        raise StackError(
            f"The API cannot listen at {address}: {error.strerror}. Choose another MIRROR_PORT."
        ) from error


async def _wait_until_ready(address: str, api: Process, logs: Path | None) -> None:
    async with httpx.AsyncClient(
        base_url=address, timeout=2, trust_env=False
    ) as client:  # no proxy is asked to reach us
        for _ in range(START_SECONDS * 10):
            try:
                if (await client.get("/health/ready")).is_success:
                    return
            except httpx.TransportError:
                pass
            if api.has_ended:
                raise StackError(f"The API does not start: {_what_it_said(logs)}")
            await asyncio.sleep(0.1)
    raise StackError(f"The API did not answer at {address} within {START_SECONDS} s: {_what_it_said(logs)}")


def _what_it_said(logs: Path | None) -> str:
    """Return the end of the API's log; without one, it said so at the terminal."""
    if logs is None:
        return "see above."
    log = logs / "serve.log"
    lines = log.read_text(errors="replace").splitlines()[-LINES_SHOWN:] if log.exists() else []
    return "\n".join([f"this is the end of {log}.", *lines])


def _kept_secret(file: Path) -> str:
    """Return the secret in the file; make one at the first time, for the owner's eyes only."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text().strip()
    with os.fdopen(descriptor, "w") as opened:
        secret = make_secret()
        opened.write(secret + "\n")
    return secret
