"""Integrations whose engines can be asked: by their slug, with the credentials of the environment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sync.answers import Source
from sync.database import Database, Row
from sync.engines.base import Client, Context
from sync.engines.registry import ENGINES
from sync.errors import Reject
from sync.settings import SettingsError, load_credentials


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
    credentials = load_credentials([slug]).get(slug)
    if credentials is None:
        variable = f"{slug.upper().replace('-', '_')}_API_URL"
        raise SettingsError(
            f"The environment is not right:\n  {variable}: Environment variable not set. It is the address of the "
            "engine's admin API; beside it goes a key, or a user's name and password: README.md lists them."
        )
    async with ENGINES[row["engine"]].connect(credentials) as client:
        yield _source(row, client)


async def _find(database: Database, slug: str) -> Row:
    rows = {row["slug"]: row for row in await database.rows("list_integrations")}
    if slug not in rows:
        known = ", ".join(sorted(rows)) or "none"
        raise Reject(f"there is no active integration {slug!r} in mirror.integrations (there is: {known})")
    return rows[slug]


def _source(row: Row, client: Client) -> Source:
    context = Context(phone_region=row["phone_region"], money_precision=row["money_precision"])
    return Source(row["id"], row["slug"], ENGINES[row["engine"]], context, client)
