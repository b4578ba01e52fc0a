"""`GET /health/live` and `GET /health/ready`: for whoever restarts us, and for whoever sends us traffic."""

from litestar import get
from litestar.handlers import HTTPRouteHandler

from api.documented import problems
from api.problems import MissingSchemaError
from sync.database import Database
from sync.deadline import within
from sync.errors import Reject

PATIENCE_SECONDS = 2.0


@get("/health/live", tags=["health"], responses=problems())
async def live() -> dict[str, str]:
    """Say that the process works; it says nothing about the database."""
    return {"status": "live"}


def readiness_route(database: Database) -> HTTPRouteHandler:
    """Return the route that says whether requests can be served."""

    @get("/health/ready", tags=["health"], responses=problems(MissingSchemaError))
    async def ready() -> dict[str, str]:
        """Say that the database answers and has our schema; otherwise 503 with the reason."""
        try:
            await within(PATIENCE_SECONDS, database.rows("list_integrations"))
        except Reject as error:
            raise MissingSchemaError(error.reason) from None
        return {"status": "ready"}

    return ready
