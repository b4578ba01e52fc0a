"""The stored inbox, applied from nothing, gives the tables that there are; where it does not, it says which and why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner

from sync.cli import main
from sync.database import connect
from sync.engines.registry import ENGINES
from sync.rebuild.inbox import Replay
from sync.rebuild.rebuild import Rebuilt, rebuild
from sync.rebuild.schema import MARK, RebuildError
from sync.settings import Address
from tests.account import AT, StripeMirror, document, event, known
from tests.factory import (
    START,
    address,
    customer_changed,
    customer_deleted,
    line,
    order_changed,
    order_deleted,
    payment,
    stage_change,
)
from tests.mirror import Mirror
from tests.stripe_api import CREDENTIALS, FakeStripe, fill, running

HOOKS = Path(__file__).parent.parent / "recorded" / "vendure" / "hooks.jsonl"
LIVE = "select count(*) from pg_class where relnamespace in ('public'::regnamespace, 'mirror'::regnamespace)"


async def rebuilt(database: str, schema: str = "rebuilt", **options: Any) -> Rebuilt:
    return await rebuild(database, schema, **options)


def differing(done: Rebuilt) -> list[tuple[str, str, list[str]]]:
    return [(d.entity, d.source_id, d.columns) for d in done.comparison.differences]


@pytest.fixture
async def shop(mirror: Mirror) -> Mirror:
    """Two customers with one e-mail address, orders in all kinds of states, a deletion, an order that waits."""
    old = (START - timedelta(days=400)).isoformat()
    await mirror.take(
        customer_changed("1", 1, addresses=[address("1"), address("2")]),
        customer_changed("2", 1, emailAddress="customer1@example.com", createdAt=old),
        order_changed("7", 1, customer={"id": "1"}),
        order_changed("8", 1, lines=[line("1"), line("2", quantity=3)], state="Cancelled"),
        order_changed("9", 1, customer={"id": "3"}),
    )
    await mirror.take(order_changed("7", 0), order_deleted("9", 4), customer_deleted("4", 1))
    await mirror.take(
        order_changed(
            "7", 5, customFields={"deliveryStage": "SOURCING"}, deliveryStageChanges=[stage_change("c1", "SOURCING", 3)]
        ),
        customer_changed("1", 6, emailAddress="new@example.com", addresses=[address("2")]),
    )
    await mirror.take(order_changed("10", 1, totalWithTax="free"))
    await mirror.accept(order_changed("11", 1))
    return mirror


async def test_what_came_by_hooks_is_equal(shop: Mirror, database: str) -> None:
    done = await rebuilt(database)
    assert differing(done) == []
    assert (done.is_equal, done.comparison.elsewhere, done.comparison.equal) == (True, {}, 7)
    assert done.replayed.events == 10
    assert (done.replayed.unreadable, done.replayed.refused) == ([], [])


async def test_the_recorded_shop_is_equal(mirror: Mirror, database: str) -> None:
    bodies = [json.loads(json.loads(hook)["body"]) for hook in HOOKS.read_text().splitlines()]
    events = {event["id"]: event for body in bodies for event in body["events"]}
    await mirror.accept(*events.values())
    await mirror.drain(slice_size=25).run()
    done = await rebuilt(database)
    assert differing(done) == []
    assert done.comparison.elsewhere == {}
    assert done.comparison.equal > 60


AS_ENGINE = "select mirror.act_as('engine:vendure')"
"""What keeps the triggers quiet that put right at once, or keep from happening, what people do to such columns."""

EDITS = {
    "a column of a customer": (
        "update public.customers set last_name = 'X' where source_id = '1'",
        "customer",
        "last_name",
    ),
    "an address": ("update public.customer_addresses set city = 'X'", "customer", "addresses"),
    "an address that is gone": ("delete from public.customer_addresses", "customer", "addresses"),
    "a total": (
        f"{AS_ENGINE}; update public.customers set total_spent = 1 where source_id = '1'",
        "customer",
        "total_spent",
    ),
    "an amount": ("update public.customer_orders_summary set total = 1 where source_id = '7'", "order", "total"),
    "a line": ("delete from public.customer_order_items where source_id = '2'", "order", "items"),
    "a carrier": (
        "update public.order_delivery_status set carrier = 'X' where order_code = 'CODE7'",
        "order",
        "delivery",
    ),
}


@pytest.mark.parametrize(("edit", "entity", "column"), EDITS.values(), ids=EDITS)
async def test_what_was_changed_behind_its_back_is_named(
    shop: Mirror, database: str, edit: str, entity: str, column: str
) -> None:
    await shop.connection.execute(edit)
    (found,) = (await rebuilt(database)).comparison.differences
    assert (found.entity, found.columns) == (entity, [column])


async def test_what_is_lost_or_older_than_its_event_is_a_difference(shop: Mirror, database: str) -> None:
    earlier = "source_version = source_version - interval '1 second'"
    edit = f"update public.customer_orders_summary set {earlier} where source_id = '7'"
    await shop.connection.execute(f"{AS_ENGINE}; {edit}")
    await shop.connection.execute("delete from public.customers where source_id = '4'")
    assert differing(await rebuilt(database)) == [
        ("customer", "4", ["missing"]),
        ("order", "7", ["older than its event"]),
    ]


async def test_a_row_that_no_event_accounts_for_is_a_difference(shop: Mirror, database: str) -> None:
    later = "source_version = now() + interval '1 hour'"
    edit = f"update public.customer_orders_summary set {later} where source_id = '7'"
    await shop.connection.execute(f"{AS_ENGINE}; {edit}")
    assert differing(await rebuilt(database)) == [("order", "7", ["no event accounts for it"])]


async def test_what_is_not_in_the_inbox_is_counted_and_not_compared(shop: Mirror, database: str) -> None:
    """Order 7 is in the inbox no more: with it go its customer's totals, and nothing else."""
    await shop.connection.execute("delete from mirror.webhook_events where entity_id = '7'")
    done = await rebuilt(database)
    assert differing(done) == []
    assert done.comparison.elsewhere == {"from before the inbox begins: pruned, or older": 1}
    assert done.comparison.equal == 6


async def test_what_a_backfill_brought_is_called_by_its_run(shop: Mirror, database: str) -> None:
    await shop.connection.execute("delete from mirror.webhook_events where entity_id = '7'")
    run = await shop.connection.fetchval(
        "insert into mirror.sync_runs (integration_id, kind, options, state, finished_at) "
        "values ($1, 'backfill', '{}', 'complete', now()) returning id",
        shop.integration,
    )
    await shop.connection.execute(
        "insert into mirror.sync_receipts (run_id, entity, slice, read_at, counted, listed, written, unchanged, "
        "skipped, vanished, tombstoned, rejected, source_hash, content_hash, written_ids) "
        "values ($1, 'order', 0, now(), 1, 1, 1, 0, 0, 0, 0, 0, 'x', 'x', '{7}')",
        run,
    )
    done = await rebuilt(database)
    assert (differing(done), done.comparison.elsewhere) == ([], {f"by backfill {run}": 1})


async def test_what_was_pruned_is_so_called_however_old_the_dead_events_are_that_stay(
    shop: Mirror, database: str
) -> None:
    pruned = "select mirror.prune_events(now() + interval '1 minute', now() - interval '1 day', 4)"
    assert await shop.column(pruned) == [4]
    await shop.connection.execute(
        "update mirror.webhook_events set created_at = '2020-01-01' where state in ('dead', 'pending')"
    )
    done = await rebuilt(database)
    assert differing(done) == []
    assert list(done.comparison.elsewhere) == ["from before the inbox begins: pruned, or older"]


async def test_what_waits_to_be_applied_again_is_not_compared(shop: Mirror, database: str) -> None:
    await shop.connection.execute("select mirror.retry_events(p_entity => '7', p_state => 'applied')")
    done = await rebuilt(database)
    assert (differing(done), done.comparison.elsewhere) == ([], {"its event is to be applied again, or was skipped": 1})


async def test_a_stage_that_was_set_here_is_counted_and_the_rest_of_the_order_compared(
    shop: Mirror, database: str
) -> None:
    await shop.connection.execute("select update_order_delivery_status('CODE7', 'DISPATCHED', 'TRACK-1')")
    done = await rebuilt(database)
    assert (differing(done), done.comparison.set_here) == ([], 1)
    await shop.connection.execute("update public.customer_orders_summary set total = 1 where source_id = '7'")
    assert differing(await rebuilt(database, replace=True)) == [("order", "7", ["total"])]


async def test_the_live_tables_are_left_as_they_are(shop: Mirror, database: str) -> None:
    before = [await shop.column(LIVE), await shop.order("7"), await shop.customer("1"), await shop.events()]
    await rebuilt(database, drop=True)
    assert [await shop.column(LIVE), await shop.order("7"), await shop.customer("1"), await shop.events()] == before
    assert await shop.column("select 1 from pg_namespace where nspname = 'rebuilt'") == []


async def test_what_stripe_told_is_equal_and_what_was_read_there_is_so_called(
    mirror: Mirror, address: Address, connection: asyncpg.Connection, database: str
) -> None:
    await mirror.take(order_changed("1", 1, payments=[payment("1", method="stripe", transactionId="pi_1")]))
    thin = known("v1.payment_intent.succeeded")["event"]
    related = {"id": "pi_0002", "type": "payment_intent", "url": "/v1/payment_intents/pi_0002"}
    stripe = FakeStripe()
    fill(stripe)
    stripe.put("prices", document("price.created", id="price_2", product="prod_1", created=AT))
    with running(stripe):
        async with connect(address) as door, ENGINES["stripe"].connect(CREDENTIALS) as client:
            account = await StripeMirror.over(door, connection)
            account.clients = {"stripe": client}
            await account.take(
                event("payment_intent.succeeded", 5, document("payment_intent.succeeded", id="pi_1")),
                event("refund.created", 6, document("refund.created", id="re_1", payment_intent="pi_1")),
                event("invoice.paid", 6, document("invoice.paid", id="in_2")),
                {**thin, "related_object": related},
                event("price.created", 7, document("price.created", id="price_1", product="prod_1")),
                event("product.updated", 8, stripe.objects["products"]["prod_1"], {"name": "Kit club"}),
                event("invoice_payment.paid", 9, document("invoice_payment.paid", invoice="in_1")),
            )
            stripe.put("invoices", document("invoice.paid", id="in_1"))
            await account.take(event("invoice.updated", 9000, document("invoice.paid", id="in_1")))
            stripe.now = datetime.fromtimestamp(AT + 20, UTC)
            price = document("price.created", id="price_3", product="prod_1")
            stripe.put("prices", price)
            await account.take(event("price.created", 21, price))
    assert len(await mirror.column("select source_id from public.subscription_plans")) == 3
    assert "pi_0001" in await mirror.column("select payment_source_id from public.invoices")
    done = await rebuilt(database)
    assert differing(done) == []
    assert done.comparison.elsewhere == {"read at the engine, for its events only name it": 4}
    assert done.comparison.equal == 6  # the order and its customer, a payment, its refund, two invoices
    row = "set source_version = now() + interval '1 hour' where source_id = 'in_2'"
    await mirror.connection.execute(f"{AS_ENGINE}; update public.invoices {row}")
    assert differing(await rebuilt(database, "again")) == [("invoice", "in_2", ["no event accounts for it"])]


async def test_what_is_applied_while_it_runs_is_in_it(
    shop: Mirror, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot that is compared is later than the pages that were read."""
    later = [order_changed("20", 1), order_changed("7", 30)]
    read_pages = Replay.run

    async def run(replay: Replay, progress: Callable[[int], None]) -> None:
        await read_pages(replay, progress)
        await shop.take(*later)

    monkeypatch.setattr(Replay, "run", run)
    done = await rebuilt(database)
    assert (differing(done), done.comparison.elsewhere) == ([], {})
    assert (done.comparison.equal, done.replayed.events) == (9, 13)


@pytest.mark.parametrize("schema", ["public", "mirror", "auth", "pg_temp", "Rebuilt", "a.b", "x; drop schema public"])
async def test_a_schema_that_is_not_ours_to_make_is_refused(database: str, schema: str) -> None:
    with pytest.raises(RebuildError, match="cannot go into the schema"):
        await rebuilt(database, schema)


async def test_a_schema_that_is_there_is_replaced_only_if_a_rebuild_made_it_and_one_says_so(
    mirror: Mirror, database: str
) -> None:
    await mirror.connection.execute("create schema theirs; create table theirs.kept ()")
    with pytest.raises(RebuildError, match="which no rebuild has made"):
        await rebuilt(database, "theirs", replace=True)
    await rebuilt(database)
    with pytest.raises(RebuildError, match="Say --replace"):
        await rebuilt(database)
    await rebuilt(database, replace=True)
    assert await mirror.column("select obj_description('rebuilt'::regnamespace, 'pg_namespace')") == [MARK]


async def test_nobody_else_may_look_into_it(mirror: Mirror, database: str) -> None:
    await rebuilt(database)
    roles = "select rolname from pg_roles where rolname in ('anon', 'authenticated', 'service_role')"
    may = f"select has_schema_privilege(rolname, 'rebuilt', 'usage') from ({roles}) as r"
    assert await mirror.column(may) == [False, False, False]


async def test_public_and_mirror_share_no_name(connection: asyncpg.Connection) -> None:
    names = """
        select name from (
            select relname::text as name, relnamespace as schema from pg_class
            union all
            select proname || pg_get_function_identity_arguments(oid), pronamespace from pg_proc
            union all
            select typname, typnamespace from pg_type where typtype in ('e', 'd')
        ) as n
        where schema in ('public'::regnamespace, 'mirror'::regnamespace) group by name having count(distinct schema) > 1
    """
    assert await connection.fetch(names) == []


async def test_the_command_says_equal_or_what_differs(shop: Mirror, database: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("sync.cli.command.configure_logs", lambda: None)
    await shop.database.close()

    async def run(*arguments: str) -> tuple[int, str]:
        words, environment = ["rebuild", "--into", "rebuilt", *arguments], {"DATABASE_URL": database}
        done = await asyncio.to_thread(CliRunner().invoke, main, words, env=environment)  # it has a loop of its own
        return done.exit_code, done.output

    code, output = await run("--drop")
    assert code == 0, output
    assert "10 events applied. equal: 7, differ: 0, not in the inbox: 0" in output
    await shop.connection.execute("update public.customers set last_name = 'X' where source_id = '1'")
    code, output = await run()
    assert code == 1
    assert "differs customer 1: last_name" in output
    assert "The tables do not hold what the stored events say." in output
