"""Whose rows are whose: what the rules of `docs/access.md` mean for customers, in the transactions of their tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.database.postgrest import acting_as, authenticator
from tests.factory import address, customer_changed, customer_deleted, order_changed, order_deleted, payment, refund
from tests.mirror import Mirror
from tests.postgres import TestServer

PHONE = "94771234567"
OWN = {
    "customers": 1,
    "customer_addresses": 2,
    "customer_orders_summary": 1,
    "customer_order_items": 1,
    "order_delivery_status": 1,
    "order_delivery_status_events": 1,
    "customer_payments": 1,
    "customer_refunds": 1,
}
NOTHING = dict.fromkeys(OWN, 0)


@pytest.fixture
async def api(server: TestServer, mirror: Mirror) -> AsyncIterator[asyncpg.Connection]:
    """PostgREST's connection to the mirror's database."""
    name = await mirror.connection.fetchval("select current_database()")
    async with authenticator(server.superuser(name)) as connection:
        yield connection


@pytest.fixture
async def nimal(mirror: Mirror) -> UUID:
    """The user of customer 1, who has two addresses and an order; customer 2 has as much, and no user."""
    for customer in ("1", "2"):
        await become_customer(mirror, customer)
    user = uuid4()
    await mirror.connection.execute("insert into auth.users (id) values ($1)", user)
    await mirror.connection.execute("update public.customers set auth_user_id = $1 where source_id = '1'", user)
    return user


async def become_customer(mirror: Mirror, customer: str, **fields: Any) -> None:
    addresses = [address(f"{customer}0"), address(f"{customer}1")]
    await mirror.take(
        customer_changed(customer, 1, addresses=addresses, **fields),
        order_changed(customer, 1, customer={"id": customer}, payments=[payment("1", refunds=[refund("1", 100)])]),
    )


async def seen(api: asyncpg.Connection, **claims: Any) -> dict[str, int]:
    """Count what a user with these claims sees of each table."""
    async with acting_as(api, "authenticated", claims, method="GET"):
        return {table: await api.fetchval(f"select count(*) from {table}") for table in OWN}


async def proved(mirror: Mirror, store: str = "default", phone: str = PHONE) -> dict[str, str]:
    """Return the claims of somebody who proved a phone number in a store."""
    found = await mirror.connection.fetchval("select id from public.stores where slug = $1", store)
    return {"sub": str(uuid4()), "mirror_store": str(found), "mirror_phone": phone}


async def test_customers_see_their_own_rows_and_no_others(mirror: Mirror, api: asyncpg.Connection, nimal: UUID) -> None:
    assert await seen(api, sub=str(nimal)) == OWN
    async with acting_as(api, "authenticated", {"sub": str(nimal)}, method="GET"):
        assert await api.fetchval("select source_id from customers") == "1"
        assert await api.fetchval("select order_code from order_tracking") == "CODE1"


async def test_users_who_are_no_customers_see_nothing(api: asyncpg.Connection, nimal: UUID) -> None:
    assert await seen(api, sub=str(uuid4())) == NOTHING
    assert await seen(api) == NOTHING


async def test_a_deleted_order_is_seen_no_more_nor_are_its_parts_but_what_was_paid_is(
    mirror: Mirror, api: asyncpg.Connection, nimal: UUID
) -> None:
    await mirror.take(order_deleted("1", 2))
    left = {"customers": 1, "customer_addresses": 2, "customer_payments": 1, "customer_refunds": 1}
    assert await seen(api, sub=str(nimal)) == NOTHING | left


async def test_a_deleted_customer_sees_nothing(mirror: Mirror, api: asyncpg.Connection, nimal: UUID) -> None:
    await mirror.take(customer_deleted("1", 2))
    assert await seen(api, sub=str(nimal)) == NOTHING


async def test_one_user_may_be_several_customers(mirror: Mirror, api: asyncpg.Connection, nimal: UUID) -> None:
    await mirror.connection.execute("update public.customers set auth_user_id = $1", nimal)
    assert await seen(api, sub=str(nimal)) == {table: 2 * rows for table, rows in OWN.items()}


async def test_a_proved_phone_opens_what_belongs_to_it(mirror: Mirror, api: asyncpg.Connection) -> None:
    await become_customer(mirror, "1", phoneNumber="077 123 4567", customFields={"phoneVerified": True})
    await become_customer(mirror, "2", phoneNumber="077 765 4321", customFields={"phoneVerified": True})
    assert await seen(api, **await proved(mirror)) == OWN


async def test_a_phone_that_its_customer_only_entered_opens_nothing(mirror: Mirror, api: asyncpg.Connection) -> None:
    await become_customer(mirror, "1", phoneNumber="077 123 4567")
    assert await seen(api, **await proved(mirror)) == NOTHING


async def test_a_phone_that_was_proved_in_another_store_opens_nothing(mirror: Mirror, api: asyncpg.Connection) -> None:
    await become_customer(mirror, "1", phoneNumber="077 123 4567", customFields={"phoneVerified": True})
    await mirror.connection.execute("""
        insert into public.stores (slug, name, currency, phone_region, timezone, locale)
        values ('second', 'Second shop', 'LKR', 'LK', 'Asia/Colombo', 'en')
    """)
    assert await seen(api, **await proved(mirror, "second")) == NOTHING


@pytest.mark.parametrize("missing", ["mirror_store", "mirror_phone"])
async def test_half_a_proof_opens_nothing(mirror: Mirror, api: asyncpg.Connection, missing: str) -> None:
    await become_customer(mirror, "1", phoneNumber="077 123 4567", customFields={"phoneVerified": True})
    claims = await proved(mirror)
    del claims[missing]
    assert await seen(api, **claims) == NOTHING


MANY_CUSTOMERS = """
    insert into public.customers (store_id, source, source_id, source_version, phone_number, phone_verified, is_active)
    select s.id, 'vendure', 'many ' || n, '-infinity', '9470' || n, true, true
    from public.stores as s cross join generate_series(1000, 3999) as n
"""
MANY_ADDRESSES = """
    insert into public.customer_addresses (
      store_id, customer_id, source, source_id, source_version, address_type, is_default)
    select c.store_id, c.id, c.source, c.source_id, c.source_version, 'both', true from public.customers c
    where c.source_id like 'many %'
"""
MANY_ORDERS = """
    insert into public.customer_orders_summary (
      store_id, customer_id, source, source_id, source_version, order_code, order_state, order_date, currency,
      sub_total, shipping, tax, discount, total, total_with_tax, total_paid, total_refunded)
    select c.store_id, c.id, c.source, c.source_id, now(), c.source_id, 'Shipped', now(), 'LKR', 1, 0, 0, 0, 1, 1, 1, 0
    from public.customers c where c.source_id like 'many %'
"""
MANY_ITEMS = """
    insert into public.customer_order_items (
      store_id, order_summary_id, source_id, source_version, product_name, variant_name, quantity, currency,
      unit_price_with_tax, line_total_with_tax)
    select o.store_id, o.id, '1', now(), 'Kit', 'M', 1, 'LKR', 1, 1 from public.customer_orders_summary o
    where o.source_id like 'many %'
"""
MANY_PAYMENTS = """
    insert into public.payments (
      store_id, order_summary_id, customer_id, source, source_id, source_version, amount, currency, status, shop_amount)
    select o.store_id, o.id, o.customer_id, o.source, '1', now(), 1, 'LKR', 'paid', 1
    from public.customer_orders_summary o where o.source_id like 'many %'
"""
MANY_REFUNDS = """
    insert into public.refunds (
      store_id, payment_id, order_summary_id, source, source_id, source_version, amount, currency, status, shop_amount)
    select p.store_id, p.id, p.order_summary_id, p.source, 'many', now(), 1, 'LKR', 'succeeded', 1
    from public.payments p
"""


async def test_a_customer_s_rows_are_found_through_indexes_however_many_there_are(
    mirror: Mirror, api: asyncpg.Connection, nimal: UUID
) -> None:
    for statement in (MANY_CUSTOMERS, MANY_ADDRESSES, MANY_ORDERS, MANY_ITEMS, MANY_PAYMENTS, MANY_REFUNDS, "analyze"):
        await mirror.connection.execute(statement)
    for claims in ({"sub": str(nimal)}, await proved(mirror, phone="94702000")):
        async with acting_as(api, "authenticated", claims, method="GET"):
            for table in [*OWN, "order_tracking"]:
                plan = json.loads(await api.fetchval(f"explain (format json) select * from {table}"))[0]["Plan"]
                whole = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
                assert whole == set(), f"{table} is read by reading all of these: {json.dumps(plan, indent=1)}"


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]
