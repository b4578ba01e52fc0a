"""The API as it is, and beside it in the same process the routes that it is measured against.

`python -m tests.bench.server`: like `python -m api`. The bare routes do all that the real ones do but ask the database;
the single route stores each hook by a call of its own.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime
from typing import Any

import uvloop
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from api.app import create_app
from api.hooks import Receipt
from api.server import serve_app
from api.tracking.told import Step, TrackedItem, TrackedOrder
from sync import inbox
from sync.database import Database
from sync.engines.registry import ENGINES
from sync.phones import phone_digits
from sync.settings import load_secrets, load_settings

SECRETS = load_secrets(["VENDURE_HOOK_SECRETS"])["VENDURE_HOOK_SECRETS"]
SINGLE_CONNECTIONS = 8
"""What Postgres does best with on two cores, for one insert a call."""

ORDER = TrackedOrder(
    order_code="BENCH",
    placed_at=datetime(2026, 11, 20, tzinfo=UTC),
    cancelled_at=None,
    stage="ORDER_CONFIRMED",
    timeline=[Step("ORDER_CONFIRMED", datetime(2026, 11, 20, tzinfo=UTC))] * 5,
    tracking_number=None,
    carrier=None,
    currency="LKR",
    total_with_tax="25816.00",
    items=[TrackedItem("Colombo Home Kit 2026", "Colombo Home Kit 2026 M", 1, None, None)] * 2,
    eta=None,
    is_delayed=False,
    expected=None,
    batch=None,
)


async def _read(request: Request[Any, Any, Any]) -> list[Any]:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    body = await request.body()
    engine = ENGINES["vendure"]
    engine.verify(headers, body, SECRETS)
    return engine.read(body)


@post("/bare/hooks/{integration:str}", status_code=202)
async def bare_hook(integration: FromPath[str], request: Request[Any, Any, Any]) -> Receipt:
    """Do all but store it."""
    return Receipt(accepted=len(await _read(request)), duplicates=0)


@get("/bare/orders/{code:str}")
async def bare_order(code: FromPath[str], phone: FromQuery[str]) -> Response[TrackedOrder]:
    """Do all but look it up."""
    assert phone_digits(phone, "LK")
    return Response(ORDER, headers={"Cache-Control": "no-store"})


def single_route(database: Database) -> HTTPRouteHandler:
    """Return the route with one insert, and so one commit, a request."""

    @post("/single/hooks/{integration:str}", status_code=202)
    async def single_hook(integration: FromPath[str], request: Request[Any, Any, Any]) -> Receipt:
        events = await _read(request)
        integrations = await _integrations(database)
        accepted = sum(await inbox.accept(database, [(integrations[integration], event) for event in events]))
        return Receipt(accepted=accepted, duplicates=len(events) - accepted)

    return single_hook


_known: dict[str, Any] = {}


async def _integrations(database: Database) -> dict[str, Any]:
    if not _known:
        _known.update({row["slug"]: row["id"] for row in await database.rows("list_integrations")})
    return _known


async def _main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = load_settings()
    assert settings.database_url is not None
    database = Database(settings.database_url, connections=SINGLE_CONNECTIONS)
    app = create_app(settings)
    for route in (bare_hook, bare_order, single_route(database)):
        app.register(route)
    await serve_app(app, "127.0.0.1", 0, stop=stop, listening=_announce)
    await database.close()


def _announce(address: str) -> None:
    sys.stdout.write(f"Listening at {address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_main())
