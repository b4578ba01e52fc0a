"""A reconcile finds what is missing, stale or gone, says how it came about, heals it, and believes not everything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sync.engines.base import Event, Sweep
from sync.errors import Retry
from sync.reconcile import Reconciling
from sync.records import Entity
from tests.engine import Shop, ShopClient
from tests.factory import START, address, customer_document, line, order_document
from tests.flow.runs import EventfulClient, assert_equal, fill, heal, hook, live, look, open_shop
from tests.flow.serving import until
from tests.flow.test_convergence import EMPTY
from tests.mirror import Mirror

CAUSES = (
    "select f ->> 'source_id', f ->> 'state', f ->> 'cause' from mirror.sync_receipts, jsonb_array_elements(found) f"
)
RUNS = "select kind || ' ' || state from mirror.sync_runs order by id"
WRITTEN = """
    select coalesce(sum(written + tombstoned), 0)
    from mirror.sync_receipts r join mirror.sync_runs u on u.id = r.run_id
"""


class Blind(ShopClient):
    """A client whose engine lists only some of its orders, as one that lost its rights or its channel."""

    def __init__(self, shop: Shop, listed: int) -> None:
        super().__init__(shop)
        self.listed = listed

    async def count(self, entity: Entity, *, since: datetime | None = None) -> int:
        counted = await super().count(entity, since=since)
        return min(counted, self.listed) if entity == "order" else counted

    async def sweep(
        self, entity: Entity, *, position: str | None = None, since: datetime | None = None, limit: int = 500
    ) -> Sweep:
        swept = await super().sweep(entity, position=position, since=since, limit=limit)
        kept = swept.fingerprints[: self.listed] if entity == "order" else swept.fingerprints
        return msgspec.structs.replace(swept, fingerprints=kept, counted=len(kept))


async def filled(mirror: Mirror, *, customers: int = 3, orders: int = 5) -> Shop:
    """Return a shop whose mirror is equal to it."""
    shop = open_shop(customers=customers, orders=orders)
    assert (await fill(mirror, shop)).ending.state == "complete"
    return shop


async def causes(mirror: Mirror) -> set[tuple[str, str, str]]:
    """Return what the last run found to differ: id, state and cause."""
    last = f"{CAUSES} where run_id = (select id from mirror.sync_runs order by id desc limit 1)"
    return {tuple(row) for row in await mirror.connection.fetch(last)}


async def test_where_nothing_differs_nothing_is_fetched_or_written(mirror: Mirror) -> None:
    shop = await filled(mirror)
    shop.asked.clear()
    healed = await heal(mirror, shop)
    assert (healed.ending.state, healed.found) == ("complete", {})
    assert "fetch" not in shop.asked


async def test_what_is_missing_stale_or_gone_is_found_and_only_that_is_fetched(mirror: Mirror) -> None:
    shop = await filled(mirror)
    shop.put("customer", customer_document("9"))
    shop.edit("order", "2", state="Shipped")
    shop.remove("order", "3")
    asked: list[Sequence[str]] = []

    class Noting(ShopClient):
        async def fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[Event]:
            asked.append(source_ids)
            return await super().fetch(entity, source_ids)

    healed = await heal(mirror, shop, Noting(shop))
    assert asked == [["9"], ["2"], ["3"]]
    assert healed.ending.state == "complete"
    drift = {s.entity: (s.missing, s.stale, s.gone, s.never_sent) for s in healed.summaries}
    assert drift == {"customer": (1, 0, 0, 1), "order": (0, 1, 1, 2)}
    await assert_equal(mirror, shop)


async def test_dry_it_tells_the_same_and_changes_nothing(mirror: Mirror) -> None:
    shop = await filled(mirror)
    shop.put("customer", customer_document("9"))
    shop.edit("order", "2", state="Shipped")
    shop.remove("order", "3")
    looked = await look(mirror, shop)
    assert (looked.ending.state, looked.ending.reason) == (
        "drifted",
        "1 missing, 0 stale and 0 gone customers; 0 missing, 1 stale and 1 gone orders",
    )
    assert {(f.source_id, f.state, f.cause) for found in looked.found.values() for f in found} == {
        ("9", "missing", "unsent"), ("2", "stale", "unsent"), ("3", "gone", "unsent"),
    }  # fmt: skip
    assert await mirror.column(f"{WRITTEN} where u.kind = 'reconcile'") == [0]
    assert "3" in await live(mirror, "order")


async def test_a_deletion_whose_hook_was_lost_is_mirrored_and_a_late_state_does_not_revive_it(mirror: Mirror) -> None:
    shop = await filled(mirror)
    late = shop.edit("order", "3", state="Shipped")
    shop.remove("order", "3")
    await heal(mirror, shop)
    await hook(mirror, late)
    assert "3" not in await live(mirror, "order")


async def test_what_the_mirror_took_for_deleted_and_the_engine_has_comes_back(mirror: Mirror) -> None:
    shop = await filled(mirror)
    await mirror.connection.execute(
        "update public.customers set is_active = false, deleted_at = now() where source_id = '2'"
    )
    await mirror.connection.execute("update public.customers set deleted_at = $1 where source_id = '2'", shop.now)
    assert (await heal(mirror, shop)).ending.state == "complete"
    assert await live(mirror, "customer") == ["1", "2", "3"]


async def test_a_dead_hook_is_named_as_the_cause(mirror: Mirror) -> None:
    shop = await filled(mirror)
    await hook(mirror, shop.edit("order", "2", totalWithTax="free"))
    shop.edit("order", "2", totalWithTax=120000)
    healed = await heal(mirror, shop)
    assert await causes(mirror) == {("2", "stale", "dead")}
    assert "totalWithTax" in (healed.found["order"][0].detail or "")


async def test_a_hook_that_waits_is_no_drift(mirror: Mirror) -> None:
    shop = await filled(mirror)
    await mirror.accept_read([shop.edit("order", "2", state="Shipped")])
    looked = await look(mirror, shop)
    assert (looked.ending.state, looked.summaries[1].on_its_way) == ("complete", 1)
    assert await causes(mirror) == {("2", "stale", "pending")}


async def test_a_hook_that_comes_while_it_runs_was_not_forgotten(mirror: Mirror) -> None:
    shop = await filled(mirror)
    told: list[Event] = [shop.edit("order", "2", state="Shipped")]

    async def arrive(name: str, _: int) -> None:
        if name == "fetch" and told:
            await hook(mirror, told.pop())

    healed = await heal(mirror, shop, EventfulClient(shop, arrive))
    assert [(s.stale, s.on_its_way, s.never_sent) for s in healed.summaries] == [(0, 0, 0), (0, 1, 0)]
    assert await causes(mirror) == {("2", "stale", "late")}


async def test_a_customer_who_comes_while_orders_are_read_is_no_alarm(mirror: Mirror) -> None:
    shop = await filled(mirror)
    shop.asked.clear()

    async def register(_: str, number: int) -> None:
        if number == 2:  # the customers were read by the first
            newcomer = customer_document("0", createdAt=shop.now.isoformat())
            await hook(mirror, shop.put("customer", newcomer))

    looked = await look(mirror, shop, EventfulClient(shop, register))
    assert (looked.ending.state, looked.ending.reason) == ("complete", None)
    assert (looked.summaries[0].counted, looked.summaries[0].seen) == (4, 4)


async def test_a_customer_who_goes_while_orders_are_read_is_waited_for(mirror: Mirror) -> None:
    shop = await filled(mirror)
    shop.asked.clear()
    hooks: list[asyncio.Task[None]] = []

    async def say_later(event: Event) -> None:
        await asyncio.sleep(0.1)
        await hook(mirror, event)

    async def leave(_: str, number: int) -> None:
        if number == 2:
            hooks.append(asyncio.create_task(say_later(shop.remove("customer", "3"))))

    healed = await heal(mirror, shop, EventfulClient(shop, leave), grace=1)
    await asyncio.gather(*hooks)
    assert (healed.ending.state, healed.ending.reason) == ("complete", None)


@pytest.mark.parametrize(
    ("setting", "column", "before", "after"),
    [
        ("public.stores set phone_region = 'DE'", "contact_phone", "94301234567", "49301234567"),
        ("mirror.integrations set money_precision = 3", "total_with_tax::text", "12.00", "1.200"),
    ],
)
async def test_what_is_set_of_a_shop_later_reaches_what_was_read_before(
    mirror: Mirror, setting: str, column: str, before: str, after: str
) -> None:
    shop = open_shop(customers=1, orders=0)
    shop.put("order", order_document("1", shippingAddress={"phoneNumber": "030 1234567"}, totalWithTax=1200))
    await fill(mirror, shop)
    read = f"select {column} from public.customer_orders_summary"
    assert await mirror.column(read) == [before]
    await mirror.connection.execute(f"update {setting}")
    healed = await heal(mirror, shop)
    assert (healed.ending.state, await mirror.column(read)) == ("complete", [after])
    assert {cause for _, _, cause in await causes(mirror)} == {"remapped"}
    assert (await heal(mirror, shop)).found == {}


async def test_a_renamed_product_is_brought_over_and_is_no_lost_hook(mirror: Mirror) -> None:
    shop = await filled(mirror)
    renamed = {"sku": "KIT-M", "name": "Away Kit M", "product": {"name": "Away Kit"}}
    shop.edit("order", "2", lines=[line("1", productVariant=renamed)])
    shop.edit("order", "3", lines=[line("1", quantity=2)])
    healed = await heal(mirror, shop)
    assert await causes(mirror) == {("2", "stale", "renamed"), ("3", "stale", "unsent")}
    assert (healed.summaries[1].stale, healed.summaries[1].never_sent) == (2, 1)
    await assert_equal(mirror, shop)


async def test_rows_of_before_contents_were_compared_are_read_once_and_are_no_lost_hooks(mirror: Mirror) -> None:
    shop = await filled(mirror)
    await mirror.connection.execute("update public.customers set source_hash = null")
    await mirror.connection.execute("update public.customer_orders_summary set source_hash = '0:' || source_hash")
    healed = await heal(mirror, shop)
    assert {cause for _, _, cause in await causes(mirror)} == {"unknown", "remapped"}
    assert [(s.stale, s.never_sent) for s in healed.summaries] == [(3, 0), (5, 0)]
    assert (await heal(mirror, shop)).found == {}


EDITS = {
    "a customer's name": "update public.customers set first_name = 'Mallory' where source_id = '1'",
    "a customer's version": "update public.customers set source_version = 'infinity', first_name = 'x'",
    "a customer's deletion": "update public.customers set is_active = false, deleted_at = source_version",
    "an order's total": "update public.customer_orders_summary set total_with_tax = 1 where source_id = '1'",
    "an order's contact": "update public.customer_orders_summary set contact_email = 'm@example.com'",
    "an order's customer": "update public.customer_orders_summary set customer_id = null where source_id = '1'",
    "a line": "update public.customer_order_items set quantity = 7 where source_id = '1'",
    "a line's version": "update public.customer_order_items set source_version = 'infinity', quantity = 7",
    "a line less": "delete from public.customer_order_items where source_id = '1'",
    "a line more": """
        insert into public.customer_order_items (
            store_id, order_summary_id, source_id, source_version, product_name, variant_name, quantity, currency,
            unit_price_with_tax, line_total_with_tax
        )
        select store_id, id, '99', 'infinity', 'Gift', 'Gift', 1, 'LKR', 0, 0
        from public.customer_orders_summary where source_id = '1'""",
    "an address": "update public.customer_addresses set city = 'Nowhere'",
    "an address less": "delete from public.customer_addresses",
    "an address moved": """
        update public.customer_addresses
        set customer_id = (select id from public.customers where source_id = '2')""",
    "a customer less": "delete from public.customers where source_id = '4'",
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_what_was_changed_by_hand_is_found_named_and_put_right(mirror: Mirror, edit: str) -> None:
    shop = open_shop(customers=4, orders=3)
    shop.edit("customer", "1", addresses=[address("1")])
    await fill(mirror, shop)
    before = await contents(mirror)
    await mirror.connection.execute(edit)
    assert await contents(mirror) != before
    looked = await look(mirror, shop)
    assert looked.ending.state == "drifted"
    assert {cause for _, _, cause in await causes(mirror)} == {"edited"}
    assert {f.detail.split(",")[0] for found in looked.found.values() for f in found if f.detail} == {"postgres"}
    assert (await heal(mirror, shop)).ending.state == "complete"
    assert await contents(mirror) == before


CONTENTS = {
    "customers t": "t.source_id",
    "customer_addresses t left join public.customers c on c.id = t.customer_id": "c.source_id",
    "customer_orders_summary t left join public.customers c on c.id = t.customer_id": "c.source_id",
    "customer_order_items t join public.customer_orders_summary o on o.id = t.order_summary_id": "o.source_id",
}
WHEN_READ = "{id, customer_id, order_summary_id, source_version, updated_at, created_at}"


async def contents(mirror: Mirror) -> list[list[str]]:
    """Return what the engine told, as it stands here, without what tells when it was read."""
    content = f"(to_jsonb(t) - '{WHEN_READ}'::text[])::text"
    return [
        await mirror.column(f"select concat({content}, {owner}) from public.{table} order by 1")
        for table, owner in CONTENTS.items()
    ]


OWN = {
    "a stage": "update public.customer_orders_summary set delivery_stage = 'SOURCING' where source_id = '1'",
    "a tracking number": "update public.order_delivery_status set tracking_number = 'SLP-1'",
    "a customer's user": "update public.customers set auth_user_id = null where source_id = '1'",
}


@pytest.mark.parametrize("edit", OWN.values(), ids=OWN)
async def test_what_is_the_admins_to_change_is_no_drift(mirror: Mirror, edit: str) -> None:
    shop = await filled(mirror)
    await mirror.connection.execute(edit)
    assert (await look(mirror, shop)).ending.state == "complete"


async def test_counts_of_a_customer_cannot_be_written_by_hand(mirror: Mirror) -> None:
    await filled(mirror)
    await mirror.connection.execute("update public.customers set total_orders = 99, total_spent = 0")
    assert await mirror.column("select total_orders from public.customers order by source_id") == [2, 2, 1]
    assert await mirror.column("select total_spent from public.customers order by source_id") == [2000, 2000, 1000]


async def test_too_much_gone_at_once_is_refused_and_reported(mirror: Mirror) -> None:
    shop = await filled(mirror, orders=40)
    healed = await heal(mirror, shop, Blind(shop, 20))
    assert healed.ending.state == "refused"
    assert healed.ending.reason == (
        "20 of 40 orders (50.0 %) are gone from the engine: more than 5.0 %, so none was marked deleted"
    )
    assert len(await live(mirror, "order")) == 40
    assert await mirror.column("select alarm from mirror.list_alarms()") == ["reconcile_refused"]


async def test_too_much_gone_is_believed_when_told_to(mirror: Mirror) -> None:
    shop = await filled(mirror, orders=40)
    for number in range(1, 21):
        shop.remove("order", str(number))
    assert (await heal(mirror, shop)).ending.state == "refused"
    assert (await heal(mirror, shop, allow_gone=0.5)).ending.state == "complete"
    assert await live(mirror, "order") == sorted(shop.documents["order"])


async def test_the_share_that_may_be_gone_is_the_integrations(mirror: Mirror) -> None:
    shop = await filled(mirror, orders=40)
    await mirror.connection.execute("update mirror.integrations set max_gone_share = 1")
    for number in range(1, 21):
        shop.remove("order", str(number))
    assert (await heal(mirror, shop)).ending.state == "complete"


async def test_ten_are_always_believed_to_be_gone(mirror: Mirror) -> None:
    shop = await filled(mirror, orders=12)
    for number in range(1, 11):
        shop.remove("order", str(number))
    assert (await heal(mirror, shop)).ending.state == "complete"
    assert await live(mirror, "order") == ["11", "12"]


async def test_what_the_engine_did_not_list_and_has_is_not_marked_deleted(mirror: Mirror) -> None:
    shop = await filled(mirror, orders=12)
    healed = await heal(mirror, shop, Blind(shop, 11))
    assert healed.ending.state == "incomplete"
    assert [(d.source_id, d.reason) for d in healed.differing["order"]] == [
        ("9", "the engine has it, and did not list it")
    ]
    assert len(await live(mirror, "order")) == 12


async def test_a_window_looks_only_at_what_is_in_it(mirror: Mirror) -> None:
    shop = await filled(mirror, orders=3)
    old = dict.fromkeys(("createdAt", "orderPlacedAt", "updatedAt"), "2025-01-01T00:00:00Z")
    shop.put("order", order_document("4", **old))
    shop.put("order", order_document("5", **old))
    await fill(mirror, shop)
    shop.remove("order", "4")
    shop.remove("order", "3")
    shop.edit("order", "5", state="Shipped")
    healed = await heal(mirror, shop, since=START - timedelta(days=1))
    assert healed.ending.state == "complete"
    assert await live(mirror, "order") == ["1", "2", "4", "5"]
    assert (await mirror.order("5"))["order_state"] == "PaymentSettled"
    await heal(mirror, shop)
    await assert_equal(mirror, shop)


async def test_bare_references_are_no_gone_customers(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=1)
    shop.edit("order", "1", customer={"id": "unheard-of"})
    await fill(mirror, shop)
    assert (await heal(mirror, shop)).ending.state == "complete"


async def test_a_crash_that_empties_what_was_seen_is_noticed(mirror: Mirror) -> None:
    shop = await filled(mirror)
    crashed = False

    async def crash(name: str, number: int) -> None:
        nonlocal crashed
        if not crashed and number == 2:
            crashed = True
            await until(lambda: _is_seen(mirror))
            await mirror.connection.execute("truncate mirror.sync_seen")

    assert (await heal(mirror, shop, EventfulClient(shop, crash))).ending.state == "complete"
    assert len(await live(mirror, "customer")) == 3
    assert len(await live(mirror, "order")) == 5


async def _is_seen(mirror: Mirror) -> bool:
    return bool(await mirror.connection.fetchval("select count(*) from mirror.sync_seen"))


async def test_drift_is_kept_over_time(mirror: Mirror) -> None:
    shop = await filled(mirror)
    for number in range(1, 4):
        for order in range(1, number + 1):
            shop.edit("order", str(order), state=f"State {number}")
        await heal(mirror, shop)
    kept = "select stale from mirror.drift d join mirror.sync_runs r on r.id = d.run_id "
    assert await mirror.column(kept + "where kind = 'reconcile' and entity = 'order' order by d.created_at") == [
        1,
        2,
        3,
    ]


async def test_the_daemon_heals_on_schedule_once_whoever_is_at_it(mirror: Mirror) -> None:
    shop = await filled(mirror)
    shop.edit("order", "2", state="Shipped")
    duties = [Reconciling(mirror.database, {"vendure": ShopClient(shop)}) for _ in range(3)]
    await asyncio.gather(*(duty.heal_due() for duty in duties))
    assert (await mirror.order("2"))["order_state"] == "Shipped"
    assert await mirror.column(RUNS) == ["backfill complete", "reconcile complete"]
    await duties[0].heal_due()
    assert len(await mirror.column(RUNS)) == 2, "it is not due again yet"


async def test_what_is_due_is_a_window_every_hour_and_everything_every_day(mirror: Mirror) -> None:
    shop = await filled(mirror)
    duty = Reconciling(mirror.database, {"vendure": ShopClient(shop)})
    is_full = "select options ->> 'is_full' from mirror.sync_runs where kind = 'reconcile' order by id"
    for passed in ("0", "61 minutes", "61 minutes", "24 hours"):
        await mirror.connection.execute(f"update mirror.sync_runs set created_at = created_at - interval '{passed}'")
        await duty.heal_due()
    assert await mirror.column(is_full) == ["true", "false", "false", "true"]


async def test_turned_off_nothing_is_due(mirror: Mirror) -> None:
    shop = await filled(mirror)
    await mirror.connection.execute(
        "update mirror.integrations set reconcile_every = null, full_reconcile_every = null"
    )
    await Reconciling(mirror.database, {"vendure": ShopClient(shop)}).heal_due()
    assert await mirror.column(RUNS) == ["backfill complete"]


async def test_an_engine_that_is_away_ends_the_run_and_not_the_duty(mirror: Mirror) -> None:
    shop = await filled(mirror)

    async def fail(_: str, __: int) -> None:
        raise Retry("the engine is away")

    await Reconciling(mirror.database, {"vendure": EventfulClient(shop, fail)}).heal_due()
    assert await mirror.column(RUNS) == ["backfill complete", "reconcile incomplete"]
    assert await mirror.column("select alarm from mirror.list_alarms()") == ["reconcile_incomplete"]


async def test_told_to_stop_it_leaves_the_run_in_hand(mirror: Mirror) -> None:
    shop = await filled(mirror)
    reached, stop = asyncio.Event(), asyncio.Event()

    async def hang(_: str, __: int) -> None:
        reached.set()
        await asyncio.Event().wait()

    duty = asyncio.create_task(Reconciling(mirror.database, {"vendure": EventfulClient(shop, hang)}).run(stop))
    await reached.wait()
    stop.set()
    await duty
    assert await mirror.column(RUNS) == ["backfill complete", "reconcile incomplete"]


Change = tuple[str, int, str]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["edit", "remove", "place", "customer", "leave"]),
        st.integers(1, 6),
        st.sampled_from(["at once", "late", "never"]),
    ),
    max_size=15,
)


def happen(shop: Shop, change: Change) -> Event | None:
    """Let something happen in a shop; return the event that tells of it."""
    what, number, _ = change
    entity: Entity = "customer" if what in {"customer", "leave"} else "order"
    source_id, is_there = str(number), str(number) in shop.documents[entity]
    now = shop.now.isoformat()
    if what in {"remove", "leave"}:
        return shop.remove(entity, source_id) if is_there else None
    if what == "place":
        return None if is_there else shop.put("order", order_document(source_id, orderPlacedAt=now, updatedAt=now))
    if what == "customer":
        return shop.put("customer", customer_document(source_id, firstName=now, createdAt=now))
    return shop.edit("order", source_id, state=now, lines=[line(now[-6:])]) if is_there else None


async def test_beside_any_hooks_it_ends_equal(mirror: Mirror) -> None:
    loop = asyncio.get_running_loop()

    async def holds(changes: list[Change], order: random.Random) -> None:
        await mirror.connection.execute(EMPTY)
        shop = open_shop(customers=3, orders=5)
        waiting, late = list(changes), list[Event]()

        async def live_on(_: str, __: int) -> None:
            for change in waiting[: order.randint(0, 3)]:
                waiting.remove(change)
                event = happen(shop, change)
                if event is not None and change[2] == "at once":
                    await hook(mirror, event)
                elif event is not None and change[2] == "late":
                    late.append(event)

        client = EventfulClient(shop, live_on)
        await fill(mirror, shop, client, restart=True)
        await heal(mirror, shop, client, allow_gone=1.0)
        order.shuffle(late)
        await hook(mirror, *late)
        waiting.clear()
        assert (await heal(mirror, shop, allow_gone=1.0)).ending.state == "complete"
        await hook(mirror, *late)
        await assert_equal(mirror, shop)

    @given(changes=CHANGES, order=st.randoms(use_true_random=True))
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None,
              phases=[Phase.generate])  # fmt: skip
    def run(changes: list[Change], order: random.Random) -> None:
        asyncio.run_coroutine_threadsafe(holds(changes, order), loop).result()

    await asyncio.to_thread(run)
