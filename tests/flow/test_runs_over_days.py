"""What becomes of runs over days: those cut off, those refused, and what is said of them meanwhile."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from rich.console import Console

from sync.errors import Retry
from sync.progress import print_reconciled
from sync.reconcile import Reconciling
from tests.engine import Shop, ShopClient
from tests.factory import customer_document, order_document
from tests.flow.runs import EventfulClient, assert_equal, fill, heal, hook, live, look, open_shop
from tests.flow.test_reconcile import RUNS, Blind, filled
from tests.mirror import Mirror

ALARMS = "select alarm from mirror.list_alarms()"
DUE = "select d ->> 'is_full' from json_array_elements(mirror.due_reconcile()) as d"


async def pass_by(mirror: Mirror, interval: str) -> None:
    """Let all runs have been so much earlier."""
    await mirror.connection.execute(
        "update mirror.sync_runs set created_at = created_at - $1::text::interval, "
        "finished_at = finished_at - $1::text::interval, claimed_until = claimed_until - $1::text::interval",
        interval,
    )


async def cut_off(shop: Shop, run: Callable[[ShopClient], Coroutine[Any, Any, Any]]) -> None:
    """Cancel a run as soon as it has listed something."""
    reached = asyncio.Event()

    async def hang(_: str, __: int) -> None:
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run(EventfulClient(shop, hang)))
    await reached.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_refusal_of_everything_is_not_forgotten_for_a_window(mirror: Mirror) -> None:
    shop = await filled(mirror, orders=40)
    assert (await heal(mirror, shop, Blind(shop, 20))).ending.state == "refused"
    assert (await heal(mirror, shop, since=shop.now)).ending.state == "complete"
    assert (await heal(mirror, shop, entities=("customer",))).ending.state == "complete"
    assert await mirror.column(ALARMS) == ["reconcile_refused"]
    assert (await heal(mirror, shop)).ending.state == "complete"
    assert await mirror.column(ALARMS) == []


async def test_a_window_that_failed_is_forgiven_by_everything(mirror: Mirror) -> None:
    shop = await filled(mirror, orders=40)
    client = Blind(shop, 20)
    assert (await heal(mirror, shop, client, since=shop.now.replace(year=2020))).ending.state == "refused"
    assert await mirror.column(ALARMS) == ["reconcile_refused"]
    assert (await heal(mirror, shop)).ending.state == "complete"
    assert await mirror.column(ALARMS) == []


async def test_a_full_one_that_was_cut_off_is_due_again_within_the_hour(mirror: Mirror) -> None:
    shop = await filled(mirror)

    await cut_off(shop, lambda client: Reconciling(mirror.database, {"vendure": client}).heal_due())
    assert await mirror.column(RUNS) == ["backfill complete", "reconcile incomplete"]
    assert await mirror.column(DUE) == []
    await pass_by(mirror, "61 minutes")
    assert await mirror.column(DUE) == ["true"]


@pytest.mark.parametrize(("later", "runs"), [("23 hours", 1), ("25 hours", 2)])
async def test_a_backfill_of_days_ago_proves_nothing_of_today_and_is_begun_anew(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, later: str, runs: int
) -> None:
    monkeypatch.setattr("sync.passes.SLICE_SIZE", 2)
    shop = open_shop(customers=1, orders=6)

    async def go_away(name: str, number: int) -> None:
        if name == "sweep" and number == 4:  # one slice of customers and two of orders have their receipts
            raise Retry("the engine is away")

    with pytest.raises(Retry):
        await fill(mirror, shop, EventfulClient(shop, go_away))
    await pass_by(mirror, later)
    shop.edit("order", "1", state="Shipped")  # its hook is lost
    assert (await fill(mirror, shop)).ending.state == "complete"
    assert len(await mirror.column(RUNS)) == runs
    if runs == 2:
        await assert_equal(mirror, shop)


async def test_a_full_one_that_was_killed_is_due_again_within_the_hour(mirror: Mirror) -> None:
    shop = await filled(mirror)
    await heal(mirror, shop)
    await mirror.connection.execute(
        "update mirror.sync_runs set state = 'running', finished_at = null, claimed_by = mirror.uuid_v7(), "
        "claimed_until = now() where kind = 'reconcile'"
    )
    await mirror.connection.execute("delete from mirror.drift where entity = 'order'")
    assert await mirror.column(DUE) == []
    await pass_by(mirror, "61 minutes")
    assert await mirror.column(DUE) == ["true"]


async def test_a_full_one_that_found_what_cannot_be_read_waits_for_its_day(mirror: Mirror) -> None:
    shop = await filled(mirror)
    shop.put("order", order_document("6", totalWithTax="?"))
    await Reconciling(mirror.database, {"vendure": ShopClient(shop)}).heal_due()
    assert (await mirror.column(RUNS))[1:] == ["reconcile incomplete"]
    await pass_by(mirror, "61 minutes")
    assert await mirror.column(DUE) == ["false"]


async def test_that_a_shop_was_brought_over_is_not_forgotten(mirror: Mirror) -> None:
    shop = await filled(mirror)
    await cut_off(shop, lambda client: fill(mirror, shop, client, restart=True))
    await pass_by(mirror, "31 days")
    await mirror.connection.execute("select mirror.prune_runs()")
    assert await mirror.column(RUNS) == ["backfill complete", "backfill incomplete"]
    assert await mirror.column(DUE) == ["true"]


async def test_one_removed_and_one_placed_meanwhile_do_not_cancel_each_other_out(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=5)

    async def change(name: str, count: int) -> None:
        if name == "sweep" and count == 2:  # the orders are listed
            await hook(mirror, shop.remove("order", "3"))
            now = shop.now.isoformat()
            shop.put("order", order_document("9", orderPlacedAt=now, updatedAt=now))  # its hook is lost

    filled = await fill(mirror, shop, EventfulClient(shop, change))
    assert await live(mirror, "order") == ["1", "2", "4", "5", "9"], filled.ending


async def test_looking_does_not_call_equal_what_waits(mirror: Mirror) -> None:
    shop = await filled(mirror)
    await mirror.accept_read([shop.edit("order", "2", state="Shipped"), shop.put("customer", customer_document("9"))])
    looked = await look(mirror, shop)
    assert looked.ending.state == "complete"
    shown = io.StringIO()
    print_reconciled(Console(file=shown, width=200), looked, fix=False)
    assert "but for 2 of which the hook is on its way" in shown.getvalue()
    assert [summary.on_its_way for summary in looked.summaries] == [1, 1]


async def test_a_hand_edit_names_what_was_edited_and_not_what_follows_from_it(mirror: Mirror) -> None:
    await filled(mirror)
    await mirror.connection.execute(
        "update public.customer_orders_summary set order_state = 'Shipped' where source_id = '1'"
    )
    assert await mirror.column("select columns from mirror.hand_edits") == [["order_state"]]


async def test_the_stages_that_a_backfill_brought_are_told_in_their_order(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=1)
    for stage in ("SOURCING", "ARRIVED"):
        shop.set_stage("1", stage)
    await fill(mirror, shop)
    code = (await mirror.order("1"))["order_code"]
    told = await mirror.column("select what from mirror.why_order($1) where kind = 'stage'", code)
    assert [what.split(" → ")[-1] for what in told] == ["ORDER_CONFIRMED", "SOURCING", "ARRIVED"]
