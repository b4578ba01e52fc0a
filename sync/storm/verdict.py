"""The verdict on a storm: does the mirror equal the shop, and does every count in it hold?

Nothing here trusts the mirror's own sums: what follows from its rows is counted anew, in the most naive way.
"""

from collections.abc import Collection, Sequence
from typing import Any

import asyncpg
import msgspec

from sync import compare
from sync.compare import Difference
from sync.database import Database
from sync.engines.base import Context
from sync.engines.vendure.documents import CustomerDocument, OrderDocument
from sync.records import Entity
from sync.storm import documents
from sync.storm.emitter import Emitter, Tally
from sync.storm.shop import Shop

OFFENDERS_SHOWN = 5

UNSETTLED = "select event_id from mirror.webhook_events where state = 'pending'"
DEAD = "select event_id || ' (' || reason || ')' from mirror.webhook_events where state = 'dead'"
UNTOLD = """
    select o.order_code || ' (' || coalesce(c.reason, 'not tried yet') || ')'
    from mirror.outbox as c
    inner join public.customer_orders_summary as o on o.id = c.order_summary_id
    where c.state = 'pending'
"""
REFUSED = """
    select o.order_code || ' (' || c.reason || ')'
    from mirror.outbox as c
    inner join public.customer_orders_summary as o on o.id = c.order_summary_id
    where c.state = 'dead' and o.deleted_at is null
"""
WRONG_TOTALS = """
    select c.source_id
    from public.customers as c
    left join lateral (
        select
            count(*) as orders, max(o.order_date) as last,
            sum(o.total_with_tax - greatest(
                o.total_refunded + o.refunded_outside - greatest(o.total_paid - o.total_with_tax, 0), 0
            )) as spent
        from public.customer_orders_summary as o
        where o.customer_id = c.id and o.order_code is not null and o.cancelled_at is null and o.deleted_at is null
    ) as counted on true
    where
        (c.total_orders, c.total_spent, c.last_order_date)
        is distinct from (counted.orders, coalesce(counted.spent, 0), counted.last)
"""
WRONG_STAGE_COUNTS = """
    select coalesce(kept.stage, counted.stage)::text
    from (select stage, sum(orders) as orders from mirror.delivery_stage_counts group by stage) as kept
    full join (
        select stage, count(*) as orders from public.order_delivery_status where not is_cancelled group by stage
    ) as counted using (stage)
    where coalesce(kept.orders, 0) <> coalesce(counted.orders, 0)
"""
WRONGLY_ACTIVE = """
    select source_id
    from (
        select
            source_id, is_active, deleted_at is null and row_number() over (
                partition by email, deleted_at is null order by registered_at desc nulls last, source_id desc
            ) = 1 as is_newest
        from public.customers
        where email is not null
    ) as ranked
    where is_active <> is_newest
"""
AUDITS = {
    "events still pending": UNSETTLED,
    "dead letters": DEAD,
    "commands that the shop was not told": UNTOLD,
    "commands that the shop refused": REFUSED,
    "customers whose totals are not those of their orders": WRONG_TOTALS,
    "stages whose count is not that of the deliveries": WRONG_STAGE_COUNTS,
    "customers wrongly active, or wrongly not": WRONGLY_ACTIVE,
}
"""What must not be found in a mirror at rest → where it would be: the first column names the offenders."""

INBOX = "select state::text, count(*) as events from mirror.webhook_events group by state order by state"
STORED = "select event_id from mirror.webhook_events"
LIVE: dict[Entity, str] = {
    "customer": "select source_id from public.customers where deleted_at is null and source_version > '-infinity'",
    "order": "select source_id from public.customer_orders_summary where deleted_at is null",
}
"""What the mirror says is there. A bare reference is not: an order names a customer whom the shop has no more."""


class Verdict(msgspec.Struct, kw_only=True):
    """What was thrown at the mirror, what came of it, and what is wrong."""

    converged: bool
    seconds: float = 0
    """How long the storm lasted."""
    rest_seconds: float = 0
    """How long it took after it until nothing moved."""
    thrown: dict[str, int] = {}
    """What was done to it, and how often."""
    sent: Tally
    inbox: dict[str, int]
    """Events by state."""
    entities: int
    """Customers and orders that were compared, field by field."""
    differences: list[Difference]
    offences: list[str]
    """Sentences: what must not be."""


async def judge(
    database: Database,
    connection: asyncpg.Connection,
    shop: Shop,
    emitter: Emitter,
    tangled: Collection[str] = (),
) -> Verdict:
    """Judge a mirror at rest.

    `tangled` are the ids of orders whose delivery history has more entries than the shop's: admins edited it in the
    mirror, or the shop told an old state as if it were new. Where they are now must agree all the same, but for
    cancelled ones: the shop is not told of them (`docs/decisions/0012-the-way-back-compares-three-values.md`).
    """
    entities, differences = await _compared(database, connection, shop, tangled)
    offences = await _offences(connection, emitter)
    return Verdict(
        converged=not differences and not offences,
        sent=emitter.tally,
        inbox={row["state"]: row["events"] for row in await connection.fetch(INBOX)},
        entities=entities,
        differences=differences,
        offences=offences,
    )


async def _compared(
    database: Database, connection: asyncpg.Connection, shop: Shop, tangled: Collection[str]
) -> tuple[int, list[Difference]]:
    """Compare every entity of the shop and every one of the mirror; return how many, and what differs."""
    rows = await database.rows("list_integrations")
    (row,) = (row for row in rows if row["slug"] == "vendure")
    context = Context(phone_region=row["phone_region"], money_precision=row["money_precision"])
    comparison = await compare.compare(database, row["id"], _documents(shop), context)
    left = [
        Difference(entity, source_id, ["not deleted"])
        for entity, query in LIVE.items()
        for source_id in sorted(set(await _column(connection, query)) - set(shop.documents[entity]))
    ]
    differences = [kept for difference in comparison.differences if (kept := _inexcusable(difference, shop, tangled))]
    return comparison.entities, differences + left


async def _offences(connection: asyncpg.Connection, emitter: Emitter) -> list[str]:
    """Return what must not be, as sentences."""
    found = {name: await _column(connection, query) for name, query in AUDITS.items()}
    stored = await _column(connection, STORED)
    found["events acknowledged and not in the inbox"] = sorted(emitter.acknowledged - set(stored))
    found["events in the inbox that nobody sent"] = sorted(set(stored) - emitter.sent)
    found["requests that should have been refused"] = emitter.wrongly_taken
    sentences = [_sentence(name, offenders) for name, offenders in found.items() if offenders]
    if emitter.tally.accepted > len(stored):
        sentences.append(f"{emitter.tally.accepted:,} events were said to be new, {len(stored):,} are in the inbox")
    return sentences


def _documents(shop: Shop) -> compare.Documents:
    customers = [documents.encode(document) for document in shop.documents["customer"].values()]
    orders = [documents.encode(document) for document in shop.documents["order"].values()]
    return compare.Documents(
        customers=[msgspec.json.decode(document, type=CustomerDocument) for document in customers],
        orders=[msgspec.json.decode(document, type=OrderDocument) for document in orders],
    )


def _inexcusable(difference: Difference, shop: Shop, tangled: Collection[str]) -> Difference | None:
    """Return what is left of a difference when what is as it should be is left out."""
    excused = set()
    if difference.entity == "order" and difference.source_id in tangled:
        excused.add("stages")
        if shop.documents["order"][difference.source_id]["state"] == "Cancelled":
            excused |= {"delivery_stage", "tracking_number"}
    fields = [name for name in difference.fields if name not in excused]
    return msgspec.structs.replace(difference, fields=fields) if fields else None


async def _column(connection: asyncpg.Connection, query: str) -> list[Any]:
    return [row[0] for row in await connection.fetch(query)]


def _sentence(name: str, offenders: Sequence[str]) -> str:
    shown = ", ".join(offenders[:OFFENDERS_SHOWN])
    return f"{len(offenders):,} {name}: {shown}{', …' if len(offenders) > OFFENDERS_SHOWN else ''}"
