"""All that the mirror's tables say, row by row, so that two mirrors can be compared.

Left out is what tells of the mirror and not of the shop: our own ids, the batch that was open when an order came, and
the times at which a row was written. A foreign id is replaced by the engine's id of what it points to.
"""

from __future__ import annotations

import json
from typing import Any

import asyncpg

LET_EMPTY = """
    do $$
    declare
        v_table regclass;
        v_trigger name;
    begin
        for v_table, v_trigger in
            select tgrelid::regclass, tgname from pg_trigger
            where tgname in ('keep_rows', 'append_only_truncate') and tgenabled <> 'D'
        loop
            execute format('alter table %s disable trigger %I', v_table, v_trigger);
        end loop;
    end
    $$;
"""
"""Lets a test empty tables, which nobody else can."""

LINKS = "store_id, customer_id, order_summary_id, payment_id, plan_id, subscription_id, batch_id"
WRITING = f"{{id, {LINKS}, joined_batch_at, created_at}}"
TABLES = {
    "customers": "select to_jsonb(t) - 'updated_at' as row, null as owner from public.customers t",
    "customer_addresses": """
        select to_jsonb(t) - 'updated_at', c.source_id
        from public.customer_addresses t left join public.customers c on c.id = t.customer_id""",
    "customer_orders_summary": """
        select to_jsonb(t) - 'updated_at', c.source_id
        from public.customer_orders_summary t left join public.customers c on c.id = t.customer_id""",
    "customer_order_items": """
        select to_jsonb(t) - 'updated_at', o.source_id
        from public.customer_order_items t left join public.customer_orders_summary o on o.id = t.order_summary_id""",
    "order_delivery_status": """
        select to_jsonb(t) - 'updated_at', o.source_id
        from public.order_delivery_status t left join public.customer_orders_summary o on o.id = t.order_summary_id""",
    # Here updated_at is when the stage changed, by the engine's clock.
    "order_delivery_status_events": """
        select to_jsonb(t), o.source_id
        from public.order_delivery_status_events t
        left join public.customer_orders_summary o on o.id = t.order_summary_id""",
    "payments": """
        select to_jsonb(t) - 'updated_at', o.source_id
        from public.payments t left join public.customer_orders_summary o on o.id = t.order_summary_id""",
    "refunds": """
        select to_jsonb(t) - 'updated_at', concat(o.source_id, ' ', p.source_id)
        from public.refunds t
        left join public.customer_orders_summary o on o.id = t.order_summary_id
        left join public.payments p on p.id = t.payment_id""",
    "fulfillments": """
        select to_jsonb(t) - 'updated_at', o.source_id
        from public.fulfillments t left join public.customer_orders_summary o on o.id = t.order_summary_id""",
    "order_events": """
        select to_jsonb(t) - 'updated_at', o.source_id
        from public.order_events t left join public.customer_orders_summary o on o.id = t.order_summary_id""",
    "subscription_plans": "select to_jsonb(t) - 'updated_at', null from public.subscription_plans t",
    "subscriptions": """
        select to_jsonb(t) - 'updated_at', concat(c.source_id, ' ', p.source_id)
        from public.subscriptions t
        left join public.customers c on c.id = t.customer_id
        left join public.subscription_plans p on p.id = t.plan_id""",
    "invoices": """
        select to_jsonb(t) - 'updated_at', concat(o.source_id, ' ', c.source_id, ' ', s.source_id)
        from public.invoices t
        left join public.customer_orders_summary o on o.id = t.order_summary_id
        left join public.customers c on c.id = t.customer_id
        left join public.subscriptions s on s.id = t.subscription_id""",
}
PROVIDERS = {"subscription_plans", "subscriptions", "invoices"}
"""Tables of which only a payment provider tells."""

MIRRORED = "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1"

Contents = dict[str, list[dict[str, Any]]]


async def read_contents(connection: asyncpg.Connection) -> Contents:
    """Return the rows of all mirrored tables, sorted."""
    return {table: await _rows(connection, query) for table, query in TABLES.items()}


async def _rows(connection: asyncpg.Connection, query: str) -> list[dict[str, Any]]:
    content = f"row - '{WRITING}'::text[] || jsonb_build_object('owner', owner)"
    rows = await connection.fetch(f"select ({content})::text from ({query}) as r (row, owner)")
    return [json.loads(text) for text in sorted(row[0] for row in rows)]
