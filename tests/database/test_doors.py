"""Two doors, one database: what goes in and what comes out is the same, and so is what fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from sync.database import Database, connect
from sync.errors import Await, Reject, Retry, SyncError, Unmigrated
from sync.settings import Project
from tests.factory import customer_changed, order_changed
from tests.mirror import Mirror
from tests.rest.gateway import PUBLISHABLE_KEY, Gateway

ONE, OTHER = UUID("0198c0de-0000-7000-8000-000000000001"), UUID("0198c0de-0000-7000-8000-000000000002")
MOMENT = datetime(2026, 11, 20, 10, 0, 0, 123456, tzinfo=UTC)
COLOMBO = timezone(timedelta(hours=5, minutes=30))
AWKWARD = "„ඊයේ“ \\ \" ' \u2028 \n %s $1 {} null"

SAMPLES: dict[str, Sequence[Any]] = {
    "boolean": [True, False],
    "smallint": [0, -32768],
    "integer": [1, 2**31 - 1],
    "bigint": [2**53 + 1, -(2**63)],
    "double precision": [0.1, 1e300, -0.25],
    "numeric": [Decimal("12.10"), Decimal("0.1000"), Decimal("12345678901234567890.10")],
    "text": ["", AWKWARD],
    "uuid": [ONE],
    "date": [date(2026, 11, 20)],
    "timestamp with time zone": [MOMENT, MOMENT.replace(microsecond=0), MOMENT.astimezone(COLOMBO)],
    "interval": [timedelta(seconds=60.25), timedelta(0), timedelta(days=400, microseconds=1)],
    "json": ['{"b": 1.10, "a":  [1e2, null], "b": "\\ud83d\\ude00"}', "null", '"text"', "12345678901234567890.10"],
    "jsonb": ['{"a": [1.10, null]}', '"text"'],
}
SAMPLES |= {f"{name}[]": [[*values, None], []] for name, values in SAMPLES.items() if name != "interval"}

# Enums are text; rows and names of tables are for SQL: Python gives documents.
TYPES = """
    select distinct format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null)
    from pg_proc as p
    cross join lateral unnest(p.prorettype || coalesce(p.proallargtypes, p.proargtypes::oid[])) as a (type)
    join pg_type as t on t.oid = a.type
    where p.pronamespace = 'mirror'::regnamespace and p.prorettype <> 'trigger'::regtype
      and has_function_privilege('service_role', p.oid, 'execute')
      and coalesce((select e.typtype from pg_type as e where e.oid = t.typelem), t.typtype) not in ('c', 'e')
      and t.oid <> 'regclass'::regtype
      and (t.oid <> 'record'::regtype or p.proallargtypes is null)
"""


Doors = tuple[Database, Database]


@pytest.fixture
async def doors(database: str, project: Project) -> AsyncIterator[Doors]:
    """The same database through either door."""
    async with connect(database) as postgres, connect(project) as rest:
        yield postgres, rest


async def define(connection: asyncpg.Connection, signature: str, body: str) -> None:
    await connection.execute(
        f"create function mirror.{signature} language plpgsql set search_path = '' as $$ begin {body}; end $$"
    )


async def outcome(call: Any) -> tuple[type[SyncError], str]:
    with pytest.raises(SyncError) as caught:
        await call
    return type(caught.value), caught.value.reason


async def test_a_value_comes_out_as_it_went_in(doors: Doors, connection: asyncpg.Connection) -> None:
    for n, (name, values) in enumerate(SAMPLES.items()):
        await define(connection, f"echo_{n}(p_value {name}) returns {name}", "return p_value")
        for value in [*values, None]:
            here, there = [await door.call(f"echo_{n}", p_value=value) for door in doors]
            assert (name, plain(here)) == (name, plain(there))
            assert there == value


async def test_rows_come_out_alike(doors: Doors, connection: asyncpg.Connection) -> None:
    for n, (name, values) in enumerate(SAMPLES.items()):
        table = f"rows_{n}(p_value {name}) returns table (a {name}, b {name})"
        await define(connection, table, "return query " + ROWS)
        here, there = [await door.rows(f"rows_{n}", p_value=values[0]) for door in doors]
        assert (name, [plain(row) for row in here]) == (name, [plain(row) for row in there])


ROWS = "values (p_value, null), (null, p_value), (p_value, p_value)"


def plain(value: Any) -> Any:
    """Return a value, or a row, so that what is equal is of equal types, too."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    if hasattr(value, "keys"):
        names = list(value.keys())
        return (
            [(name, plain(value[name]), plain(value[n])) for n, name in enumerate(names)],
            [*map(plain, value)],
            len(value),
        )
    return "UUID" if isinstance(value, UUID) else type(value), str(value)


async def test_every_type_that_a_function_takes_or_returns_is_tried_above(connection: asyncpg.Connection) -> None:
    found = {row[0] for row in await connection.fetch(TYPES)}
    assert sorted(found - {*SAMPLES, "void"}) == [], "Give the other door a reader for it, and SAMPLES some values."


async def test_an_enum_comes_as_text(doors: Doors, connection: asyncpg.Connection) -> None:
    await define(connection, "echo(p_value mirror.event_state) returns mirror.event_state[]", "return array[p_value]")
    assert [await door.call("echo", p_value="dead") for door in doors] == [["dead"], ["dead"]]


async def test_a_function_that_returns_nothing_gives_none(doors: Doors) -> None:
    assert [await door.call("take_turn", p_together=True) for door in doors] == [None, None]


async def test_defaults_may_be_left_out(doors: Doors) -> None:
    assert [await door.call("take_turn") for door in doors] == [None, None]


QUESTIONS = {
    "p_stores": ["default", "default"],
    "p_codes": ["CODE7", AWKWARD],
    "p_proofs": ["phone", "phone"],
    "p_phones": ["94771234567", ""],
}


async def test_what_the_mirror_reads_is_equal(doors: Doors, mirror: Mirror) -> None:
    customer = customer_changed("1", 1, phoneNumber="077 123 4567", lastName=AWKWARD)
    await mirror.take(customer, order_changed("7", 1, customer={"id": "1"}))
    await mirror.connection.execute("update public.customer_orders_summary set contact_phone = '94771234567'")
    reads: list[tuple[str, dict[str, Any]]] = [
        ("read_customers", {"p_integration_id": mirror.integration, "p_source_ids": ["1", AWKWARD]}),
        ("read_orders", {"p_integration_id": mirror.integration, "p_source_ids": ["7"]}),
        ("pending_migrations", {"p_versions": ["1", "20261120000000"]}),
    ]
    found = []
    for function, arguments in reads:
        here, there = [await door.call(function, **arguments) for door in doors]
        assert plain(here) == plain(there)
        found.append(there)
    assert None not in found
    here, there = [[plain(row) for row in await door.rows("track_orders", **QUESTIONS)] for door in doors]
    assert here == there
    assert len(here) == 1
    for function in ("list_integrations", "list_stores"):
        here, there = [[plain(row) for row in await door.rows(function)] for door in doors]
        assert here == there


async def test_who_changes_rows_is_the_service(doors: Doors, connection: asyncpg.Connection) -> None:
    assert [await door.call("current_actor") for door in doors] == ["service", "service"]


FAULTS: dict[str, tuple[type[SyncError], str]] = {
    "raise exception 'No: %', 1 using detail = 'of nimal@example.com', hint = 'h'": (Reject, "No: 1 (SQLSTATE P0001)"),
    "perform '{'::json": (Reject, "invalid input syntax for type json (SQLSTATE 22P02)"),
    "perform 1 / 0": (Reject, "division by zero (SQLSTATE 22012)"),
    "insert into public.stores (slug, name) values (null, null)": (Reject, ""),
    "raise exception 'x' using errcode = 'deadlock_detected'": (Retry, "x (SQLSTATE 40P01)"),
    "raise exception 'x' using errcode = 'lock_not_available'": (Retry, "x (SQLSTATE 55P03)"),
    "raise exception 'x' using errcode = 'admin_shutdown'": (Retry, "x (SQLSTATE 57P01)"),
    "raise exception 'x' using errcode = 'insufficient_resources'": (Retry, "x (SQLSTATE 53000)"),
    "raise exception 'x' using errcode = 'internal_error'": (Retry, "x (SQLSTATE XX000)"),
    "raise exception 'x' using errcode = 'insufficient_privilege'": (Reject, "x (SQLSTATE 42501)"),
    "raise exception 'x' using errcode = 'statement_too_complex'": (Reject, "x (SQLSTATE 54001)"),
}


async def test_what_fails_fails_alike(doors: Doors, connection: asyncpg.Connection) -> None:
    for n, (fault, (kind, reason)) in enumerate(FAULTS.items()):
        await define(connection, f"fail_{n}() returns void", fault)
        here, there = [await outcome(door.call(f"fail_{n}")) for door in doors]
        assert here == there
        assert here[0] is kind, fault
        assert reason in here[1]
        assert "nimal" not in here[1]


async def test_a_code_that_is_still_anothers_is_waited_for(doors: Doors, mirror: Mirror) -> None:
    await mirror.take(order_changed("1", 1), order_changed("2", 1))
    take = "update public.customer_orders_summary set order_code = 'CODE1' where source_id = '2'"
    await define(mirror.connection, "fail() returns void", take)
    here, there = [await outcome(door.call("fail")) for door in doors]
    assert here == there
    assert here[0] is Await


FORBIDDEN: dict[str, tuple[str, dict[str, Any]]] = {
    "no such function": ("nope", {}),
    "no such argument": ("list_stores", {"p_unknown": 1}),
    "too few arguments": ("claim_events", {"p_limit": 1}),
    "a trigger's": ("audit", {}),
    "SQL as a name": ("list_stores() as r; drop table public.stores; --", {}),
    "SQL as an argument's name": ("take_turn", {'p_together" text); drop table public.stores; --': True}),
}


async def test_times_are_told_in_utc_whatever_the_zone_of_the_database(
    database: str, connection: asyncpg.Connection, project: Project
) -> None:
    await define(connection, "tell() returns text", "return '2026-11-20T10:00:00Z'::timestamptz")
    await connection.execute(f"alter database \"{urlsplit(database).path[1:]}\" set timezone = 'Asia/Colombo'")
    async with connect(database) as postgres, connect(project) as rest:
        assert await postgres.call("tell") == "2026-11-20 10:00:00+00"
        assert await rest.call("tell") == "2026-11-20 10:00:00+00"


async def test_nothing_else_can_be_called(project: Project) -> None:
    async with connect(project) as door:
        for function, arguments in FORBIDDEN.values():
            kind, reason = await outcome(door.call(function, **arguments))
            assert kind is Unmigrated
            assert f"mirror.{function}(" in reason
            assert "is no function that service_role may call (SQLSTATE 42883)" in reason
        assert len(await door.rows("list_stores")) == 1


@pytest.mark.parametrize("key", ["sb_secret_of_another_project", PUBLISHABLE_KEY])
async def test_a_key_that_is_refused_is_said_so(project: Project, key: str) -> None:
    async with connect(Project(project.url, key)) as door:
        kind, reason = await outcome(door.rows("list_stores"))
    assert kind is Retry  # it says nothing about the events in hand: none of them is dead for that
    assert reason.startswith("SUPABASE_SECRET_KEY is refused")
    assert key not in reason


async def test_a_project_that_is_away_is_waited_for() -> None:
    async with connect(Project("http://127.0.0.1:9", "sb_secret_x")) as door:
        assert await outcome(door.rows("list_stores")) == (Retry, "the Data API cannot be reached: ConnectError")


async def test_an_address_that_is_no_project_is_said_so(project: Project) -> None:
    async with connect(Project(f"{project.url}/typo", project.secret_key)) as door:
        kind, reason = await outcome(door.rows("list_stores"))
    assert (kind, "404" in reason) == (Retry, True)


async def test_without_the_schema_it_is_refused(project: Project, connection: asyncpg.Connection) -> None:
    await connection.execute("drop function public.mirror_call(text, json)")
    async with connect(project) as door:
        kind, reason = await outcome(door.rows("list_stores"))
    assert kind is Unmigrated
    assert "mirror_call" in reason


async def test_a_call_may_take_longer_than_the_project_gives_a_request(
    connection: asyncpg.Connection, gateway: Gateway
) -> None:
    name = await connection.fetchval("select current_database()")
    await connection.execute(f"alter role authenticator in database {name} set statement_timeout = '500ms'")
    await define(connection, "doze() returns text", "perform pg_sleep(1); return 'awake'")
    with gateway.project(name) as project:
        async with connect(project) as door:
            assert await door.call("doze") == "awake"


async def test_many_calls_at_once_get_each_its_own_answer(project: Project, connection: asyncpg.Connection) -> None:
    await define(connection, "echo(p_value integer) returns integer", "return p_value")
    async with connect(project, connections=3) as door:
        answers = await asyncio.gather(*(door.call("echo", p_value=n) for n in range(60)))
    assert answers == list(range(60))


async def test_a_slice_of_many_megabytes_goes_through(project: Project, connection: asyncpg.Connection) -> None:
    await define(connection, "echo(p_value json) returns json", "return p_value")
    document = json.dumps([AWKWARD * 1000] * 200)
    async with connect(project) as door:
        assert await door.call("echo", p_value=document) == document


async def test_a_connection_that_is_cut_at_an_awkward_moment_passes(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetch(*_: Any) -> Any:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    async with connect(database) as door:
        await door.call("get_status")
        monkeypatch.setattr(asyncpg.Connection, "fetch", fetch)
        with pytest.raises(Retry, match="cannot be reached"):
            await door.call("get_status")
