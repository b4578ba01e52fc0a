"""Integrations whose engines can be asked: by their slug, with the credentials of the environment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sync.answers import Source
from sync.database import Database, Row
from sync.engines.base import Client, Context, Engine
from sync.engines.registry import ENGINES
from sync.errors import Reject
from sync.settings import SettingsError, load_credentials, prefix_of


async def find_source(database: Database, slug: str, client: Client) -> Source:
    """Return an active integration with this client of its engine; raise Reject if there is none of the name."""
    return _source(await _find(database, slug), client)


@asynccontextmanager
async def open_source(database: Database, slug: str) -> AsyncIterator[Source]:
    """Give an integration with a client of its engine, let in by the credentials of the environment.

    Raises:
        Reject: there is no active integration of this name.
        SettingsError: the environment has no credentials for it, or wrong ones.
    """
    row = await _find(database, slug)
    engine = ENGINES[row["engine"]]
    credentials = load_credentials([slug], {slug: engine.api_url}).get(slug)
    if credentials is None:
        raise SettingsError(f"The environment is not right:\n  {prefix_of(slug)}{_lacking(engine)}")
    async with engine.connect(credentials) as client:
        yield _source(row, client)


def _lacking(engine: Engine) -> str:
    """Say which variable comes first of those that an engine is asked with."""
    if engine.api_url:
        return "API_KEY: Environment variable not set. It is a key of the engine's API: README.md says which."
    return (
        "API_URL: Environment variable not set. It is the address of the engine's admin API; beside it goes a key, or "
        "a user's name and password: README.md lists them."
    )


async def _find(database: Database, slug: str) -> Row:
    rows = {row["slug"]: row for row in await database.rows("list_integrations")}
    if slug not in rows:
        known = ", ".join(sorted(rows)) or "none"
        raise Reject(f"there is no active integration {slug!r} in mirror.integrations (there is: {known})")
    return rows[slug]


def _source(row: Row, client: Client) -> Source:
    return Source(row["id"], row["slug"], ENGINES[row["engine"]], Context.of(row), client)
