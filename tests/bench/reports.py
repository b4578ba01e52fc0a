"""How long one waits for a report: statistics, tracking and a customer's own orders, in a shop of any size.

Each question is asked many times, of a different batch, order or customer each time, over one connection; the figure
is the median, in milliseconds. `find_scans` runs each question once and looks at the plans of all that it runs inside,
so that no fast machine hides a table that is read from end to end.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec

from tests.bench.large_shop import make_large_shop
from tests.postgres import TestServer

TIMES = 51
BIG = 10_000
"""A table of so many rows is never read from end to end to answer a question."""

Plan = dict[str, Any]


class Report(msgspec.Struct, frozen=True):
    """A question, and what it is asked about, if anything: a statement that gives its parameters, a row each time."""

    question: str
    about: str | None = None
    is_asked_by_customer: bool = False
    """Then the parameter is who asks: the user's id, as in the token that PostgREST would be given."""


SAMPLE = "order by md5(id::text) limit $1"
REPORTS = {
    "batch_statistics_ms": Report(
        "select * from public.get_batch_statistics($1)", f"select id from public.import_batches {SAMPLE}"
    ),
    "track_order_ms": Report(
        "select told from mirror.track_orders('{default}', array[$1], '{phone}', array[$2])",
        f"select order_code, contact_phone from public.customer_orders_summary {SAMPLE}",
    ),
    "delivery_statistics_ms": Report("select * from public.get_delivery_statistics(now() - interval '90 days', now())"),
    "attention_page_ms": Report("select * from public.orders_needing_attention limit 100"),
    "own_orders_rls_ms": Report(
        "select * from public.customer_orders_summary order by order_date desc",
        f"select auth_user_id::text from public.customers {SAMPLE}",
        is_asked_by_customer=True,
    ),
}


async def measure_reports(server: TestServer, orders: int) -> dict[str, float]:
    """Make a shop of so many orders and return how long each report takes, in milliseconds.

    Raises:
        RuntimeError: a report reads a big table from end to end.
    """
    name = await asyncio.to_thread(server.create)
    await make_large_shop(server, name, orders)
    for key, report in REPORTS.items():
        if scanned := await find_scans(server.superuser(name), report):
            raise RuntimeError(f"{key} reads {', '.join(sorted(scanned))} from end to end: it lacks an index")
    connection = await asyncpg.connect(server.owner(name))
    took = {key: await _median(connection, report) for key, report in REPORTS.items()}
    await connection.close()
    return took


async def find_scans(superuser_dsn: str, report: Report) -> set[str]:
    """Return the big tables that a report reads from end to end, in any statement that runs inside it."""
    connection = await asyncpg.connect(superuser_dsn)
    plans: list[Plan] = []
    big = set(await _column(connection, "select relname from pg_class where relkind = 'r' and reltuples >= $1", BIG))
    asked = await _asked(connection, report, 1)
    connection.add_log_listener(lambda _, message: plans.extend(_plans_in(message.message)))
    for setting in ("log_min_duration = 0", "log_nested_statements = on", "log_format = json"):
        await connection.execute(f"load 'auto_explain'; set auto_explain.{setting}")
    await connection.execute("set client_min_messages = log; set role postgres")
    await _ask(connection, report, asked[0])
    await connection.close()
    if not plans:
        raise RuntimeError("Postgres told no plans: is auto_explain installed?")
    return {node["Relation Name"] for plan in plans for node in _nodes(plan) if node["Node Type"] == "Seq Scan"} & big


async def _median(connection: asyncpg.Connection, report: Report) -> float:
    asked = await _asked(connection, report, TIMES)
    await _ask(connection, report, asked[0])  # warm
    return statistics.median([await _ask(connection, report, about) for about in asked])


async def _asked(connection: asyncpg.Connection, report: Report, times: int) -> list[tuple[Any, ...]]:
    if report.about is None:
        return [()] * times
    return [tuple(row) for row in await connection.fetch(report.about, times)]


async def _ask(connection: asyncpg.Connection, report: Report, about: tuple[Any, ...]) -> float:
    """Ask once, in a transaction as PostgREST has it; return the milliseconds until the answer is here."""
    async with connection.transaction():
        if report.is_asked_by_customer:
            claims = json.dumps({"role": "authenticated", "sub": about[0]})
            await connection.fetch(
                "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)", claims
            )
        started = time.perf_counter()
        rows = await connection.fetch(report.question, *(() if report.is_asked_by_customer else about))
        elapsed = time.perf_counter() - started
    if not rows or rows[0][0] is None:
        raise RuntimeError(f"no answer to {report.question} about {about}")
    return elapsed * 1000


def _plans_in(message: str | None) -> Iterator[Plan]:
    _, found, plan = (message or "").partition("plan:\n")
    if found:
        yield json.loads(plan)["Plan"]


def _nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


async def _column(connection: asyncpg.Connection, query: str, *arguments: object) -> list[str]:
    return [row[0] for row in await connection.fetch(query, *arguments)]
