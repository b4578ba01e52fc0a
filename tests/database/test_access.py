"""Who sees what: customers their own rows, strangers nothing, and nobody but the service writes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.contents import TABLES
from tests.factory import address, customer_changed, customer_deleted, order_changed, order_deleted
from tests.mirror import Mirror

MACHINERY = ["public.stores", "mirror.integrations", "mirror.webhook_events"]
ALL = [f"public.{name}" for name in TABLES] + MACHINERY
WRITES = ["insert into {} default values", "update {} set updated_at = now()", "delete from {}", "truncate {}"]
OWN = {
    "customers": 1,
    "customer_addresses": 2,
    "customer_orders_summary": 1,
    "customer_order_items": 1,
    "order_delivery_status": 1,
    "order_delivery_status_events": 1,
}


@asynccontextmanager
async def acting_as(connection: asyncpg.Connection, role: str, user: UUID | None = None) -> AsyncIterator[None]:
    """Do what follows as PostgREST does for a token, and undo it."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        claims = json.dumps({"sub": str(user), "role": role} if user else {"role": role})
        await connection.execute("select set_config('request.jwt.claims', $1, true)", claims)
        await connection.execute(f"set local role {role}")
        yield
    finally:
        await transaction.rollback()


@pytest.fixture
async def nimal(mirror: Mirror) -> UUID:
    """The user of customer 1, who has two addresses and an order; customer 2 has as much, and no user."""
    for customer in ("1", "2"):
        addresses = [address(f"{customer}0"), address(f"{customer}1")]
        await mirror.take(
            customer_changed(customer, 1, addresses=addresses), order_changed(customer, 1, customer={"id": customer})
        )
    user = uuid4()
    await mirror.connection.execute("insert into auth.users (id) values ($1)", user)
    await mirror.connection.execute("update public.customers set auth_user_id = $1 where source_id = '1'", user)
    return user


async def seen(connection: asyncpg.Connection) -> dict[str, int]:
    return {table: await connection.fetchval(f"select count(*) from public.{table}") for table in TABLES}


async def test_customers_see_their_own_rows_and_no_others(mirror: Mirror, nimal: UUID) -> None:
    async with acting_as(mirror.connection, "authenticated", nimal):
        assert await seen(mirror.connection) == OWN
        assert await mirror.column("select source_id from public.customers") == ["1"]
        assert await mirror.column("select order_code from public.order_delivery_status") == ["CODE1"]


async def test_users_who_are_no_customers_see_nothing(mirror: Mirror, nimal: UUID) -> None:
    async with acting_as(mirror.connection, "authenticated", uuid4()):
        assert set((await seen(mirror.connection)).values()) == {0}
    async with acting_as(mirror.connection, "authenticated"):
        assert set((await seen(mirror.connection)).values()) == {0}


async def test_a_deleted_order_is_seen_no_more_nor_are_its_parts(mirror: Mirror, nimal: UUID) -> None:
    await mirror.take(order_deleted("1", 2))
    async with acting_as(mirror.connection, "authenticated", nimal):
        expected = dict.fromkeys(OWN, 0) | {"customers": 1, "customer_addresses": 2}
        assert await seen(mirror.connection) == expected


async def test_a_deleted_customer_sees_nothing(mirror: Mirror, nimal: UUID) -> None:
    await mirror.take(customer_deleted("1", 2))
    async with acting_as(mirror.connection, "authenticated", nimal):
        assert set((await seen(mirror.connection)).values()) == {0}


async def refused(mirror: Mirror, statement: str, role: str, user: UUID | None = None) -> bool:
    """Tell whether a role may not do this."""
    async with acting_as(mirror.connection, role, user):
        try:
            await mirror.connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            return True
        return False


async def test_strangers_may_not_even_ask(mirror: Mirror) -> None:
    allowed = [table for table in ALL if not await refused(mirror, f"select from {table}", "anon")]
    assert allowed == []


async def test_customers_may_not_ask_for_machinery(mirror: Mirror, nimal: UUID) -> None:
    allowed = [name for name in MACHINERY if not await refused(mirror, f"select from {name}", "authenticated", nimal)]
    assert allowed == []


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_nobody_writes(mirror: Mirror, nimal: UUID, role: str) -> None:
    statements = [statement.format(table) for table in ALL for statement in WRITES]
    allowed = [statement for statement in statements if not await refused(mirror, statement, role, nimal)]
    assert allowed == []


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_nobody_calls_the_machinery(mirror: Mirror, role: str) -> None:
    callable_by_role = """
        select p.oid::regprocedure::text
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('mirror', 'public') and has_function_privilege($1, p.oid, 'execute')
    """
    assert await mirror.column(callable_by_role, role) == []
    assert await mirror.column("select has_schema_privilege($1, 'mirror', 'usage')", role) == [False]


async def test_the_service_sees_and_writes_everything(mirror: Mirror, nimal: UUID) -> None:
    async with acting_as(mirror.connection, "service_role"):
        assert await mirror.column("select source_id from public.customers order by 1") == ["1", "2"]
        assert await mirror.column("select count(*) from mirror.webhook_events") == [4]
        assert await mirror.column("select (mirror.get_status() #>> '{tables,customers}')::int") == [2]
        await mirror.connection.execute("update public.customers set first_name = 'Kumari'")
