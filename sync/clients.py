"""Clients of the engines that this process may ask and tell: those of which the environment has credentials."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sync.database import Database
from sync.engines.base import Client
from sync.engines.registry import ENGINES
from sync.settings import load_credentials


@asynccontextmanager
async def open_clients(database: Database) -> AsyncIterator[dict[str, Client]]:
    """Give a client for each active integration with credentials, by its slug.

    Raises SettingsError with every variable that is missing or wrong; an integration without any is left out.
    """
    engines = {
        row["slug"]: row["engine"] for row in await database.rows("list_integrations") if row["engine"] in ENGINES
    }
    addresses = {slug: ENGINES[engine].api_url for slug, engine in engines.items()}
    async with AsyncExitStack() as stack:
        yield {
            slug: await stack.enter_async_context(ENGINES[engines[slug]].connect(credentials))
            for slug, credentials in load_credentials(engines, addresses).items()
        }
