"""The rebuilt tables against the live ones: by the engine's ids, content by content.

What cannot be equal is left out: our own ids and times, links to accounts, import batches, and digests. What depends on
more than the entity itself counts only where all of that came from the inbox, too: a customer's totals, which of the
customers with one e-mail address is the active one, the e-mail address that an order has from its customer.

An entity whose present state no stored event brought is not in the inbox. Why, is said of each: a backfill or reconcile
wrote it (its receipt names it), it was read at the engine because its events only name it, the inbox no longer goes
back so far, its event waits to be applied again, only orders like that refer to it. If nothing accounts for it, that
is a difference.
"""

from collections.abc import Collection, Sequence

import asyncpg
import msgspec

from sync.records import Entity

ENTITIES = """
    create temporary table rebuild_{entity} on commit drop as
    select
        coalesce(l.store_id, r.store_id) as store_id, coalesce(l.source::text, r.source::text) as source,
        coalesce(l.source_id, r.source_id) as source_id, l.id as live_id, r.id as rebuilt_id,
        l.source_version as version, greatest(l.source_version, l.deleted_at) as told_at,
        case
            when r.id is null or l.source_version > r.source_version
                or greatest(l.source_version, l.deleted_at) > greatest(r.source_version, r.deleted_at) then 'elsewhere'
            when l.id is null then 'missing'
            when (l.source_version, greatest(l.source_version, l.deleted_at))
                is distinct from (r.source_version, greatest(r.source_version, r.deleted_at))
                then 'older than its event'
        end as verdict
    from {live} as l
    full join {schema}.{table} as r
        on r.store_id = l.store_id and r.source::text = l.source::text and r.source_id = l.source_id
    {named_only}
"""

NAMED = """
    create temporary table rebuild_named (entity text, source_id text) on commit drop
"""

READ = """
    alter table rebuild_{entity} add is_named boolean not null default false;
    update rebuild_{entity} as k
    set
        is_named = true,
        -- Read in the second of its event, it has that event's version and another content.
        verdict = case
            when k.verdict is null and l.source_hash is distinct from r.source_hash then 'elsewhere' else k.verdict
        end
    from {live} as l
    left join {schema}.{table} as r
        on r.store_id = l.store_id and r.source = l.source::text::{schema}.commerce_engine and r.source_id = l.source_id
    where
        l.id = k.live_id
        and exists (select from rebuild_named as n where n.entity = '{entity}' and n.source_id = {name})
"""
"""Of a product the prices are read: they are its plans."""

NAMED_ONLY = (
    "where coalesce(greatest(l.source_version, l.deleted_at), greatest(r.source_version, r.deleted_at)) > '-infinity'"
)
"""A payment that its provider has not told of, but a shop's order names, is no state of anything."""

MONEY = {
    "payment": "provider_payments",
    "refund": "provider_refunds",
    "plan": "subscription_plans",
    "subscription": "subscriptions",
    "invoice": "invoices",
}
"""What a payment provider tells of, as it tells it. What shop and provider come to follows from the two."""

OURS = "id,source_hash,customer_id,order_summary_id,plan_id,subscription_id,created_at,updated_at"

DOCUMENTS = {
    "customer": """
        select to_jsonb(c) - '{{id,auth_user_id,source_hash,created_at,updated_at}}'::text[] || jsonb_build_object(
            'addresses', (
                select jsonb_agg(to_jsonb(a) - '{{id,customer_id,created_at,updated_at}}'::text[] order by a.source_id)
                from {schema}.customer_addresses as a where a.customer_id = c.id
            )
        ) as document
        from {schema}.customers as c where c.id = {id}
    """,
    "order": """
        select to_jsonb(o)
            - '{{id,customer_id,batch_id,joined_batch_at,source_hash,created_at,updated_at}}'::text[]
            || jsonb_build_object(
            'customer', (select c.source_id from {schema}.customers as c where c.id = o.customer_id),
            'items', (
                select jsonb_agg(
                    to_jsonb(i) - '{{id,order_summary_id,created_at,updated_at}}'::text[] order by i.source_id
                )
                from {schema}.customer_order_items as i where i.order_summary_id = o.id
            ),
            'delivery', (
                select to_jsonb(d) - '{{id,order_summary_id,note,eta,created_at,updated_at}}'::text[] - case
                    when has_read_stages
                        then '{{confirmed_at,sourcing_at,arrived_at,dispatched_at,delivered_at,stage_since}}'
                    else '{{}}'
                end::text[]
                from {schema}.order_delivery_status as d where d.order_summary_id = o.id
            ),
            'history', (
                select jsonb_agg(
                    to_jsonb(e) - '{{id,order_summary_id,note,actor,created_at}}'::text[] order by e.source_id
                )
                from {schema}.order_delivery_status_events as e
                where e.order_summary_id = o.id and e.source_id not like 'read %'
            ),
            'payments', (
                select jsonb_agg(
                    jsonb_build_array(
                        p.source_id, p.transaction_id, p.method, p.initiated_at, p.shop_amount, p.shop_currency,
                        p.shop_status, p.shop_state, p.shop_failure_reason, (
                            select jsonb_agg(
                                jsonb_build_array(
                                    f.source_id, f.transaction_id, f.initiated_at, f.shop_amount, f.shop_status,
                                    f.shop_state, f.reason
                                ) order by f.source_id
                            )
                            from {schema}.refunds as f where f.payment_id = p.id and f.shop_amount is not null
                        )
                    ) order by p.source_id
                )
                from {schema}.payments as p where p.order_summary_id = o.id and p.shop_amount is not null
            ),
            'fulfillments', (
                select jsonb_agg(
                    to_jsonb(f) - '{{id,order_summary_id,created_at,updated_at}}'::text[] order by f.source_id
                )
                from {schema}.fulfillments as f where f.order_summary_id = o.id
            ),
            'events', (
                select jsonb_agg(to_jsonb(e) - '{{id,order_summary_id,created_at}}'::text[] order by e.source_id)
                from {schema}.order_events as e where e.order_summary_id = o.id
            )
        ) as document
        from {schema}.customer_orders_summary as o where o.id = {id}
    """,
    **{
        entity: f"""
        select to_jsonb(t) - '{{{{{OURS}}}}}'::text[]
            as document
        from {{schema}}.{table} as t where t.id = {{id}}
    """
        for entity, table in MONEY.items()
    },
}
"""An entity with all its parts. Where the engine keeps no history of stages ("read …"), it depends on the slices which
of them were noted, and so do the times."""

LEFT_OUT = {
    "customer": """
        case when exists (
            select from public.customer_orders_summary as o
            join rebuild_order as e on e.live_id = o.id
            where o.customer_id = k.live_id and e.verdict is not null
        ) or exists (
            select from public.payments as p
            join public.refunds as f on f.payment_id = p.id
            join rebuild_refund as e on e.source_id = f.stripe_refund_id
            where p.customer_id = k.live_id and e.verdict is not null
        ) then '{total_orders,total_spent,spent_by_currency,last_order_date}' else '{}' end::text[]
        || case when exists (
            select from public.customers as c
            join public.customers as other on other.store_id = c.store_id and other.email = c.email
            join rebuild_customer as e on e.live_id = other.id
            where c.id = k.live_id and e.verdict is not null
        ) then '{is_active}' else '{}' end::text[]
    """,
    "order": """
        case when k.is_set_here then '{delivery_stage,tracking_number,delivery,history}' else '{}' end::text[]
        || case when exists (
            select from public.customer_orders_summary as o
            join rebuild_customer as e on e.live_id = o.customer_id
            where o.id = k.live_id and e.verdict is not null
        ) then '{contact_email}' else '{}' end::text[]
        || case when exists (
            select from public.refunds as f
            join rebuild_refund as e on e.source_id = f.stripe_refund_id
            where f.order_summary_id = k.live_id and e.verdict is not null
        ) then '{refunded_outside}' else '{}' end::text[]
    """,
    **dict.fromkeys(MONEY, "'{}'::text[]"),
    "invoice": "case when k.is_named then '{payment_source_id}' else '{}' end::text[]",
}

HISTORIES = """
    alter table rebuild_order add is_set_here boolean, add has_read_stages boolean;
    update rebuild_order as k
    set
        is_set_here = exists (
            select from public.order_delivery_status_events as e
            where
                e.order_summary_id = k.live_id and e.updated_by <> k.source
                and coalesce(e.actor, '') not like 'engine:%'
        ),
        has_read_stages = exists (
            select from public.order_delivery_status_events as e
            where e.order_summary_id = k.live_id and e.source_id like 'read %'
        ) or exists (
            select from {schema}.order_delivery_status_events as e
            where e.order_summary_id = k.rebuilt_id and e.source_id like 'read %'
        )
"""

INDEXES = """
    create index on rebuild_{entity} (live_id);
    analyze rebuild_{entity}
"""

DIFFERENCES = """
    select k.source_id, array(
        select coalesce(l.key, r.key)
        from jsonb_each(live.document - left_out.keys) as l
        full join jsonb_each(rebuilt.document - left_out.keys) as r using (key)
        where l.value is distinct from r.value
        order by 1
    ) as columns
    from rebuild_{entity} as k
    cross join lateral (select {left_out} as keys) as left_out
    cross join lateral ({live}) as live
    cross join lateral ({rebuilt}) as rebuilt
    where k.verdict is null and live.document - left_out.keys <> rebuilt.document - left_out.keys
    union all
    select k.source_id, array[k.verdict] from rebuild_{entity} as k where k.verdict <> 'elsewhere'
    union all
    select o.source_id, array['no event accounts for it'] from elsewhere_{entity} as o where o.reason is null
    order by 1
"""

ELSEWHERE = """
    create temporary table elsewhere_{entity} on commit drop as
    select k.source_id, coalesce(
        case when exists (
            select from mirror.webhook_events as e
            where
                e.integration_id = i.id and e.entity_id = k.source_id and e.event_type like '{entity}.%'
                and e.state <> 'applied'
        ) then 'its event is to be applied again, or was skipped' end,
        {receipt}
        {read}
        case when k.told_at = '-infinity' then 'known from orders that are not in the inbox' end,
        case when k.told_at < (
            select greatest(
                (select max(s.seen_at) from mirror.seen_events as s),
                (select coalesce(min(e.created_at), 'infinity') from mirror.webhook_events as e)
            )
        ) then 'from before the inbox begins: pruned, or older' end
    ) as reason
    from rebuild_{entity} as k
    left join lateral (
        select i.id from mirror.integrations as i
        where i.store_id = k.store_id and i.engine::text = k.source
        order by i.id limit 1
    ) as i on true
    where k.verdict = 'elsewhere'
"""

RECEIPT = """
        (
            select 'by ' || run.kind || ' ' || run.id
            from mirror.sync_runs as run
            join mirror.sync_receipts as receipt on receipt.run_id = run.id and receipt.entity = '{entity}'
            where run.integration_id = i.id and k.source_id = any(receipt.written_ids || receipt.tombstoned_ids)
            order by receipt.id desc limit 1
        ),
"""

READ_THERE = """
        case when k.is_named then 'read at the engine, for its events only name it' end,
"""

TABLES = {"customer": "customers", "order": "customer_orders_summary", **MONEY}
LIVE = {
    entity: f"{'mirror' if table.startswith('provider_') else 'public'}.{table}" for entity, table in TABLES.items()
}


class Difference(msgspec.Struct, frozen=True):
    """An entity that the inbox does not give as it is."""

    entity: str
    source_id: str
    columns: list[str]
    """Which columns or parts differ; or why it could not be compared."""


class Comparison(msgspec.Struct, frozen=True):
    """The outcome, in entities: customers, orders, and what payment providers tell of."""

    equal: int
    differences: list[Difference]
    elsewhere: dict[str, int]
    """How many are not in the inbox, by reason."""
    set_here: int
    """Orders whose stage or tracking number was set here: those columns were not compared."""


async def compare(connection: asyncpg.Connection, schema: str, named: Collection[tuple[Entity, str]]) -> Comparison:
    """Compare within the caller's transaction, which must see one snapshot; `named` was to be read at the engine."""
    await connection.execute(NAMED)
    await connection.copy_records_to_table("rebuild_named", records=named, columns=["entity", "source_id"])
    has_receipts = await connection.fetchval("select to_regclass('mirror.sync_runs') is not null")
    for entity, table in TABLES.items():
        named_only = NAMED_ONLY if entity == "payment" else ""
        live = LIVE[entity]
        await connection.execute(
            ENTITIES.format(entity=entity, table=table, live=live, schema=schema, named_only=named_only)
        )
        if entity in MONEY:
            name = "any(array[l.source_id, l.stripe_product_id])" if entity == "plan" else "l.source_id"
            await connection.execute(READ.format(entity=entity, table=table, live=live, schema=schema, name=name))
        await connection.execute(INDEXES.format(entity=entity))
        receipt = RECEIPT.format(entity=entity) if has_receipts else ""
        await connection.execute(
            ELSEWHERE.format(entity=entity, receipt=receipt, read=READ_THERE if entity in MONEY else "")
        )
    await connection.execute(HISTORIES.format(schema=schema))
    differences = [d for entity in TABLES for d in await _differences(connection, entity, schema)]
    reasons = " union all ".join(f"select reason from elsewhere_{entity} where reason is not null" for entity in TABLES)
    elsewhere = await connection.fetch(f"select reason, count(*) from ({reasons}) as e group by 1 order by 1")
    total = sum([await connection.fetchval(f"select count(*) from rebuild_{entity}") for entity in TABLES])
    not_in = {row["reason"]: row["count"] for row in elsewhere}
    return Comparison(
        equal=total - len(differences) - sum(not_in.values()),
        differences=differences,
        elsewhere=not_in,
        set_here=await connection.fetchval("select count(*) from rebuild_order where is_set_here and verdict is null"),
    )


async def _differences(connection: asyncpg.Connection, entity: str, schema: str) -> Sequence[Difference]:
    query = DIFFERENCES.format(
        entity=entity,
        left_out=LEFT_OUT[entity],
        live=DOCUMENTS[entity].format(schema=LIVE[entity].partition(".")[0], id="k.live_id"),
        rebuilt=DOCUMENTS[entity].format(schema=schema, id="k.rebuilt_id"),
    )
    return [Difference(entity, row["source_id"], list(row["columns"])) for row in await connection.fetch(query)]
