"""The API put together: what it is made of and what it opens and closes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components

from api.answers import exception_handlers
from api.auth_hooks import send_sms_route
from api.documented import SECURITY
from api.edge.cors import Cors
from api.edge.door import Door
from api.edge.headers import SecurityHeaders
from api.health import live, readiness_route
from api.hooks import hook_route
from api.integrations import Integrations
from api.limits.limits import Limits
from api.metrics import observe_request
from api.otp import Otp, otp_routes, require_json
from api.pages.routes import pages_router
from api.settings import load_edge_settings
from api.sms.outbox import Outbox
from api.stores import Stores
from api.tokens import Tokens
from api.tracking.lookups import Lookups
from api.tracking.orders import Orders
from api.tracking.routes import tracking_routes
from api.tracking.streams import Streams
from api.tracking.watch import Watch
from api.viewer import Viewer, viewer_router
from api.watch import watch_routes
from sync.database import Database
from sync.intake import Intake
from sync.links import Links, passing_secret
from sync.settings import Settings, SettingsError

OTP_CONNECTIONS = 2
"""Codes have connections of their own: however many are asked for, hooks never wait behind them."""

MAX_BODY_BYTES = 16 * 1024
"""Of whatever takes a body, unless its route says otherwise."""

VERSION = "1"
"""Of the interface, not of the program: it changes when an answer changes its meaning."""


def create_app(settings: Settings) -> Litestar:
    """Return the API. Its start fails with SettingsError if an active integration lacks its secrets.

    Raises:
        SettingsError: something is missing or wrong in the environment.
    """
    if settings.database is None:
        raise SettingsError("The environment is not right:\n  DATABASE_URL: not set; the API needs a database.")
    database = Database(settings.database, connections=settings.database_connections)
    intake = Intake(database)
    integrations = Integrations(database)
    edge = load_edge_settings()
    otp_database = Database(settings.database, connections=OTP_CONNECTIONS)
    stores, outbox = Stores(otp_database), Outbox(edge.routes, otp_database)
    tokens = Tokens(edge.token) if edge.token else None
    otp = Otp(otp_database, outbox, tokens, stores, bcrypt_cost=edge.bcrypt_cost)

    limits = Limits(database, edge.quotas, edge.trusted_proxies)
    links = Links(edge.link_secrets or (passing_secret(),))
    lookups = Lookups(database)
    orders = Orders(lookups, stores, links, tokens, limits)
    watch = Watch(database, orders, poll_seconds=settings.poll_seconds)
    streams = Streams(watch, total=edge.streams, of_client=edge.streams_per_client)

    @asynccontextmanager
    async def opened(_: Litestar) -> AsyncIterator[None]:
        try:
            await integrations.check()
            yield
            await watch.close()
            await lookups.close()
            await intake.close()
            await outbox.close()
        finally:
            otp.close()
            await otp_database.close()
            await database.close()

    app = Litestar(
        [
            hook_route(integrations, intake, limits, max_body_bytes=settings.max_body_bytes),
            Router(
                "/",
                route_handlers=tracking_routes(orders, streams, edge.trusted_proxies),
                guards=[limits.tracking()],
            ),
            pages_router(orders, stores, links, limits.tracking()),
            Router("/", route_handlers=otp_routes(otp, edge), guards=[limits.codes(), require_json]),
            send_sms_route(otp_database, outbox, stores, edge, limits),
            live,
            readiness_route(database, lag_seconds=edge.ready_lag_seconds),
            *watch_routes(database, limits, metrics_token=settings.metrics_token),
        ],
        lifespan=[opened],
        exception_handlers=exception_handlers(),
        logging_config=None,
        openapi_config=_document(),
        request_max_body_size=MAX_BODY_BYTES,
        # `stopping` is set by the server, once it is told to stop: whatever streams answers has to look.
        state=State({"max_connections": edge.max_connections, "stopping": asyncio.Event()}),
    )
    # Not a middleware of Litestar's, which would see no request that has no route.
    app.asgi_handler = Door(
        app.asgi_handler,
        security=SecurityHeaders(hsts_seconds=edge.hsts_seconds),
        cors=Cors(stores),
        observe=observe_request,
    )
    return app


def _document() -> OpenAPIConfig:
    """Return how the API describes itself."""
    return OpenAPIConfig(
        title="commerce-mirror",
        version=VERSION,
        description="Takes a shop's hooks, proves phone numbers, tells customers where their order is.",
        render_plugins=[Viewer(), JsonRenderPlugin()],
        openapi_router=viewer_router(),
        components=Components(security_schemes=SECURITY),
        use_handler_docstrings=True,
    )
