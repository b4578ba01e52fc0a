"""The API put together: what it is made of and what it opens and closes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.openapi import OpenAPIConfig

from api.health import live, readiness_route
from api.hooks import hook_route
from api.integrations import Integrations
from api.problems import exception_handlers
from api.tracking import tracking_route
from api.watch import watch_routes
from sync.database import Database
from sync.intake import Intake
from sync.settings import Settings, SettingsError

VERSION = "1"
"""Of the interface, not of the program: it changes when an answer changes its meaning."""


def create_app(settings: Settings) -> Litestar:
    """Return the API. Its start fails with SettingsError if an active integration lacks its secrets."""
    if settings.database is None:
        raise SettingsError("The environment is not right:\n  DATABASE_URL: not set; the API needs a database.")
    database = Database(settings.database, connections=settings.database_connections)
    intake = Intake(database)
    integrations = Integrations(database)

    @asynccontextmanager
    async def opened(_: Litestar) -> AsyncIterator[None]:
        try:
            await integrations.check()
            yield
            await intake.close()
        finally:
            await database.close()

    return Litestar(
        [
            hook_route(integrations, intake, max_body_bytes=settings.max_body_bytes),
            tracking_route(database),
            live,
            readiness_route(database),
            *watch_routes(database, metrics_token=settings.metrics_token),
        ],
        lifespan=[opened],
        exception_handlers=exception_handlers(),
        logging_config=None,
        openapi_config=OpenAPIConfig(title="commerce-mirror", version=VERSION),
    )
