"""The story of an order says of each event, person, batch and command what came of it, and leaves nothing out."""

from __future__ import annotations

import asyncpg
import pytest
from rich.console import Console

from sync.why import print_story, tell
from tests.account import StripeMirror, document, event
from tests.factory import customer_changed, line, order_changed, order_deleted, payment
from tests.mirror import Mirror

POISON = {"lines": [line("1", quantity=-1)]}


async def story(mirror: Mirror, *kinds: str, code: str = "CODE7") -> list[tuple[str, str, str]]:
    """Return who, what and outcome of the moments of these kinds; event ids and times are left out of the words."""
    moments = await tell(mirror.database, code, None)
    return [(m["who"], m["what"].split(" event-")[0], m["outcome"]) for m in moments if m["kind"] in kinds]


async def outcomes(mirror: Mirror, *kinds: str, code: str = "CODE7") -> list[str]:
    return [outcome for _, _, outcome in await story(mirror, *kinds, code=code)]


async def test_what_was_older_is_told_apart_from_what_was_applied(mirror: Mirror) -> None:
    newer = order_changed("7", 5)
    await mirror.take_in_turn(order_changed("7", 1), newer, order_changed("7", 3))
    assert await outcomes(mirror, "event") == [
        "applied",
        "applied",
        f"ignored as older: event {newer['id']} had been applied",
    ]


async def test_of_several_states_in_a_slice_the_newest_was_applied(mirror: Mirror) -> None:
    await mirror.take(order_changed("7", 1), order_changed("7", 3), order_changed("7", 2))
    superseded = "superseded: a newer state was in the same slice"
    assert sorted(await outcomes(mirror, "event")) == sorted([superseded, "applied", superseded])


async def test_the_same_state_told_twice_was_applied_once(mirror: Mirror) -> None:
    await mirror.take_in_turn(order_changed("7", 1), order_changed("7", 1))
    first, second = await outcomes(mirror, "event")
    assert (first, second.startswith("ignored as older")) == ("applied", True)


async def test_a_deletion_does_not_hide_the_state_that_came_before_it(mirror: Mirror) -> None:
    await mirror.take_in_turn(
        order_changed("7", 1), order_deleted("7", 5), order_changed("7", 3), order_deleted("7", 2)
    )
    found = [outcome.split(":")[0] for outcome in await outcomes(mirror, "event")]
    assert found == ["applied", "applied", "applied", "ignored as older"]


async def test_dead_skipped_and_waiting_events_say_why(mirror: Mirror) -> None:
    await mirror.take_in_turn(order_changed("7", 1), order_changed("7", 2, **POISON))
    await mirror.connection.execute("select mirror.skip_events('a test')")
    await mirror.take(order_changed("7", 3, **POISON))
    await mirror.accept(order_changed("7", 4))
    _, skipped, dead, waiting = await outcomes(mirror, "event")
    assert (skipped, waiting) == ("skipped: a test (skipped by postgres)", "waits to be applied")
    assert dead.startswith("dead: new row for relation")
    ((who, what, was),) = await story(mirror, "person")
    assert (who, what) == ("postgres", "skipped event")
    assert was.startswith("it was dead: new row")


async def test_an_order_that_never_became_a_row_has_a_story_too(mirror: Mirror) -> None:
    await mirror.take(order_changed("7", 1, totalWithTax="free"))
    (outcome,) = await outcomes(mirror, "event")
    assert outcome.startswith("dead: ")
    assert await tell(mirror.database, "NO-SUCH-CODE", None) == []
    assert await tell(mirror.database, "CODE7", "another-store") == []


async def test_its_customer_s_events_are_in_it_and_nobody_else_s(mirror: Mirror) -> None:
    await mirror.take_in_turn(
        customer_changed("1", 1), customer_changed("2", 1), order_changed("7", 1), order_changed("8", 1)
    )
    assert await story(mirror, "customer", "event") == [
        ("vendure", "customer.changed", "applied"),
        ("vendure", "order.changed", "applied"),
    ]


async def test_people_batches_and_commands_are_named(mirror: Mirror, connection: asyncpg.Connection) -> None:
    await mirror.take(customer_changed("1", 1), order_changed("7", 1))
    await connection.execute("insert into public.import_batches (batch_number) values ('B1'), ('B2')")
    moves = "update public.customer_orders_summary set batch_id = (select id from public.import_batches where {})"
    for batch in ("batch_number = 'B1'", "batch_number = 'B2'", "false"):
        await connection.execute(moves.format(batch))
    await connection.execute(
        "select update_order_delivery_status('CODE7', 'DISPATCHED', 'TRACK-1', 'by courier', 'Amara')"
    )
    await connection.execute("update public.order_delivery_status set eta = '2026-12-01'")
    assert await story(mirror, "batch") == [
        ("postgres", "joined batch B1", "done"),
        ("postgres", "moved from batch B1 to B2", "done"),
        ("postgres", "left batch B2", "done"),
    ]
    assert await story(mirror, "person") == [
        ("Amara, postgres", "ORDER_CONFIRMED → DISPATCHED, tracking number TRACK-1: by courier", "in its history"),
        ("postgres", "changed eta of the delivery", "done"),
    ]
    assert await story(mirror, "command") == [
        ("vendure", "set_delivery: DISPATCHED, tracking number TRACK-1", "pending"),
    ]


async def test_what_came_by_a_poll_is_named_and_explains_what_was_ignored(mirror: Mirror) -> None:
    late = order_changed("7", 3)
    await mirror.take(order_changed("7", 1))
    run = await mirror.connection.fetchval(
        "insert into mirror.sync_runs (integration_id, kind, options, state, finished_at) "
        "values ($1, 'backfill', '{}', 'complete', now()) returning id",
        mirror.integration,
    )
    await mirror.connection.execute(
        "insert into mirror.sync_receipts (run_id, entity, slice, read_at, counted, listed, written, unchanged, "
        "skipped, vanished, tombstoned, rejected, source_hash, content_hash, written_ids) "
        "values ($1, 'order', 0, '2026-11-20 10:00:05Z', 1, 1, 1, 0, 0, 0, 0, 0, 'x', 'x', '{7}')",
        run,
    )
    await mirror.take(late)
    assert await story(mirror, "poll") == [("vendure", f"backfill {run} read it at 2026-11-20 10:00:05.000", "written")]
    assert await outcomes(mirror, "event") == ["applied", "ignored as older: a backfill had read it later"]


async def test_what_stripe_told_of_its_money_is_in_it(mirror: Mirror) -> None:
    account = await StripeMirror.over(mirror.database, mirror.connection)
    paid = document("payment_intent.succeeded", id="pi_1", latest_charge="ch_1")
    await mirror.take(order_changed("7", 1, payments=[payment("1", method="stripe", transactionId="pi_1")]))
    await account.take(
        event("payment_intent.succeeded", 2, paid),
        event("payment_intent.succeeded", 2, {**paid, "id": "pi_2"}),
        event("charge.succeeded", 2, document("charge.succeeded-of-an-intent", id="ch_1", payment_intent="pi_1")),
        event("refund.created", 3, document("refund.created", id="re_1", payment_intent="pi_1")),
    )
    told = [(who, what.split()[-1], outcome.split(":")[0]) for who, what, outcome in await story(mirror, "money")]
    assert sorted(told) == [
        ("stripe", "ch_1", "skipped"),
        ("stripe", "pi_1", "applied"),
        ("stripe", "re_1", "applied"),
    ]


async def test_it_is_told_in_the_order_of_time(mirror: Mirror) -> None:
    await mirror.take_in_turn(order_changed("7", 5), customer_changed("1", 1), order_changed("7", 1))
    times = [moment["at"] for moment in await tell(mirror.database, "CODE7", "default")]
    assert times == sorted(times)
    assert len(times) > 3


@pytest.mark.parametrize("width", [80, 160])
async def test_it_is_printed_as_a_table(mirror: Mirror, width: int) -> None:
    await mirror.take(order_changed("7", 1))
    console = Console(width=width)
    with console.capture() as printed:
        print_story(console, await tell(mirror.database, "CODE7", None))
    assert "order.changed" in printed.get()
    assert "→ applied" in printed.get()
