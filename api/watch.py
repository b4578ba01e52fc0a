"""`GET /health/sync` and `GET /metrics`: whether the mirror still follows its engines, for whoever keeps watch.

Both read the same status, at most once a second however many ask. `/health/sync` is for a monitor that calls somebody;
a load balancer asks `/health/ready`, for an engine that is silent is no reason to send its hooks elsewhere. `/metrics`
tells how many orders there are: it is there only with a token.
"""

import secrets
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from litestar import Request, Response, get
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from api import examples
from api.cached import Cached
from api.documented import METRICS, answers, problems
from api.limits.limits import Limits
from api.metrics import registry as counted
from sync.database import Database, Row
from sync.status import Books, Status, Watched, read_status

ALARMS = ("silence", "hooks_not_sent", "reconcile_incomplete", "reconcile_refused")
"""As `mirror.list_alarms()` names them."""


def watch_routes(database: Database, limits: Limits, *, metrics_token: str | None) -> list[HTTPRouteHandler]:
    """Return the routes; that of the metrics only if there is a token for it."""
    status = Cached(lambda: read_status(database))
    texts = Cached(lambda: database.rows("get_sms_usage"))

    @get(
        "/health/sync",
        tags=["health"],
        responses={
            **problems(),
            **answers(dict[str, Any], "The mirror follows its engines.", examples.SYNC),
            **answers(dict[str, Any], "An alarm is on; or as elsewhere.", examples.SYNC_ALARM, status=503),
        },
    )
    async def sync() -> Response[dict[str, Any]]:
        """Say that the mirror follows its engines; 503 while an alarm is on, with its name."""
        alarms = [
            {"integration": alarm.integration, "alarm": alarm.alarm, "since": alarm.since}
            for alarm in (await status.refreshed()).alarms
        ]
        content = {"status": "degraded" if alarms else "ok", "alarms": alarms}
        return Response(content, status_code=503 if alarms else 200)

    @get(
        "/metrics",
        tags=["health"],
        security=[{METRICS: []}],
        media_type=CONTENT_TYPE_LATEST,
        responses={
            **answers(str, "What is counted.", examples.METRICS, media_type=CONTENT_TYPE_LATEST),
            **problems(HTTPStatus.UNAUTHORIZED),
        },
    )
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Say in Prometheus' text format how the mirror does. Send the token as `Authorization: Bearer …`."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), (metrics_token or "").encode()):
            await limits.unsigned(request, "metrics")
            raise NotAuthorizedException("The token of MIRROR_METRICS_TOKEN is missing, or is another one.")
        return Response(render(await status.refreshed(), await texts.refreshed()), media_type=CONTENT_TYPE_LATEST)

    return [sync, metrics] if metrics_token else [sync]


def render(status: Status, texts: Sequence[Row] = ()) -> bytes:
    """Return a status, what texts cost, and what is counted here, as Prometheus' text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Status(status, texts))
    text: bytes = generate_latest(registry) + generate_latest(counted())
    return text


class _Status(Collector):
    def __init__(self, status: Status, texts: Sequence[Row]) -> None:
        self._status = status
        self._texts = texts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        status = self._status
        yield _gauge("mirror_events", "Events in the inbox by what became of them.", "state", status.inbox)
        yield GaugeMetricFamily("mirror_lag_seconds", "Age of the oldest pending event.", status.lag_seconds)
        yield GaugeMetricFamily("mirror_outbox_waiting", "Commands that wait for an engine.", status.outbox_waiting)
        yield _gauge("mirror_rows", "Rows by table; estimated where there are many.", "table", status.tables)
        yield _of_books(status.books)
        yield from _of_integrations(status.integrations)
        yield from _of_texts(self._texts)
        alarms = GaugeMetricFamily("mirror_alarm", "1 while the alarm is on.", labels=("integration", "alarm"))
        on = {(alarm.integration, alarm.alarm) for alarm in status.alarms}
        for watched in status.integrations:
            for name in ALARMS:
                alarms.add_metric((watched.slug, name), (watched.slug, name) in on)
        yield alarms


def _of_books(books: list[Books]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "mirror_books", "Invoices in Lexware Office, by what became of them.", labels=("store", "state")
    )
    for each in books:
        for state in ("waiting", "sent", "skipped", "refused", "to_correct"):
            family.add_metric((each.store, state), getattr(each, state))
    return family


def _of_integrations(integrations: list[Watched]) -> Iterator[GaugeMetricFamily]:
    silence = GaugeMetricFamily("mirror_silence_seconds", "Since the last hook.", labels=("integration",))
    limit = GaugeMetricFamily("mirror_silence_alarm_seconds", "From here on it is an alarm.", labels=("integration",))
    drift = GaugeMetricFamily(
        "mirror_drift", "What the last reconcile found to differ.", labels=("integration", "entity", "kind")
    )
    for watched in integrations:
        for family, seconds in ((silence, watched.silent_seconds), (limit, watched.alarm_seconds)):
            if seconds is not None:
                family.add_metric((watched.slug,), seconds)
        for each in watched.drift:
            for kind in ("missing", "stale", "gone", "never_sent", "differing"):
                drift.add_metric((watched.slug, each.entity, kind), getattr(each, kind))
    yield from (silence, limit, drift)


def _of_texts(texts: Sequence[Row]) -> Iterator[GaugeMetricFamily]:
    for name, meaning, column in (
        ("mirror_sms_spent_today", "What texts have cost in the day that is counted now.", "spent"),
        ("mirror_sms_budget_today", "What they may cost.", "budget"),
        ("mirror_sms_sent_today", "Texts in the day that is counted now.", "sent"),
        ("mirror_sms_limit_today", "Texts that there may be.", "store_limit"),
    ):
        family = GaugeMetricFamily(name, meaning, labels=("store",))
        for row in texts:
            family.add_metric((row["store"],), float(row[column]))
        yield family


def _gauge(name: str, meaning: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family
