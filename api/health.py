"""`GET /health/live` and `GET /health/ready`: for whoever restarts us, and for whoever sends us traffic."""

import asyncio

from litestar import get
from litestar.handlers import HTTPRouteHandler

from api import examples
from api.documented import answers, problems
from api.errors import LaggingError, MissingSchemaError, PendingMigrationsError
from sync.database import Database, Row
from sync.deadline import within
from sync.errors import Reject
from sync.migrate import migrations, supabase_folder

PATIENCE_SECONDS = 2.0


@get("/health/live", tags=["health"], responses={**answers(dict[str, str], "It works.", examples.LIVE), **problems()})
async def live() -> dict[str, str]:
    """Say that the process works; it says nothing about the database."""
    return {"status": "live"}


def readiness_route(database: Database, *, lag_seconds: int) -> HTTPRouteHandler:
    """Return the route that says whether requests can be served. With 0, the lag does not matter."""
    versions = [migration.version for migration in migrations(supabase_folder())]
    looking: asyncio.Task[Row] | None = None

    async def look() -> Row:
        try:
            (found,) = await within(PATIENCE_SECONDS, database.rows("get_readiness", p_versions=versions))
        except Reject as error:
            raise MissingSchemaError(error.reason) from None
        return found

    async def look_once() -> Row:
        """Look for all who ask meanwhile, so that nobody can hammer the database through us."""
        nonlocal looking
        if looking is None or looking.done():
            looking = asyncio.create_task(look())
        return await asyncio.shield(looking)

    @get(
        "/health/ready",
        tags=["health"],
        responses={
            **answers(dict[str, str], "Requests can be served.", examples.READY),
            **problems(MissingSchemaError, PendingMigrationsError, LaggingError),
        },
    )
    async def ready() -> dict[str, str]:
        """Say that the database answers, has our schema, and that events are applied in time; otherwise 503."""
        found = await look_once()
        if found["pending"]:
            raise PendingMigrationsError(found["pending"])
        if lag_seconds and found["overdue_seconds"] > lag_seconds:
            raise LaggingError(found["overdue_seconds"], lag_seconds)
        return {"status": "ready"}

    return ready
