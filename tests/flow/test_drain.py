"""The drain applies what can be applied, isolates what cannot, and loses nothing when the database fails."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from math import log2
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from sync.database import Database, Row
from sync.drain import Counts, Drain
from sync.engines.base import Context, Event
from sync.engines.registry import ENGINES
from sync.records import Record
from sync.settings import Address
from tests.factory import Document, customer_changed, event, line, order_changed, order_deleted
from tests.flow.daemons import workers_waiting
from tests.flow.serving import until
from tests.mirror import Mirror
from tests.postgres import TestServer
from tests.rest.gateway import both_doors, postgres_only

ORDERS = "select source_id from public.customer_orders_summary order by source_id::int"
BECOMES_SHOPIFY = """
    alter table mirror.integrations disable trigger guard;
    update mirror.integrations set engine = 'shopify'
"""
LAPSED = "update mirror.webhook_events set available_at = now() - interval '1 second' where state = 'pending'"
WORKER = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


REFUSED = (
    'new row for relation "customer_order_items" violates check constraint "customer_order_items_quantity_check" '
    "(SQLSTATE 23514)"
)


class CountedDatabase(Database):
    """A door that remembers which functions were called through it."""

    def __init__(self, address: Address) -> None:
        super().__init__(address, connections=1)
        self.called: list[str] = []

    async def call(self, function: str, **arguments: Any) -> Any:
        self.called.append(function)
        return await super().call(function, **arguments)

    async def rows(self, function: str, **arguments: Any) -> list[Row]:
        self.called.append(function)
        return await super().rows(function, **arguments)


async def outcomes(mirror: Mirror) -> dict[str, tuple[str, str | None]]:
    """Return state and reason of each event, by the entity it is about."""
    rows = await mirror.connection.fetch("select entity_id, state, reason from mirror.webhook_events")
    return {row["entity_id"]: (row["state"], row["reason"]) for row in rows}


async def settled(mirror: Mirror) -> None:
    """Drain until nothing is pending any more."""

    async def is_so() -> bool:
        await mirror.drain().run()
        return "pending" not in await mirror.events()

    await until(is_so)


@both_doors
async def test_a_type_that_we_do_not_know_is_stored_and_skipped(mirror: Mirror) -> None:
    counts = await mirror.take(event("coupon.changed", "5", 1, {"code": "X"}), customer_changed("1", 1))
    assert counts == Counts(applied=1, skipped=1, customers=1)
    assert (await outcomes(mirror))["5"] == ("skipped", "events of the type 'coupon.changed' are not mirrored")


async def test_what_cannot_be_mapped_is_dead_with_its_reason_and_the_rest_is_applied(mirror: Mirror) -> None:
    counts = await mirror.take(order_changed("7", 1, totalWithTax="free"), order_changed("8", 1))
    assert (counts.applied, counts.dead, counts.orders) == (1, 1, 1)
    state, reason = (await outcomes(mirror))["7"]
    assert state == "dead"
    assert reason is not None
    assert "`$.data.totalWithTax`" in reason


POISON: dict[str, Document] = {
    "a negative quantity": {"lines": [line("1", quantity=-1)]},
    "more than an integer holds": {"lines": [line("1", quantity=2**31)]},
    "the same line twice": {"lines": [line("1"), line("1")]},
}


@both_doors
@pytest.mark.parametrize("fields", POISON.values(), ids=POISON)
async def test_what_the_database_refuses_is_dead_alone(mirror: Mirror, fields: Document) -> None:
    await mirror.take(order_changed("1", 1))
    good = [order_changed(str(n), 1) for n in range(2, 18)]
    counts = await mirror.take(*good[:5], order_changed("99", 1, **fields), *good[5:])
    assert (counts.applied, counts.dead, counts.orders) == (16, 1, 16)
    state, reason = (await outcomes(mirror))["99"]
    assert (state, "SQLSTATE" in (reason or "")) == ("dead", True)
    assert await mirror.column(ORDERS) == [str(n) for n in range(1, 18)]


@both_doors
async def test_an_order_whose_code_is_still_anothers_waits_alone(mirror: Mirror) -> None:
    await mirror.take(order_changed("1", 1))
    good = [order_changed(str(n), 1) for n in range(2, 18)]
    counts = await mirror.take(*good[:5], order_changed("99", 1, code="CODE1"), *good[5:])
    assert (counts.applied, counts.dead, counts.retried) == (16, 0, 1)
    state, reason = (await outcomes(mirror))["99"]
    assert (state, reason) == ("pending", "another order has this code for now: its own change has not arrived yet")


@pytest.mark.parametrize(
    ("size", "positions"),
    [(2, [1]), (3, [0]), (16, [15]), (17, [16]), (64, [37]), (64, [0, 50]), (64, list(range(64))), (500, [250])],
    ids=lambda value: str(len(value)) if isinstance(value, list) else f"of {value}",
)
async def test_a_poison_costs_its_slice_at_most_as_many_calls_as_its_logarithm(
    mirror: Mirror, address: Address, size: int, positions: list[int]
) -> None:
    """Every call is extra, of whatever kind, that the same slice would not have needed without the poison.

    The poison costs no more if there are several, and even if all are.
    """
    counted = CountedDatabase(address)
    drain = Drain(counted, slice_size=size)
    poisoned = {"lines": [line("1", quantity=-1)]}
    await mirror.accept(*(order_changed(str(n), 1) for n in range(size)))
    await drain.drain_slice()
    assert counted.called[:3] == ["claim_events", "list_integrations", "apply_events"]
    assert set(counted.called[3:]) <= {"analyze_grown"}
    counted.called.clear()
    await mirror.accept(*(order_changed(str(n), 2, **poisoned if n in positions else {}) for n in range(size)))
    _, counts = await drain.drain_slice()
    await counted.close()
    assert (counts.applied, counts.dead) == (size - len(positions), len(positions))
    assert counted.called[:2] == ["claim_events", "apply_events"]
    assert 1 <= len(counted.called[2:]) <= log2(size)
    assert set(await mirror.events("reason")) == {None, REFUSED}


async def test_a_fault_of_ours_kills_one_event_and_not_the_drain(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "shopify", FaultyEngine())
    await mirror.accept(customer_changed("1", 1))
    await mirror.connection.execute(BECOMES_SHOPIFY)
    assert await mirror.drain().run() == Counts(dead=1)
    assert await mirror.events("reason") == ["a fault of the mirror: ZeroDivisionError; see its log"]


class FaultyEngine:
    """An engine with a fault."""

    name = "shopify"

    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
        raise NotImplementedError

    def read(self, body: bytes) -> list[Event]:
        raise NotImplementedError

    def map(self, event_type: str, payload: bytes, context: Context) -> list[Record]:
        raise ZeroDivisionError


async def test_events_of_an_inactive_integration_wait_for_it(mirror: Mirror) -> None:
    await mirror.connection.execute("update mirror.integrations set is_active = false")
    assert await mirror.take(customer_changed("1", 1)) == Counts(retried=1)
    assert await mirror.events("reason") == ["the integration is not active: activate it in mirror.integrations"]
    await mirror.connection.execute("update mirror.integrations set is_active = true")
    await mirror.connection.execute(LAPSED)
    assert (await mirror.drain().run()).applied == 1


async def test_events_of_an_engine_that_this_version_does_not_know_wait_for_one_that_does(mirror: Mirror) -> None:
    await mirror.connection.execute(BECOMES_SHOPIFY)
    assert await mirror.take(customer_changed("1", 1)) == Counts(retried=1)
    assert await mirror.events("reason") == ["this version does not know the engine shopify: install a newer mirror"]


async def test_what_admins_change_of_an_integration_counts_at_the_next_drain(mirror: Mirror) -> None:
    drain = mirror.drain()
    for number, precision in enumerate((None, 3)):
        await mirror.connection.execute("update mirror.integrations set money_precision = $1", precision)
        await mirror.accept(order_changed(str(number), 1, totalWithTax=1000))
        await drain.run()
    totals = "select total_with_tax::text from public.customer_orders_summary order by source_id"
    assert await mirror.column(totals) == ["10.00", "1.000"]


@both_doors
async def test_two_stores_do_not_mix(mirror: Mirror) -> None:
    await mirror.accept(customer_changed("1", 1, firstName="Here"), order_changed("7", 1))
    store = await mirror.connection.fetchval(
        "insert into public.stores (slug, name, currency, phone_region, timezone, locale) "
        "values ('tokyo', 'Tokyo', 'JPY', 'JP', 'Asia/Tokyo', 'ja') returning id"
    )
    mirror.integration = await mirror.connection.fetchval(
        "insert into mirror.integrations (store_id, slug, engine, secrets_variable) "
        "values ($1, 'tokyo', 'vendure', 'TOKYO') returning id",
        store,
    )
    there = customer_changed("1", 9, firstName="There", phoneNumber="090 1234 5678")
    assert await mirror.take(there, order_deleted("7", 9)) == Counts(applied=4, customers=2, orders=2)
    names = "select first_name from public.customers order by first_name"
    assert await mirror.column(names) == ["Here", "There"]
    assert await mirror.column("select phone_number from public.customers where store_id = $1", store) == [
        "819012345678"
    ]
    assert sorted(await mirror.column("select deleted_at is null from public.customer_orders_summary")) == [False, True]


@both_doors
async def test_a_run_takes_slice_after_slice_until_nothing_is_due(mirror: Mirror) -> None:
    await mirror.accept(*(customer_changed(str(n), 1) for n in range(25)))
    assert (await mirror.drain(slice_size=10).run()).applied == 25


async def test_told_to_stop_it_finishes_the_slice_in_hand_and_takes_no_other(mirror: Mirror) -> None:
    await mirror.accept(*(customer_changed(str(n), 1) for n in range(25)))
    stop = asyncio.Event()
    async with mirror.connection.transaction():
        await mirror.connection.execute("lock table public.customers in exclusive mode")
        running = asyncio.create_task(mirror.drain(slice_size=10).run(stop))
        await workers_waiting(mirror.connection)
        stop.set()
    assert (await running).applied == 10
    assert sorted(await mirror.events()) == ["applied"] * 10 + ["pending"] * 15


@both_doors
async def test_a_slice_of_a_worker_that_died_is_applied_when_its_lease_lapses(mirror: Mirror) -> None:
    await mirror.accept(customer_changed("1", 1), order_changed("7", 1))
    await mirror.connection.execute("select mirror.claim_events(gen_random_uuid(), 10, '1 minute')")
    assert await mirror.drain().run() == Counts()
    await mirror.connection.execute(LAPSED)
    assert await mirror.drain().run() == Counts(applied=2, customers=1, orders=1)


@both_doors
async def test_a_deadlock_is_tried_again(mirror: Mirror, database: str, server: TestServer) -> None:
    """The drain comes to wait last, and is the only one to look for a deadlock: so it is the one that is ended."""
    everyone = ("1", "2", "3")
    await mirror.take(*(customer_changed(number, 1) for number in everyone))
    await mirror.accept(*(customer_changed(number, 2, firstName=f"New {number}") for number in everyone))
    other = await asyncpg.connect(server.superuser(urlsplit(database).path.removeprefix("/")))
    await other.execute("set deadlock_timeout = '1h'")
    async with other.transaction():
        await other.execute("update public.customers set title = 'Ms' where source_id = '3'")
        async with mirror.connection.transaction():
            await mirror.connection.execute("select from public.customers where source_id = '2' for update")
            running = asyncio.create_task(mirror.drain().run())
            await workers_waiting(mirror.connection)  # it holds 1 and waits for 2
            update = "update public.customers set title = 'Ms' where source_id = '1'"
            waiting = asyncio.create_task(other.execute(update))
            await workers_waiting(mirror.connection, count=2)
        await waiting  # the drain went on to 3, which the other holds
    await other.close()
    assert await running == Counts(retried=3)
    assert all("deadlock detected" in reason for reason in await mirror.events("reason") if reason)
    await settled(mirror)
    assert await mirror.column("select first_name from public.customers order by 1") == ["New 1", "New 2", "New 3"]


@both_doors
async def test_a_connection_that_is_lost_in_the_middle_loses_nothing(mirror: Mirror) -> None:
    await mirror.accept(customer_changed("1", 1), order_changed("7", 1))
    async with mirror.connection.transaction():
        await mirror.connection.execute("lock table public.customers in exclusive mode")
        running = asyncio.create_task(mirror.drain().run())
        await workers_waiting(mirror.connection)
        for pid in await mirror.column(WORKER):
            await mirror.connection.execute("select pg_terminate_backend($1)", pid)
        assert await running == Counts(retried=2)
    await settled(mirror)
    assert await mirror.events() == ["applied", "applied"]
    assert await mirror.column(ORDERS) == ["7"]


@postgres_only  # the time-out is that of its own sessions
async def test_what_keeps_failing_for_now_is_taken_apart_so_that_the_rest_goes_on(mirror: Mirror) -> None:
    """One event waits for a row that somebody holds; it is tried again and again, the others are applied."""
    await mirror.take(order_changed("1", 1))
    await mirror.connection.execute(f"alter role postgres in database {await _name(mirror)} set lock_timeout = 300")
    await mirror.database.close()  # the next call has the time-out
    await mirror.accept(*(order_changed(str(n), 2, customer=None) for n in range(1, 5)))
    await mirror.connection.execute("update mirror.webhook_events set attempts = 3 where state = 'pending'")
    async with mirror.connection.transaction():
        await mirror.connection.execute("select from public.customer_orders_summary where source_id = '1' for update")
        counts = await mirror.drain().run()
    assert (counts.applied, counts.retried) == (3, 1)
    await mirror.connection.execute(LAPSED)
    await settled(mirror)


async def _name(mirror: Mirror) -> str:
    return str(await mirror.connection.fetchval("select quote_ident(current_database())"))


@both_doors
async def test_of_any_two_states_in_hand_at_once_the_newer_stays(mirror: Mirror, database: str) -> None:
    """Two workers hold the two states of one order; whichever is written first, the newer one is what stays."""
    for number, versions in enumerate(itertools.permutations((1, 2))):
        order_id = str(number)
        for version in versions:
            await mirror.accept(order_changed(order_id, version, state=f"V{version}"))
        await asyncio.gather(*(mirror.drain(slice_size=1).drain_slice() for _ in versions))
        await settled(mirror)
        assert (await mirror.order(order_id))["order_state"] == "V2"


@both_doors
@pytest.mark.parametrize("count", [1, 3])
async def test_an_event_that_meets_a_migration_waits_for_it(mirror: Mirror, count: int) -> None:
    """As a migration that makes a function anew has it: who calls the old one meanwhile does not find what it calls."""
    rename = "alter function mirror.{}(uuid, mirror.written_orders, mirror.item_columns) rename to {}"
    await mirror.connection.execute(rename.format("replace_order_items", "put_order_items"))
    counts = await mirror.take(*(order_changed(str(number), 1) for number in range(count)))
    assert counts == Counts(retried=count)
    assert "Is the database migrated?" in (await mirror.events("reason"))[0]
    await mirror.connection.execute(rename.format("put_order_items", "replace_order_items"))
    await mirror.connection.execute("update mirror.webhook_events set available_at = now()")
    assert (await mirror.drain().run()).orders == count
