"""What an admin changes is told to the shop, once and in its latest form, whatever fails on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

import msgspec
import pytest
from rich.console import Console

from sync.compare import Difference
from sync.daemon import Daemon
from sync.engines.base import Event
from sync.errors import Reject, Retry
from sync.outbox import Counts
from sync.records import Delivery, Entity
from sync.report import print_status
from sync.settings import load_settings
from sync.status import read_status
from tests.engine import Shop, ShopClient
from tests.factory import fulfillment
from tests.flow.serving import until
from tests.flow.two_sides import TwoSides, open_two_sides
from tests.mirror import Mirror
from tests.rest.gateway import both_doors, postgres_only

LOSE = """
    alter table public.order_delivery_status_events disable trigger user;
    delete from public.order_delivery_status_events where actor = 'studio';
    alter table public.order_delivery_status_events enable trigger user;
"""


@pytest.fixture
async def sides(mirror: Mirror, database: str) -> AsyncIterator[TwoSides]:
    """A shop with orders 1 and 2, and its mirror."""
    async with open_two_sides(mirror, database) as opened:
        await opened.place("1", "2")
        yield opened


class FailingClient(ShopClient):
    """A client whose next sendings fail, before or after the shop took what was sent."""

    def __init__(self, shop: Shop, *errors: Exception, takes: bool = False) -> None:
        super().__init__(shop)
        self.errors = list(errors)
        self.takes = takes

    async def set_delivery(self, source_id: str, delivery: Delivery) -> None:
        error = self.errors.pop(0) if self.errors else None
        if error is None or self.takes:
            await super().set_delivery(source_id, delivery)
        if error is not None:
            raise error


class SilentClient(ShopClient):
    """A client that is not answered when it asks for the so-manieth time."""

    def __init__(self, shop: Shop, fails_at: int, error: Exception) -> None:
        super().__init__(shop)
        self.fails_at = fails_at
        self.error = error

    async def fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[Event]:
        self.fails_at -= 1
        if self.fails_at == 0:
            raise self.error
        return await super().fetch(entity, source_ids)


@both_doors
async def test_what_an_admin_sets_is_told_to_the_shop_once(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.admin_sets_in_order("2", tracking_number="SLP-2", delivery_stage="DISPATCHED")
    assert await sides.deliver() == Counts(sent=2)
    assert [sides.there(order) for order in "12"] == [("SOURCING", None), ("DISPATCHED", "SLP-2")]
    assert await sides.deliver() == Counts()
    assert sides.shop.asked.count("set_delivery") == 2


async def test_the_echo_changes_nothing_and_queues_nothing(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.deliver()
    before = await sides.history("1")
    await sides.tell(sides.shop.event("order", "1"))
    await sides.poll()
    assert await sides.here("1") == ("SOURCING", None)
    assert await sides.history("1") == before == [("ORDER_CONFIRMED", "SOURCING", None, "studio")]
    assert await sides.commands("1") == [("sent", ("SOURCING", None), None)]


async def test_compare_takes_the_admins_entry_for_the_echo(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.admin_sets("1", stage="ARRIVED", tracking_number="SLP-1")
    assert await sides.differences() == [Difference("order", "1", ["delivery_stage", "tracking_number"])]
    await sides.deliver()
    await sides.poll()
    assert await sides.differences() == []


@pytest.mark.parametrize("change", [{"stage": "DISPATCHED"}, {"trackingNumber": "SLP-2"}, {"id": "another"}])
async def test_compare_finds_an_echo_that_says_something_else(sides: TwoSides, change: dict[str, str]) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.deliver()
    sides.shop.documents["order"]["1"]["deliveryStageChanges"][-1].update(change)
    assert await sides.differences() == [Difference("order", "1", ["stages"])]


async def test_compare_misses_the_admins_entry(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.deliver()
    await sides.mirror.connection.execute(LOSE)
    assert await sides.differences() == [Difference("order", "1", ["stages"])]


async def test_compare_finds_a_change_that_was_not_told(sides: TwoSides) -> None:
    sides.shop_sets("1", "SOURCING")
    sides.shop_sets("1", "ORDER_CONFIRMED")
    assert await sides.differences() == [Difference("order", "1", ["stages"])]


async def test_an_echo_that_comes_before_the_sender_is_done_is_recognised(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")

    class Interrupted(ShopClient):
        async def set_delivery(self, source_id: str, delivery: Delivery) -> None:
            await super().set_delivery(source_id, delivery)
            await sides.tell(sides.shop.event("order", source_id))

    assert await sides.deliver(Interrupted(sides.shop)) == Counts(sent=1)
    assert await sides.history("1") == [("ORDER_CONFIRMED", "SOURCING", None, "studio")]


async def test_two_cells_that_are_saved_together_are_one_command(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="DISPATCHED", tracking_number="SLP-1")
    assert await sides.commands("1") == [("pending", ("DISPATCHED", "SLP-1"), None)]
    assert await sides.deliver() == Counts(sent=1)


async def test_a_command_is_superseded_by_a_newer_one(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.admin_sets("1", stage="ARRIVED")
    assert await sides.commands("1") == [
        ("skipped", ("SOURCING", None), "superseded by a newer change"),
        ("pending", ("ARRIVED", None), None),
    ]
    await sides.deliver()
    assert sides.shop.asked.count("set_delivery") == 1
    assert sides.there("1") == ("ARRIVED", None)


@both_doors
async def test_what_is_set_while_it_is_sent_is_sent_next_and_by_nobody_else(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    others = []

    class Slow(ShopClient):
        async def set_delivery(self, source_id: str, delivery: Delivery) -> None:
            if delivery.stage == "SOURCING":
                await sides.admin_sets("1", stage="ARRIVED")
                others.append(await sides.deliver())
            await super().set_delivery(source_id, delivery)

    assert await sides.deliver(Slow(sides.shop)) == Counts(sent=1)
    assert others == [Counts()]
    assert await sides.deliver() == Counts(sent=1)
    assert sides.there("1") == await sides.here("1") == ("ARRIVED", None)
    assert await sides.commands("1") == [("sent", ("SOURCING", None), None), ("sent", ("ARRIVED", None), None)]
    assert [entry[:2] for entry in await sides.history("1")] == [
        ("ORDER_CONFIRMED", "SOURCING"), ("SOURCING", "ARRIVED"),
    ]  # fmt: skip


async def test_what_was_taken_back_needs_no_sending(sides: TwoSides) -> None:
    await sides.admin_sets("1", tracking_number="SLP-1")
    await sides.admin_sets("1", tracking_number=None)
    assert await sides.deliver() == Counts(skipped=1)
    assert (await sides.commands("1"))[-1] == ("skipped", ("ORDER_CONFIRMED", None), "the shop has it already")
    assert "set_delivery" not in sides.shop.asked


@pytest.mark.parametrize("takes", [False, True], ids=["before the shop took it", "after the shop took it"])
@pytest.mark.parametrize("error", [Retry("busy"), OSError("no route")], ids=["a passing fault", "any other"])
async def test_a_failed_sending_is_tried_again(sides: TwoSides, error: Exception, takes: bool) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    client = FailingClient(sides.shop, error, takes=takes)
    assert await sides.deliver(client) == (Counts(sent=1) if takes else Counts(retried=1))
    assert await sides.deliver(client) == Counts()  # not at once
    await sides.let_time_pass()
    assert await sides.deliver(client) == (Counts() if takes else Counts(sent=1))
    assert sides.shop.asked.count("set_delivery") == 1
    assert [entry[:2] for entry in await sides.history("1")] == [("ORDER_CONFIRMED", "SOURCING")]


@pytest.mark.parametrize("error", [Retry("busy"), Reject("wrong key: set VENDURE_API_KEY")], ids=["busy", "refused"])
async def test_a_shop_that_cannot_be_asked_is_asked_again(sides: TwoSides, error: Exception) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    assert await sides.deliver(SilentClient(sides.shop, 1, error)) == Counts(retried=1)
    assert await sides.commands("1") == [("pending", ("SOURCING", None), str(error))]
    await sides.let_time_pass()
    assert await sides.deliver() == Counts(sent=1)


async def test_what_was_sent_and_could_not_be_read_back_is_not_sent_again(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    assert await sides.deliver(SilentClient(sides.shop, 2, Retry("busy"))) == Counts(retried=1)
    sides.shop_sets("1", "ARRIVED")  # and its hook is lost
    await sides.let_time_pass()
    assert await sides.deliver() == Counts(sent=1)
    assert sides.shop.asked.count("set_delivery") == 1
    assert await sides.here("1") == sides.there("1") == ("ARRIVED", None)


async def test_what_was_sent_and_then_changed_by_the_shop_may_be_set_again(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.deliver(SilentClient(sides.shop, 2, Retry("busy")))
    await sides.tell(sides.shop_sets("1", "SOURCING", "SHOP-1"))
    assert await sides.here("1") == ("SOURCING", "SHOP-1")
    await sides.admin_sets("1", tracking_number=None)
    assert [await sides.deliver(), await sides.deliver()] == [Counts(sent=1), Counts(sent=1)]
    assert await sides.here("1") == sides.there("1") == ("SOURCING", None)


async def test_what_was_sent_is_known_again_though_the_shop_could_not_be_asked_twice(sides: TwoSides) -> None:
    await sides.admin_sets("1", tracking_number="SLP-1")
    assert await sides.deliver(SilentClient(sides.shop, 2, Retry("busy"))) == Counts(retried=1)
    await sides.admin_sets("1", tracking_number="SLP-2")
    assert await sides.deliver(SilentClient(sides.shop, 1, Retry("busy"))) == Counts(retried=1)
    await sides.let_time_pass()
    assert await sides.deliver() == Counts(sent=1)
    assert await sides.deliver() == Counts(sent=1)
    assert [entry[2:] for entry in await sides.history("1")] == [("SLP-1", "studio"), ("SLP-2", "studio")]
    assert await sides.differences() == []


async def test_what_was_sent_is_not_given_up_because_the_shop_cannot_be_asked(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.deliver(SilentClient(sides.shop, 2, Retry("busy")))
    await sides.admin.run("update mirror.outbox set attempts = 29, available_at = now()")
    assert await sides.deliver(SilentClient(sides.shop, 1, Retry("away"))) == Counts(retried=1)
    await sides.let_time_pass()
    assert await sides.deliver() == Counts(sent=1)
    assert await sides.history("1") == [("ORDER_CONFIRMED", "SOURCING", None, "studio")]


@both_doors
async def test_the_shop_says_when_to_try_again(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.deliver(FailingClient(sides.shop, Retry("429", after=3600)))
    ((due_in,),) = await sides.admin.run("select extract(epoch from available_at - now()) from mirror.outbox")
    assert 3500 < due_in <= 3600


async def test_until_the_shop_wants_to_hear_again_the_others_are_not_sent_either(
    sides: TwoSides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.deliver.SENDERS", 1)
    await sides.admin_sets("1", stage="SOURCING")
    await sides.admin_sets("2", stage="SOURCING")
    assert await sides.deliver(FailingClient(sides.shop, Retry("429", after=0.2))) == Counts(retried=2)
    assert sides.shop.asked.count("set_delivery") == 0
    await sides.let_time_pass()
    assert await sides.deliver() == Counts(sent=2)


async def test_one_that_the_shop_cannot_take_now_holds_up_no_other(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.admin_sets("2", stage="SOURCING")
    assert await sides.deliver(FailingClient(sides.shop, Retry("500"))) == Counts(sent=1, retried=1)


async def test_what_the_shop_refuses_is_kept_with_the_reason_and_somebody_is_told(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.admin_sets("2", stage="SOURCING")
    assert await sides.deliver(FailingClient(sides.shop, Reject("no such option"))) == Counts(sent=1, dead=1)
    assert await sides.commands("1") == [("dead", ("SOURCING", None), "no such option")]
    assert await sides.here("1") == ("SOURCING", None)
    assert await attention(sides) == [("CODE1", "not told to the shop")]
    await sides.poll()
    assert await sides.here("1") == ("SOURCING", None)

    assert [tuple(row) for row in await sides.admin.run("select resend_order_deliveries('CODE1')")] == [(1,)]
    assert await attention(sides) == []
    assert await sides.deliver() == Counts(sent=1)
    assert sides.there("1") == ("SOURCING", None)


async def test_what_was_tried_too_often_is_given_up_and_somebody_is_told(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.admin.run("update mirror.outbox set attempts = 29")
    assert await sides.deliver(SilentClient(sides.shop, 1, Retry("away"))) == Counts(dead=1)
    assert await sides.commands("1") == [("dead", ("SOURCING", None), "away")]
    assert await attention(sides) == [("CODE1", "not told to the shop")]


async def attention(sides: TwoSides) -> list[tuple[str, str]]:
    rows = await sides.admin.run("select order_code, reason from orders_needing_attention order by 1")
    return [tuple(row) for row in rows]


async def test_commands_of_a_cancelled_order_are_skipped_and_queued_anew_when_it_is_revived(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.tell(sides.shop.edit("order", "1", state="Cancelled"))
    assert await sides.deliver() == Counts(skipped=1)
    assert (await sides.commands("1"))[0][::2] == ("skipped", "the order is cancelled or deleted in the shop")
    await sides.tell(sides.shop.edit("order", "1", state="PaymentSettled"))
    assert await sides.deliver() == Counts(sent=1)
    assert sides.there("1") == ("SOURCING", None)


@both_doors
async def test_an_order_that_turns_out_to_be_deleted_is_told_nothing(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    sides.shop.remove("order", "1")  # and its hook is lost
    assert await sides.deliver() == Counts(skipped=1)
    assert (await sides.mirror.order("1"))["deleted_at"] is not None


async def test_without_credentials_or_activity_commands_wait_and_are_counted(sides: TwoSides) -> None:
    await sides.admin.run("update mirror.integrations set is_active = false")
    await sides.admin_sets("1", stage="SOURCING")
    assert await sides.deliver() == Counts()
    ((name, is_active, waiting),) = await sides.admin.run(
        "select integration, is_active, waiting from mirror.count_commands()"
    )
    assert (name, is_active, waiting) == ("vendure", False, 1)
    await sides.admin.run("update mirror.integrations set is_active = true")
    assert await sides.deliver() == Counts(sent=1)


async def test_the_status_says_why_commands_wait(sides: TwoSides, monkeypatch: pytest.MonkeyPatch) -> None:
    async def printed() -> str:
        console = Console(record=True, width=250)
        print_status(console, await read_status(sides.mirror.database))
        return console.export_text()

    assert "wait since" not in await printed()
    await sides.admin_sets("1", stage="SOURCING")
    assert "vendure: 1 wait since" in await printed()
    assert "; set VENDURE_API_URL, and VENDURE_API_KEY or VENDURE_API_USERNAME with" in await printed()
    monkeypatch.setenv("VENDURE_API_URL", "https://shop.example.com/admin-api")
    assert "VENDURE_API_KEY: must be set, or" in await printed()
    monkeypatch.setenv("VENDURE_API_KEY", "key")
    assert "; the daemon (`mirror work`) sends them." in await printed()
    await sides.deliver(SilentClient(sides.shop, 1, Retry("the shop [eu-1] is away")))
    assert "; the latest attempt: the shop [eu-1] is away" in await printed()
    await sides.admin.run("update mirror.integrations set is_active = false")
    assert "; activate it in mirror.integrations." in await printed()


async def test_the_status_tells_of_refusals_and_conflicts(sides: TwoSides) -> None:
    await sides.set_policy("ask")
    for order in "12":
        await sides.admin_sets(order, stage="SOURCING")
    await sides.tell(sides.shop_sets("2", "ARRIVED"))
    await sides.deliver(FailingClient(sides.shop, Reject("no such stage")))
    (commands,) = (await read_status(sides.mirror.database)).commands
    assert (commands.refused, commands.conflicts) == (1, 1)
    console = Console(record=True, width=250)
    print_status(console, await read_status(sides.mirror.database))
    printed = console.export_text()
    assert "vendure: 1 refused; see orders_needing_attention." in printed
    assert "vendure: 1 in conflict; choose a side in mirror.sync_conflicts." in printed


async def test_the_shops_own_change_of_the_other_field_is_not_overwritten(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    sides.shop_sets("1", "ORDER_CONFIRMED", "SLP-1")  # and its hook is lost
    assert await sides.deliver() == Counts(sent=1)
    assert await sides.here("1") == sides.there("1") == ("SOURCING", "SLP-1")


async def test_a_number_that_the_shop_takes_from_its_parcel_comes_back(sides: TwoSides) -> None:
    await sides.tell(sides.shop.edit("order", "1", fulfillments=[fulfillment("1", trackingCode="PARCEL-1")]))
    assert await sides.here("1") == ("ORDER_CONFIRMED", "PARCEL-1")
    await sides.admin_sets("1", tracking_number=None)
    assert await sides.deliver() == Counts(sent=1)
    assert await sides.here("1") == ("ORDER_CONFIRMED", "PARCEL-1")
    assert await sides.deliver() == Counts()


async def test_one_order_that_the_database_refuses_holds_up_no_other(sides: TwoSides) -> None:
    for order in "12":
        await sides.admin_sets(order, stage="SOURCING")
    sides.shop.edit("order", "1", currencyCode="rupees", totalWithTax=1)
    assert await sides.deliver() == Counts(sent=1, retried=1)
    assert sides.there("2") == ("SOURCING", None)


async def test_senders_side_by_side_send_everything_once(sides: TwoSides) -> None:
    orders = [str(number) for number in range(3, 33)]
    await sides.place(*orders)
    for order in orders:
        await sides.admin_sets(order, stage="SOURCING")
    counts = await asyncio.gather(*(sides.deliver(slice_size=4) for _ in range(3)), *(sides.poll() for _ in range(3)))
    assert sum(counted.sent for counted in counts if counted) == len(orders)
    assert sides.shop.asked.count("set_delivery") == len(orders)
    assert [await sides.deliver(), await sides.here("32")] == [Counts(), ("SOURCING", None)]


async def test_it_sends_slice_after_slice(sides: TwoSides) -> None:
    await sides.place("3", "4", "5")
    for order in "12345":
        await sides.admin_sets(order, stage="SOURCING")
    assert await sides.deliver(slice_size=2) == Counts(sent=5)


@postgres_only
async def test_the_daemon_is_woken_by_a_change_and_tells_the_shop(sides: TwoSides) -> None:
    stop = asyncio.Event()
    settings = msgspec.structs.replace(load_settings(), poll_seconds=3600.0)
    daemon = Daemon(sides.mirror.database, settings, {"vendure": sides.client})
    running = asyncio.create_task(daemon.run(stop))
    for stage in ("SOURCING", "ARRIVED"):
        await sides.admin_sets("1", stage=stage)
        await until(partial(shop_has, sides, (stage, None)))
    stop.set()
    await running
    assert await sides.deliver() == Counts()


async def shop_has(sides: TwoSides, values: tuple[str, None]) -> bool:
    return sides.there("1") == values and (await sides.commands("1"))[-1][0] == "sent"
