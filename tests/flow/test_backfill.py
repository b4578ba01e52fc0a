"""A backfill brings everything over, proves it, says what it could not, and goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import pytest

from sync.engines.base import Event, Sweep
from sync.errors import Retry
from sync.passes import Unwatched
from sync.records import Entity
from sync.runs import Busy, Receipt
from tests.engine import Shop, ShopClient
from tests.factory import line, order_document
from tests.flow.runs import EventfulClient, assert_equal, fill, hook, live, open_shop
from tests.mirror import Mirror

RECEIPTS = """
    select entity, slice, counted, written, unchanged, rejected, is_complete
    from mirror.sync_receipts where not is_superseded order by entity, slice
"""
CURSORS = "select entity, slice, is_at_end from mirror.sync_cursors order by entity"
UNTOUCHED = "select source_id, xmin::text from public.customer_orders_summary order by 1"
DEAD_PROCESS = "update mirror.sync_runs set claimed_until = now() - interval '1 second'"


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.passes.SLICE_SIZE", 2)


async def receipts(mirror: Mirror) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await mirror.connection.fetch(RECEIPTS)]


class Away(ShopClient):
    """A client whose engine goes away after so many sweeps, for good."""

    def __init__(self, shop: Shop, sweeps: int) -> None:
        super().__init__(shop)
        self.left = sweeps

    async def sweep(
        self, entity: Entity, *, position: str | None = None, since: datetime | None = None, limit: int = 500
    ) -> Sweep:
        if self.left == 0:
            raise Retry("the engine is away")
        self.left -= 1
        return await super().sweep(entity, position=position, since=since, limit=limit)


class Sparing(ShopClient):
    """A client whose engine asks to come again later, so many times."""

    def __init__(self, shop: Shop, times: int, seconds: float) -> None:
        super().__init__(shop)
        self.left, self.seconds = times, seconds

    async def sweep(
        self, entity: Entity, *, position: str | None = None, since: datetime | None = None, limit: int = 500
    ) -> Sweep:
        if self.left:
            self.left -= 1
            raise Retry("the engine has enough for now", after=self.seconds)
        return await super().sweep(entity, position=position, since=since, limit=limit)


class Forgetful(ShopClient):
    """A client whose engine counts an entity and does not list it."""

    def __init__(self, shop: Shop, forgotten: str) -> None:
        super().__init__(shop)
        self.forgotten = forgotten

    async def sweep(
        self, entity: Entity, *, position: str | None = None, since: datetime | None = None, limit: int = 500
    ) -> Sweep:
        swept = await super().sweep(entity, position=position, since=since, limit=limit)
        if entity == "customer":
            return swept
        kept = [each for each in swept.fingerprints if each.source_id != self.forgotten]
        return msgspec.structs.replace(swept, fingerprints=kept)


class Speechless(ShopClient):
    """A client whose engine lists an entity and cannot read it."""

    def __init__(self, shop: Shop, unreadable: str) -> None:
        super().__init__(shop)
        self.unreadable = unreadable

    async def fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[Event]:
        return [event for event in await super().fetch(entity, source_ids) if event.entity_id != self.unreadable]


async def test_everything_is_brought_over_with_receipts(mirror: Mirror) -> None:
    shop = open_shop(customers=3, orders=5)
    filled = await fill(mirror, shop)
    assert (filled.ending.state, filled.ending.reason, filled.differing) == ("complete", None, {})
    assert [(s.entity, s.counted, s.seen) for s in filled.summaries] == [("customer", 3, 3), ("order", 5, 5)]
    assert await receipts(mirror) == [
        ("customer", 0, 2, 2, 0, 0, True),
        ("customer", 1, 1, 1, 0, 0, True),
        ("order", 0, 2, 2, 0, 0, True),
        ("order", 1, 2, 2, 0, 0, True),
        ("order", 2, 1, 1, 0, 0, True),
    ]
    await assert_equal(mirror, shop)


async def test_a_receipt_names_what_it_wrote(mirror: Mirror) -> None:
    await fill(mirror, open_shop(customers=1, orders=3))
    assert await mirror.column("select written_ids from mirror.sync_receipts order by entity, slice") == [
        ["1"], ["1", "2"], ["3"],
    ]  # fmt: skip


async def test_an_empty_shop_is_complete(mirror: Mirror) -> None:
    assert (await fill(mirror, Shop())).ending.state == "complete"


async def test_what_is_here_already_is_neither_fetched_nor_touched(mirror: Mirror) -> None:
    shop = open_shop()
    await fill(mirror, shop)
    before = [tuple(row) for row in await mirror.connection.fetch(UNTOUCHED)]
    shop.asked.clear()
    assert (await fill(mirror, shop)).ending.state == "complete"
    assert "fetch" not in shop.asked
    assert [tuple(row) for row in await mirror.connection.fetch(UNTOUCHED)] == before


async def test_a_large_slice_is_written_over_two_connections(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.passes.SLICE_SIZE", 500)
    shop = open_shop(customers=150, orders=250)
    assert (await fill(mirror, shop)).ending.state == "complete"
    assert await receipts(mirror) == [("customer", 0, 150, 150, 0, 0, True), ("order", 0, 250, 250, 0, 0, True)]


async def test_the_first_slices_are_small(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.passes.FIRST_SLICE", 2)
    monkeypatch.setattr("sync.passes.SLICE_SIZE", 5)
    assert (await fill(mirror, open_shop(customers=1, orders=20))).ending.state == "complete"
    assert [row[2] for row in await receipts(mirror) if row[0] == "order"] == [2, 4, 5, 5, 4]


async def test_it_comes_again_when_the_engine_says(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=1)
    assert (await fill(mirror, shop, Sparing(shop, times=3, seconds=0.01))).ending.state == "complete"


@pytest.mark.parametrize(("times", "seconds"), [(100, 0.01), (1, 86400)])
async def test_an_engine_that_only_ever_says_later_ends_the_run(mirror: Mirror, times: int, seconds: float) -> None:
    shop = open_shop(customers=1, orders=1)
    with pytest.raises(Retry, match="enough for now"):
        await fill(mirror, shop, Sparing(shop, times, seconds))


async def test_it_goes_on_where_the_engine_went_away(mirror: Mirror) -> None:
    shop = open_shop(customers=3, orders=9)
    with pytest.raises(Retry, match="the engine is away"):
        await fill(mirror, shop, Away(shop, 4))
    cursors = {row["entity"]: row["slice"] for row in await mirror.connection.fetch(CURSORS)}
    assert cursors == {"customer": 2, "order": 2}
    shop.asked.clear()
    filled = await fill(mirror, shop)
    assert filled.ending.state == "complete"
    assert shop.asked.count("sweep") == 3, "only what was not read yet"
    assert await mirror.column("select count(*) from mirror.sync_runs") == [1]
    await assert_equal(mirror, shop)


async def test_it_goes_on_where_it_was_interrupted(mirror: Mirror) -> None:
    shop = open_shop(customers=3, orders=9)
    reached = asyncio.Event()

    async def stop_there(_: str, number: int) -> None:
        if number == 4:
            reached.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(fill(mirror, shop, EventfulClient(shop, stop_there)))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await mirror.column("select state || ': ' || reason from mirror.sync_runs") == ["incomplete: interrupted"]
    assert (await fill(mirror, shop)).ending.state == "complete"
    assert await mirror.column("select count(*) from mirror.sync_runs") == [1]
    await assert_equal(mirror, shop)


async def test_a_run_that_failed_is_never_called_a_success(mirror: Mirror) -> None:
    shop = open_shop()
    with pytest.raises(Retry):
        await fill(mirror, shop, Away(shop, 2))
    assert await mirror.column("select state || ': ' || reason from mirror.sync_runs") == [
        "incomplete: the engine is away"
    ]


async def test_asked_for_in_other_words_or_to_restart_it_begins_anew(mirror: Mirror) -> None:
    shop = open_shop()
    for how in ({}, {"restart": True}, {"entities": ("order",)}):
        with pytest.raises(Retry):
            await fill(mirror, shop, Away(shop, 1), **how)
    assert await mirror.column("select count(*) from mirror.sync_runs") == [3]


async def test_only_what_was_touched_since(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=2)
    old = "2025-01-01T00:00:00Z"
    shop.put("order", order_document("3", createdAt=old, orderPlacedAt=old, updatedAt=old))
    filled = await fill(mirror, shop, entities=("order",), since=datetime.fromisoformat("2026-01-01T00:00:00Z"))
    assert filled.ending.state == "complete"
    assert await live(mirror, "order") == ["1", "2"]


async def test_beside_another_run_it_does_not_begin(mirror: Mirror) -> None:
    shop = open_shop()

    async def again(_: str, __: int) -> None:
        with pytest.raises(Busy, match="another process has a backfill"):
            await fill(mirror, shop)

    await fill(mirror, shop, EventfulClient(shop, again))


async def test_the_run_of_a_process_that_died_is_taken_over_and_it_writes_no_more(mirror: Mirror) -> None:
    shop = open_shop()
    taken = False

    async def take_over(_: str, number: int) -> None:
        nonlocal taken
        if number == 2 and not taken:
            taken = True
            await mirror.connection.execute(DEAD_PROCESS)
            assert (await fill(mirror, shop)).ending.state == "complete"

    with pytest.raises(Exception, match="another process has taken the run over"):
        await fill(mirror, shop, EventfulClient(shop, take_over))
    assert await mirror.column("select state from mirror.sync_runs") == ["complete"]


async def test_a_newer_hook_wins_wherever_it_comes_between(mirror: Mirror) -> None:
    shop = open_shop(customers=2, orders=2)

    async def change(name: str, number: int) -> None:
        await hook(mirror, shop.edit("order", "1", state=f"{name} {number}"))

    assert (await fill(mirror, shop, EventfulClient(shop, change))).ending.state == "complete"
    assert (await mirror.order("1"))["order_state"] == shop.documents["order"]["1"]["state"]
    await assert_equal(mirror, shop)


async def test_an_older_hook_that_comes_late_changes_nothing(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=1)
    late = shop.edit("order", "1", state="PaymentAuthorized")
    shop.edit("order", "1", state="PaymentSettled")
    await fill(mirror, shop)
    await hook(mirror, late)
    assert (await mirror.order("1"))["order_state"] == "PaymentSettled"


async def test_what_is_deleted_between_listing_and_reading_is_marked_deleted(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=2)

    async def remove(name: str, _: int) -> None:
        if name == "sweep" and "2" in shop.documents["order"]:
            shop.remove("order", "2")

    filled = await fill(mirror, shop, EventfulClient(shop, remove), entities=("order",))
    assert filled.ending.state == "complete"
    assert await mirror.column("select vanished from mirror.sync_receipts") == [1]
    assert await live(mirror, "order") == ["1"]


async def test_a_deletion_that_a_hook_told_of_stands_against_the_older_reading(mirror: Mirror) -> None:
    shop = open_shop(customers=2, orders=2)

    async def remove(name: str, _: int) -> None:
        if name == "fetch" and "2" in shop.documents["customer"]:
            await hook(mirror, shop.remove("customer", "2"))

    filled = await fill(mirror, shop, EventfulClient(shop, remove), entities=("customer",))
    assert filled.ending.state == "complete"
    assert [(s.counted, s.seen, s.removed) for s in filled.summaries] == [(1, 2, 1)]
    assert await live(mirror, "customer") == ["1"]


async def test_what_is_placed_behind_the_cursor_meanwhile_is_brought_over_too(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=0)
    for number in range(4, 9):
        shop.put("order", order_document(str(number)))

    async def place(name: str, _: int) -> None:
        if name == "fetch" and "1" not in shop.documents["order"]:
            placed = shop.now.isoformat()
            shop.put("order", order_document("1", orderPlacedAt=placed, updatedAt=placed))

    filled = await fill(mirror, shop, EventfulClient(shop, place), entities=("order",))
    assert (filled.ending.state, filled.summaries[0].counted) == ("complete", 6)
    assert await live(mirror, "order") == ["1", "4", "5", "6", "7", "8"]


async def test_an_engine_that_counts_what_it_does_not_list_is_not_believed(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=8)
    filled = await fill(mirror, shop, Forgetful(shop, "5"))
    assert filled.ending.state == "incomplete"
    assert filled.ending.reason == "the engine counts 8 orders and lists 7"
    assert [(row["entity"], row["slice"]) for row in await mirror.connection.fetch(CURSORS)] == [
        ("customer", 1), ("order", 2),
    ]  # fmt: skip
    assert await live(mirror, "order") == ["1", "2", "3", "4", "6", "7", "8"], "what follows is written all the same"
    shop.asked.clear()
    filled = await fill(mirror, shop)
    assert filled.ending.state == "complete"
    assert await live(mirror, "order") == [str(number) for number in range(1, 9)]


async def test_what_cannot_be_mapped_or_is_refused_is_named_and_holds_up_nothing(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=9)
    shop.edit("order", "3", totalWithTax="free")
    shop.edit("order", "5", lines=[line("1", quantity=-1)])
    filled = await fill(mirror, shop)
    assert filled.ending.state == "incomplete"
    assert filled.ending.reason == "2 orders differ"
    reasons = {each.source_id: each.reason or "" for each in filled.differing["order"]}
    assert list(reasons) == ["3", "5"]
    assert "totalWithTax" in reasons["3"]
    assert "SQLSTATE 23514" in reasons["5"]
    assert await live(mirror, "order") == ["1", "2", "4", "6", "7", "8", "9"]
    assert [row["slice"] for row in await mirror.connection.fetch(CURSORS) if row["entity"] == "order"] == [1]
    shop.edit("order", "3", totalWithTax=100000)
    shop.edit("order", "5", lines=[line("1")])
    assert (await fill(mirror, shop)).ending.state == "complete"
    await assert_equal(mirror, shop)


async def test_what_the_engine_lists_and_cannot_read_is_named(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=3)
    filled = await fill(mirror, shop, Speechless(shop, "2"))
    assert filled.ending.state == "incomplete"
    assert [(each.source_id, each.reason) for each in filled.differing["order"]] == [
        ("2", "the engine lists it, and cannot read it")
    ]


async def test_what_is_not_for_us_by_its_document_is_no_fault(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=2)
    shop.edit("order", "2", type="Seller")
    filled = await fill(mirror, shop)
    assert filled.ending.state == "complete"
    assert await live(mirror, "order") == ["1"]


async def test_orders_that_swap_their_codes_are_written_at_the_second_look(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=3)
    await fill(mirror, shop)
    shop.edit("order", "1", code="CODE3")
    shop.edit("order", "3", code="OTHER")
    assert (await fill(mirror, shop)).ending.state == "complete"
    await assert_equal(mirror, shop)


async def test_whoever_watches_learns_of_every_slice(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=5)

    class Watcher(Unwatched):
        def __init__(self) -> None:
            self.begun: list[tuple[str, int, int]] = []
            self.counted = 0

        def begin(self, entity: Entity, total: int, done: int) -> None:
            self.begun.append((entity, total, done))

        def wrote(self, receipt: Receipt) -> None:
            self.counted += receipt.counted

    watcher = Watcher()
    await fill(mirror, shop, progress=watcher)
    assert (watcher.begun, watcher.counted) == ([("customer", 1, 0), ("order", 5, 0)], 6)


async def test_slices_are_made_ready_only_a_few_ahead(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=40)
    written = 0
    ahead = []

    class Watcher(Unwatched):
        def wrote(self, receipt: Receipt) -> None:
            nonlocal written
            written += 1

    async def note(name: str, number: int) -> None:
        if name == "sweep":
            ahead.append(number - written)

    await fill(mirror, shop, EventfulClient(shop, note), progress=Watcher())
    assert max(ahead) <= 5
