"""Everything that `access.py` writes down is so, tried in PostgREST's transactions and read in the catalogs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from sync.database import connect
from sync.records import Record
from tests.database.access import (
    LINKED_USER,
    OPERATIONS,
    OTHER_USER,
    PEOPLE,
    PHONE,
    RELATIONS,
    SERVICE_FUNCTIONS,
    TRIGGER_FUNCTIONS,
    Access,
    Person,
)
from tests.database.access_page import PAGE, render
from tests.database.postgrest import acting_as, authenticator
from tests.factory import address, at, customer_changed, fulfillment, order_changed, payment, transition
from tests.mirror import Mirror
from tests.postgres import TestServer
from tests.provider import Provider, invoice, paid, plan, refunded, subscription

FUNCTIONS = SERVICE_FUNCTIONS + TRIGGER_FUNCTIONS
ADD_IT = (
    "These are in no row of the access matrix. Say in tests/database/access.py who may do what with them (and grant "
    "just that in sql/), then run `uv run task docs:access`."
)
REMOVE_IT = "These are in the access matrix, but not in the database: take them out of tests/database/access.py."
FILL_IT = "has no rows that could be seen, or not for customers 1 and 2: put some into THE_REST_OF_THE_SHOP above."

THE_REST_OF_THE_SHOP = """
    update public.customers set auth_user_id = '{linked}' where source_id = '1';
    update public.customers set auth_user_id = '{other}' where source_id = '2';
    insert into public.import_batches (name) values ('October'), ('November');
    update public.customer_orders_summary set batch_id = (select min(id::text)::uuid from public.import_batches)
    where source_id = '1';
    select public.export_supplier_purchase_list(batch_id) from public.order_batch_assignments;
    update public.order_delivery_status set stage = 'SOURCING' where order_code = 'CODE1';
    update public.order_delivery_status set stage = 'DISPATCHED' where order_code = 'CODE2';
    insert into mirror.delivery_norms (store_id, stage, usual_hours) select id, 'SOURCING', 24 from public.stores;
    insert into mirror.expected_steps (store_id, stage, is_of_batches, next_stage, median_hours, p90_hours, based_on)
    select id, 'SOURCING', false, 'ARRIVED', 24, 48, 5 from public.stores;
    insert into public.otp_sessions (session_id, phone, purpose, otp_hash, expires_at)
    values ('s', '94771234567', 'tracking', '$2b$12$', now());
    insert into mirror.request_counts (scope, subject, used, ends_at) values ('tracking', 'hash', 1, now());
    insert into mirror.otp_usage (store_id, scope, subject, used, ends_at)
    select id, 'store day', '', 1, now() from public.stores;
    insert into mirror.sms_deliveries (store_id, purpose, phone_hash, segments, reserved)
    select id, 'login', 'hash', 1, 1 from public.stores;
    insert into mirror.seen_events (integration_id, event_id, seen_at) select id, 'x', now() from mirror.integrations;
    insert into mirror.sync_conflicts (
      store_id, integration_id, order_summary_id, order_code, engine_stage, engine_changed_at, mirror_stage,
      mirror_changed_at, mirror_changed_by)
    select store_id, integration_id, order_summary_id, 'CODE1', 'ARRIVED', now(), 'SOURCING', now(), 'studio'
    from mirror.outbox limit 1;
    update public.customers set first_name = 'Mallory' where source_id = '3';
    select mirror.begin_run(id, 'reconcile', '{{"entities": ["order"]}}', id, 20) from mirror.integrations;
    insert into mirror.sync_seen (run_id, entity, source_id, slice) select id, 'order', '1', 0 from mirror.sync_runs;
    select mirror.write_slice(id, claimed_by,
      '{{"entity": "order", "slice": 0, "counted": 0, "read_at": "2026-11-20Z"}}', null)
    from mirror.sync_runs;
    select mirror.sum_up(id, claimed_by, 'order', 0) from mirror.sync_runs;
    insert into mirror.hook_gaps (integration_id, day, hooks, longest)
    select id, current_date, 1, '1 minute' from mirror.integrations;
    insert into public.lexoffice_sync_logs (store_id, invoice_id, status, reason, settled_at)
    select store_id, id, 'refused', 'it has no number', now() from public.invoices;
    insert into mirror.hook_pulse (integration_id, last_id, last_at) select id, id, now() from mirror.integrations;
"""


async def open_shop(dsn: str) -> None:
    """Fill every table: customer 1 proved a phone, 2 another one, and 3 entered the phone of 1."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.executemany("insert into auth.users (id) values ($1)", [(LINKED_USER,), (OTHER_USER,)])
        async with connect(dsn, connections=1) as door:
            mirror = await Mirror.over(door, connection)
            await mirror.take(
                *_customer("1", PHONE, True), *_customer("2", "94779999999", True), *_customer("3", PHONE, False)
            )
            await (await Provider.over(door, connection)).tell(*_money("1"), *_money("2"))
        await connection.execute(THE_REST_OF_THE_SHOP.format(linked=LINKED_USER, other=OTHER_USER))
    finally:
        await connection.close()


def _customer(number: str, phone: str, is_verified: bool) -> list[dict[str, Any]]:
    books = [address(f"{number}0"), address(f"{number}1")]
    fields = {"phoneNumber": f"+{phone}", "customFields": {"phoneVerified": is_verified}, "addresses": books}
    placed = at(-100 * 24 * 3600)  # so long ago that whoever has not moved since is stuck
    history = {"items": [transition(number, "AddingItems", "PaymentSettled", 1)]}
    return [
        customer_changed(number, 1, **fields),
        order_changed(
            number,
            1,
            customer={"id": number},
            orderPlacedAt=placed,
            fulfillments=[fulfillment(number)],
            payments=[payment("1", transactionId=f"pi_{number}")],
            history=history,
        ),
    ]


def _money(number: str) -> list[Record]:
    """Return a customer's payment that shop and provider disagree about, a refund, a subscription and two invoices."""
    return [
        paid(f"pi_{number}", amount=Decimal(900)),
        refunded(f"re_{number}", f"pi_{number}", "100"),
        plan(f"price_{number}"),
        subscription(f"sub_{number}", customer_source_id=number, plan_source_id=f"price_{number}"),
        invoice(f"in_{number}", order_code=f"CODE{number}"),
        invoice(f"in_{number}_draft", order_code=f"CODE{number}", status="draft"),
    ]


@pytest.fixture(scope="module")
def dsn(server: TestServer, migrated_template: str) -> Iterator[str]:
    """A database in which every table has rows: its superuser's DSN. Whoever changes it undoes it."""
    name = server.create(template=migrated_template)
    asyncio.run(open_shop(server.owner(name)))
    yield server.superuser(name)
    server.drop(name)


FIRST_COLUMN = "select attname::text from pg_attribute where attrelid = $1::text::regclass and attnum = 1"
COLUMNS = (
    "select attname::text from pg_attribute where attrelid = $1::text::regclass and attnum > 0 and not attisdropped"
)
CALLS = """
    select n.nspname || '.' || p.proname, format('%s.%I(%s)', n.nspname, p.proname, (
      select string_agg('null::' || format_type(a.type, null), ', ' order by a.position)
      from unnest(p.proargtypes::oid[]) with ordinality as a (type, position)
    ))
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('public', 'mirror')
    order by 2
"""
OBJECTS = """
    select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('public', 'mirror') and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select n.nspname || '.' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('public', 'mirror')
"""
# Who has which right, but for the owner, and but for Supabase's own on the schema public.
GRANTS = """
    select o.name, coalesce(r.rolname::text, 'public'), lower(g.privilege_type)
    from (
      select n.nspname || '.' || c.relname, c.relowner, coalesce(c.relacl, acldefault('r', c.relowner))
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname in ('public', 'mirror') and c.relkind in ('r', 'p', 'v', 'm', 'f')
      union all
      select n.nspname || '.' || c.relname || '.' || a.attname, c.relowner, a.attacl
      from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
      where n.nspname in ('public', 'mirror') and a.attacl is not null
      union all
      select n.nspname || '.' || p.proname, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname in ('public', 'mirror')
      union all
      select n.nspname, n.nspowner, n.nspacl from pg_namespace n where n.nspname = 'mirror'
    ) as o (name, owner, acl)
    cross join lateral aclexplode(o.acl) as g
    left join pg_roles r on r.oid = g.grantee
    where g.grantee <> o.owner
"""
SAFETY = """
    select n.nspname || '.' || c.relname, c.relkind = 'v',
      case c.relkind when 'v' then coalesce('security_invoker=true' = any(c.reloptions), false)
      else c.relrowsecurity and c.relforcerowsecurity end
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('public', 'mirror') and c.relkind in ('r', 'p', 'v', 'm', 'f')
"""
DEFINERS = """
    select n.nspname || '.' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('public', 'mirror') and p.prosecdef order by 1
"""
WITHOUT_PATH = """
    select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('public', 'mirror') and not coalesce('search_path=""' = any(p.proconfig), false)
"""


async def fetch(dsn: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


async def claims_of(person: Person, dsn: str) -> dict[str, Any]:
    ((store,),) = await fetch(dsn, "select id from public.stores")
    return {name: _filled(value, str(store)) for name, value in person.claims.items()}


def _filled(value: Any, store: str) -> Any:
    if isinstance(value, dict):
        return {name: _filled(inner, store) for name, inner in value.items()}
    return value.format(store=store) if isinstance(value, str) else value


@pytest.mark.parametrize("relation", RELATIONS)
async def test_each_person_may_do_what_is_written_down_and_no_more(dsn: str, relation: str) -> None:
    expected, found = {}, {}
    statements = await statements_on(dsn, relation)
    async with authenticator(dsn) as connection:
        for person in PEOPLE:
            claims = await claims_of(person, dsn)
            for operation in OPERATIONS:
                method = "GET" if operation == "select" else "POST"
                async with acting_as(connection, person.role, claims, method=method):
                    found[person.name, operation] = await attempt(connection, statements[operation])
                expected[person.name, operation] = await outcome(dsn, relation, person, operation)
    assert found == expected


@pytest.mark.parametrize("relation", [name for name, access in RELATIONS.items() if access.own_columns])
async def test_of_some_tables_customers_read_some_columns(dsn: str, relation: str) -> None:
    access = RELATIONS[relation]
    everything = {row[0] for row in await fetch(dsn, COLUMNS, relation)}
    async with authenticator(dsn) as connection:
        for person in PEOPLE:
            claims = await claims_of(person, dsn)
            refused = set()
            for column in everything:
                async with acting_as(connection, person.role, claims, method="GET"):
                    if await attempt(connection, f"select {column}::text from {relation}") == "refused":
                        refused.add(column)
            if person.role == "authenticated":
                assert everything - refused == set(access.own_columns)
                own = await fetch(dsn, f"select id::text from {relation} where {access.own}", person.is_customer)
                async with acting_as(connection, person.role, claims, method="GET"):
                    assert await attempt(connection, f"select id::text from {relation}") == {row[0] for row in own}
            else:
                assert refused == (everything if person.role == "anon" else set())


async def statements_on(dsn: str, relation: str) -> dict[str, str]:
    """Return a statement for each operation. A select reads whole rows; an update touches all of them."""
    (column,) = RELATIONS[relation].update_columns[:1] or (await fetch(dsn, FIRST_COLUMN, relation))[0]
    return {
        "select": f"select t::text from {relation} as t",
        "insert": f"insert into {relation} default values",
        "update": f"update {relation} set {column} = {column}",
        "delete": f"delete from {relation}",
    }


async def attempt(connection: asyncpg.Connection, statement: str) -> Any:
    """Return the rows that were read, or whether a write was refused: for want of rights, or as no view takes any.

    A write that only a rule of the tables stops is allowed.
    """
    try:
        rows = await connection.fetch(statement)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError):
        return "refused"
    except asyncpg.IntegrityConstraintViolationError:
        return "allowed"
    return {row[0] for row in rows} if statement.startswith("select") else "allowed"


async def is_refused(connection: asyncpg.Connection, call: str) -> bool:
    """Return whether a call failed for want of rights, of the function's own or of those it calls on the way."""
    try:
        await connection.execute(f"select {call}")
    except asyncpg.InsufficientPrivilegeError:
        return True
    except asyncpg.PostgresError:
        return False  # it was called with nothing but nulls, and said so
    return False


async def outcome(dsn: str, relation: str, person: Person, operation: str) -> Any:
    """Return what `attempt` is to find, by the matrix."""
    access = RELATIONS[relation]
    if not access.allows(person, operation):
        return "refused"
    if operation != "select":
        return "allowed"
    rows = f"select t::text from {relation} as t where "
    if person.role == "service_role":
        return {row[0] for row in await fetch(dsn, rows + "true")}
    return {row[0] for row in await fetch(dsn, rows + f"{access.own}", person.is_customer)}


async def test_the_shop_has_rows_of_two_customers_wherever_the_matrix_speaks(dsn: str) -> None:
    for relation, access in RELATIONS.items():
        for customer in ("1", "2") if access.own else ():
            owned = await fetch(dsn, f"select from {relation} where {access.own}", customer)
            assert owned, f"{relation} {FILL_IT}"
        assert await fetch(dsn, f"select from {relation}"), f"{relation} {FILL_IT}"


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.name)
async def test_each_person_may_call_what_is_written_down_and_no_more(dsn: str, person: Person) -> None:
    expected, found = {}, {}
    calls = await fetch(dsn, CALLS)
    async with authenticator(dsn) as connection:
        claims = await claims_of(person, dsn)
        for function, call in calls:
            async with acting_as(connection, person.role, claims):
                found[call] = await is_refused(connection, call)
            expected[call] = person.role != "service_role" or function in TRIGGER_FUNCTIONS
    assert found == expected


async def test_every_table_view_and_function_is_in_the_matrix(dsn: str) -> None:
    existing = {row[0] for row in await fetch(dsn, OBJECTS)}
    written = {*RELATIONS, *FUNCTIONS}
    assert sorted(existing - written) == [], ADD_IT
    assert sorted(written - existing) == [], REMOVE_IT


async def test_nothing_is_granted_beyond_the_matrix(dsn: str) -> None:
    granted = {tuple(row) for row in await fetch(dsn, GRANTS)}
    assert granted == {grant for name, access in RELATIONS.items() for grant in grants(name, access)} | {
        (name, "service_role", "execute") for name in SERVICE_FUNCTIONS
    } | {("mirror", "service_role", "usage")}


def grants(name: str, access: Access) -> Iterator[tuple[str, str, str]]:
    """Return the rights that somebody but the owner has: (object, role, right)."""
    if access.own and not access.own_columns:
        yield name, "authenticated", "select"
    yield from ((f"{name}.{column}", "authenticated", "select") for column in access.own_columns)
    for operation in access.service:
        columns = access.update_columns if operation == "update" else ()
        yield from ((f"{name}.{column}", "service_role", operation) for column in columns)
        if not columns:
            yield name, "service_role", operation


async def test_every_table_has_row_security_for_its_owner_too_and_every_view_asks_as_its_reader(dsn: str) -> None:
    found = {name: (is_view, is_safe) for name, is_view, is_safe in await fetch(dsn, SAFETY)}
    assert found == {name: (access.is_view, True) for name, access in RELATIONS.items()}


async def test_few_run_with_their_owner_s_rights_and_no_function_with_its_caller_s_path(dsn: str) -> None:
    definers = [
        "mirror.analyze_grown", "mirror.audit", "mirror.audit_consent", "mirror.audit_event", "mirror.note_hand_edit",
        "mirror.note_part_edit", "mirror.pending_migrations",
    ]  # fmt: skip
    assert [row[0] for row in await fetch(dsn, DEFINERS)] == definers
    assert await fetch(dsn, WITHOUT_PATH) == []


def test_the_page_says_what_the_matrix_says() -> None:
    assert PAGE.read_text() == render(), "Run `uv run task docs:access` and commit docs/access.md."
