"""Who changed what in batches, deliveries and customers' consent: written down for everybody, and changed by nobody."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from sync.database import connect
from tests.database.postgrest import acting_as, authenticator
from tests.database.studio import Studio, studio
from tests.factory import customer_changed, order_changed
from tests.mirror import Mirror
from tests.postgres import TestServer

NOTED = """
    select actor, database_role, action, table_name, old_values, new_values from mirror.audit_log order by id
"""
TAMPERING = (
    "update mirror.audit_log set actor = 'nobody'",
    "delete from mirror.audit_log",
    "truncate mirror.audit_log",
    "truncate public.stores cascade",
    "update public.order_delivery_status_events set updated_by = 'nobody'",
    "delete from public.order_delivery_status_events",
    "truncate public.order_delivery_status_events",
    "delete from public.customer_orders_summary",
    "delete from public.stores",
)


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Studio]:
    """An admin's Studio."""
    async with studio(database) as opened:
        yield opened


@pytest.fixture
async def api(server: TestServer, mirror: Mirror) -> AsyncIterator[asyncpg.Connection]:
    """PostgREST's connection."""
    name = await mirror.connection.fetchval("select current_database()")
    async with authenticator(server.superuser(name)) as connection:
        yield connection


@pytest.fixture
async def batch(connection: asyncpg.Connection) -> UUID:
    """An open batch, from before the test began to look."""
    found: UUID = await connection.fetchval("insert into public.import_batches (name) values ('May') returning id")
    return found


async def noted(connection: asyncpg.Connection, table: str, action: str) -> list[dict[str, Any]]:
    """Return what the audit log says of changes of a table, oldest first."""
    rows = [dict(row) for row in await connection.fetch(NOTED)]
    found = [row for row in rows if (row.pop("table_name"), row.pop("action")) == (table, action)]
    return [row | {side: json.loads(row[side] or "null") for side in ("old_values", "new_values")} for row in found]


async def test_an_admin_s_edit_is_noted_with_the_columns_before_and_after(admin: Studio, batch: UUID) -> None:
    await admin.edit("import_batches", batch, name="June")
    assert await noted(admin.connection, "import_batches", "update") == [
        {
            "actor": "studio",
            "database_role": "postgres",
            "old_values": {"name": "May"},
            "new_values": {"name": "June"},
        }
    ]


async def test_a_cell_saved_as_it_was_is_not_noted(admin: Studio, batch: UUID) -> None:
    await admin.edit("import_batches", batch, name="May")
    assert await noted(admin.connection, "import_batches", "update") == []


async def test_what_follows_from_an_admin_s_edit_is_noted_as_the_admin_s(
    mirror: Mirror, admin: Studio, batch: UUID
) -> None:
    await mirror.take(order_changed("7", 1))
    order = (await mirror.order("7"))["id"]
    await admin.edit("customer_orders_summary", order, batch_id=str(batch))
    await admin.edit("import_batches", batch, status="orderedFromSupplier")
    (joined,) = await noted(admin.connection, "order_batch_assignments", "insert")
    assert (joined["actor"], joined["new_values"]["batch_id"]) == ("studio", str(batch))
    (moved,) = await noted(admin.connection, "order_delivery_status", "update")
    assert (moved["actor"], moved["old_values"]["stage"], moved["new_values"]["stage"]) == (
        "studio", "ORDER_CONFIRMED", "SOURCING",
    )  # fmt: skip
    (status,) = await noted(admin.connection, "import_batches", "update")
    assert set(status["new_values"]) == {"status", "ordered_at"}, "what is counted is nobody's doing"


async def test_of_a_deleted_row_everything_is_kept(mirror: Mirror, admin: Studio, batch: UUID) -> None:
    await mirror.take(order_changed("7", 1))
    order = (await mirror.order("7"))["id"]
    await admin.edit("customer_orders_summary", order, batch_id=str(batch))
    ((assignment,),) = await admin.run("select id from public.order_batch_assignments")
    await admin.delete("order_batch_assignments", assignment)
    (left,) = await noted(admin.connection, "order_batch_assignments", "delete")
    assert left["new_values"] is None
    assert (left["old_values"]["order_summary_id"], left["old_values"]["batch_id"]) == (str(order), str(batch))


async def test_what_the_service_does_is_noted_as_the_service_s(mirror: Mirror, database: str, batch: UUID) -> None:
    await mirror.take(order_changed("7", 1))
    async with connect(database) as door:
        await door.call("move_to_batch", p_order=(await mirror.order("7"))["id"], p_batch=batch)
    (joined,) = await noted(mirror.connection, "order_batch_assignments", "insert")
    assert (joined["actor"], joined["database_role"]) == ("service", "postgres")


@pytest.mark.parametrize(
    ("claims", "actor"), [({"sub": "a-user"}, "api:a-user"), ({}, "api:service_role")], ids=["a user", "the secret key"]
)
async def test_what_comes_through_postgrest_is_noted_with_the_token_s_user(
    api: asyncpg.Connection, batch: UUID, claims: dict[str, str], actor: str
) -> None:
    async with acting_as(api, "service_role", claims):
        await api.execute("update import_batches set notes = 'by air' where id = $1", batch)
        (changed,) = await noted(api, "import_batches", "update")
    assert (changed["actor"], changed["database_role"]) == (actor, "service_role")
    assert changed["new_values"] == {"notes": "by air"}


async def test_what_the_engine_tells_is_noted_as_the_engine_s(mirror: Mirror) -> None:
    await mirror.take_in_turn(order_changed("7", 1), order_changed("7", 2, customFields={"deliveryStage": "SOURCING"}))
    (moved,) = await noted(mirror.connection, "order_delivery_status", "update")
    assert (moved["actor"], moved["old_values"], moved["new_values"]) == (
        "engine:vendure", {"stage": "ORDER_CONFIRMED"}, {"stage": "SOURCING"},
    )  # fmt: skip


async def test_of_a_customer_only_the_consent_is_noted(mirror: Mirror) -> None:
    await mirror.take(customer_changed("1", 1), customer_changed("2", 1, customFields={"marketingConsent": True}))
    await mirror.take(customer_changed("1", 2, firstName="Kumari", customFields={"marketingConsent": True}))
    await mirror.take(customer_changed("2", 2, lastName="Silva", customFields={"marketingConsent": True}))
    (begun,) = await noted(mirror.connection, "customers", "insert")
    assert begun["new_values"] == {"marketing_consent": True, "phone_verified": False, "auth_user_id": None}
    assert await noted(mirror.connection, "customers", "update") == [
        {
            "actor": "engine:vendure",
            "database_role": "postgres",
            "old_values": {"marketing_consent": False},
            "new_values": {"marketing_consent": True},
        }
    ]


async def test_who_opened_a_customer_s_data_to_a_user_is_noted(mirror: Mirror, admin: Studio) -> None:
    await mirror.take(customer_changed("1", 1))
    user = uuid4()
    await admin.run("insert into auth.users (id) values ($1)", user)
    await admin.edit("customers", (await mirror.customer("1"))["id"], auth_user_id=str(user))
    (linked,) = await noted(admin.connection, "customers", "update")
    assert (linked["actor"], linked["old_values"], linked["new_values"]) == (
        "studio", {"auth_user_id": None}, {"auth_user_id": str(user)},
    )  # fmt: skip


async def test_history_is_not_changed_or_removed_even_by_its_owner(mirror: Mirror, batch: UUID) -> None:
    await mirror.take(order_changed("7", 1))
    assert [statement for statement in TAMPERING if not await is_refused(mirror.connection, statement)] == []


async def is_refused(connection: asyncpg.Connection, statement: str) -> bool:
    try:
        await connection.execute(statement)
    except asyncpg.IntegrityConstraintViolationError:
        return True
    return False


async def test_the_refusal_says_what_to_do(connection: asyncpg.Connection, batch: UUID) -> None:
    with pytest.raises(asyncpg.RestrictViolationError) as refused:
        await connection.execute("delete from mirror.audit_log")
    assert refused.value.message == "The history in audit_log is not changed or removed."
    assert refused.value.hint == "Leave it as it is: what happened later is a new row."


async def test_a_statement_is_noted_in_one_step_however_many_rows_it_changes(connection: asyncpg.Connection) -> None:
    by_row = """
        select t.tgrelid::regclass::text from pg_trigger t join pg_proc p on p.oid = t.tgfoid
        where p.proname in ('audit', 'audit_consent') and t.tgtype & 1 = 1
    """
    assert await connection.fetch(by_row) == []
