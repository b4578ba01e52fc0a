"""Shop and admin have both changed a delivery since they last agreed: the integration's policy says what counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from sync.engines.base import Event
from sync.outbox import Counts
from sync.records import Delivery
from tests.engine import ShopClient
from tests.flow.two_sides import TwoSides, open_two_sides
from tests.mirror import Mirror
from tests.rest.gateway import both_doors

CONFLICTS = "mirror.sync_conflicts"


@pytest.fixture
async def sides(mirror: Mirror, database: str) -> AsyncIterator[TwoSides]:
    """A shop with order 1, and its mirror."""
    async with open_two_sides(mirror, database) as opened:
        await opened.place("1")
        yield opened


@pytest.mark.parametrize("arrives", [True, False], ids=["the hook arrives", "the hook is lost"])
@pytest.mark.parametrize(
    ("policy", "last", "counts"),
    [
        ("last_write_wins", "the shop", ("ARRIVED", None)),
        ("last_write_wins", "the admin", ("SOURCING", None)),
        ("engine_wins", "the shop", ("ARRIVED", None)),
        ("engine_wins", "the admin", ("ARRIVED", None)),
    ],
)
async def test_both_sides_end_with_what_counts(
    sides: TwoSides, policy: str, last: str, counts: tuple[str, None], arrives: bool
) -> None:
    await sides.set_policy(policy)
    hook = await both_change(sides, last)
    if arrives:
        await sides.tell(hook)
        assert await sides.here("1") == counts
    await sides.deliver()
    assert await sides.here("1") == sides.there("1") == counts
    assert await sides.deliver() == Counts()
    assert (await sides.history("1"))[-1][1:3] == counts


async def both_change(sides: TwoSides, last: str = "the shop") -> Event:
    """Let shop and admin change the stage of order 1; return the shop's hook, which has not arrived."""
    if last == "the shop":
        await sides.admin_sets("1", stage="SOURCING")
        return sides.shop_sets("1", "ARRIVED")
    hook = sides.shop_sets("1", "ARRIVED")
    await sides.admin_sets("1", stage="SOURCING")
    return hook


async def test_what_is_overruled_says_so(sides: TwoSides) -> None:
    await sides.tell(await both_change(sides))
    assert await sides.commands("1") == [
        ("skipped", ("ARRIVED", None), "the shop has changed it, too, and the shop's change counts")
    ]


async def test_stage_and_number_are_settled_each_by_itself(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")
    await sides.tell(sides.shop_sets("1", "ARRIVED", "SHOP-1"))
    await sides.admin_sets("1", tracking_number="SLP-1")
    assert await sides.here("1") == ("ARRIVED", "SLP-1")
    await sides.deliver()
    assert await sides.here("1") == sides.there("1") == ("ARRIVED", "SLP-1")


async def test_both_sides_may_do_the_same(sides: TwoSides) -> None:
    await sides.set_policy("ask")
    await sides.admin_sets("1", stage="ARRIVED")
    await sides.tell(sides.shop_sets("1", "ARRIVED"))
    assert await sides.conflicts() == []
    assert await sides.commands("1") == [("skipped", ("ARRIVED", None), "the shop has it already")]


@both_doors
async def test_an_admin_is_asked_and_nothing_is_sent_or_overwritten_meanwhile(sides: TwoSides) -> None:
    await open_conflict(sides)
    await sides.deliver()
    await sides.poll()
    assert (await sides.here("1"), sides.there("1")) == (("SOURCING", None), ("ARRIVED", None))
    (conflict,) = await sides.conflicts()
    assert {name: conflict[name] for name in ("order_code", "engine_stage", "mirror_stage", "mirror_changed_by")} == {
        "order_code": "CODE1",
        "engine_stage": "ARRIVED",
        "mirror_stage": "SOURCING",
        "mirror_changed_by": "studio",
    }
    assert conflict["mirror_changed_at"] < conflict["engine_changed_at"]
    assert [tuple(row) for row in await sides.admin.run("select order_code, reason from orders_needing_attention")] == [
        ("CODE1", "conflict")
    ]


async def open_conflict(sides: TwoSides) -> UUID:
    """Let both sides change order 1 under the policy ask; return the conflict's id."""
    await sides.set_policy("ask")
    await sides.tell(await both_change(sides))
    (conflict,) = await sides.conflicts()
    identity: UUID = conflict["id"]
    return identity


@pytest.mark.parametrize(
    ("side", "counts", "sent"), [("engine", ("ARRIVED", None), 0), ("mirror", ("SOURCING", None), 1)]
)
async def test_the_side_that_an_admin_chooses_counts(
    sides: TwoSides, side: str, counts: tuple[str, None], sent: int
) -> None:
    conflict = await open_conflict(sides)
    row = await sides.admin.edit(CONFLICTS, conflict, resolution=side)
    assert (row["resolved_by"], row["resolved_at"] is None) == ("studio", False)
    assert await sides.here("1") == counts
    assert (await sides.deliver()).sent == sent
    assert await sides.here("1") == sides.there("1") == counts
    assert (await sides.history("1"))[-1][1:3] == counts
    assert await sides.deliver() == Counts()
    assert await sides.conflicts() == []


async def test_a_conflict_follows_both_sides(sides: TwoSides) -> None:
    await open_conflict(sides)
    await sides.admin_sets("1", stage="DISPATCHED")
    await sides.tell(sides.shop_sets("1", "ARRIVED", "SHOP-1"))
    (conflict,) = await sides.conflicts()
    assert (conflict["mirror_stage"], conflict["engine_stage"]) == ("DISPATCHED", "ARRIVED")
    assert await sides.here("1") == ("DISPATCHED", "SHOP-1")


@pytest.mark.parametrize("whose", ["the shop", "the admin"])
async def test_a_conflict_ends_when_one_side_comes_round(sides: TwoSides, whose: str) -> None:
    await open_conflict(sides)
    if whose == "the shop":
        await sides.tell(sides.shop_sets("1", "SOURCING"))
    else:
        await sides.admin_sets("1", stage="ARRIVED")
    assert await sides.conflicts() == []
    await sides.deliver()
    assert await sides.here("1") == sides.there("1")


async def test_a_conflict_about_a_cancelled_order_is_closed(sides: TwoSides) -> None:
    await open_conflict(sides)
    await sides.tell(sides.shop.edit("order", "1", state="Cancelled"))
    assert await sides.conflicts() == []
    assert await sides.here("1") == sides.there("1") == ("ARRIVED", None)
    assert [state for state, *_ in await sides.commands("1")] == ["skipped"]


async def test_a_conflict_is_resolved_by_choosing_a_side_once_and_not_otherwise(sides: TwoSides) -> None:
    conflict = await open_conflict(sides)
    with pytest.raises(asyncpg.CheckViolationError, match="Of a conflict only resolution can be edited"):
        await sides.admin.edit(CONFLICTS, conflict, engine_stage="DELIVERED")
    with pytest.raises(asyncpg.RestrictViolationError, match="is open and cannot be deleted"):
        await sides.admin.delete(CONFLICTS, conflict)
    await sides.admin.edit(CONFLICTS, conflict, resolution="engine")
    with pytest.raises(asyncpg.CheckViolationError, match="is settled already"):
        await sides.admin.edit(CONFLICTS, conflict, resolution="mirror")
    await sides.admin.delete(CONFLICTS, conflict)


async def test_the_shop_may_change_an_order_while_a_command_is_on_its_way(sides: TwoSides) -> None:
    await sides.admin_sets("1", stage="SOURCING")

    class Overtaken(ShopClient):
        async def set_delivery(self, source_id: str, delivery: Delivery) -> None:
            await super().set_delivery(source_id, delivery)
            sides.shop_sets("1", "ARRIVED", "SHOP-1")

    assert await sides.deliver(Overtaken(sides.shop)) == Counts(sent=1)
    assert await sides.here("1") == sides.there("1") == ("ARRIVED", "SHOP-1")
    assert [entry[1:] for entry in await sides.history("1")] == [
        ("SOURCING", None, "studio"), ("ARRIVED", "SHOP-1", "vendure"),
    ]  # fmt: skip


async def test_what_the_shop_is_told_anew_of_its_own_stands_in_the_history(sides: TwoSides) -> None:
    await sides.admin_sets("1", tracking_number="SLP-1")

    class Overtaken(ShopClient):
        async def set_delivery(self, source_id: str, delivery: Delivery) -> None:
            await sides.tell(sides.shop_sets("1", "ARRIVED", "SHOP-1"))
            await super().set_delivery(source_id, delivery)

    await sides.deliver(Overtaken(sides.shop))
    assert await sides.here("1") == ("ARRIVED", "SHOP-1")
    assert sides.there("1") == ("ORDER_CONFIRMED", "SLP-1")
    await sides.deliver()
    assert await sides.here("1") == sides.there("1") == ("ARRIVED", "SHOP-1")
    assert [entry[1:3] for entry in await sides.history("1")] == [
        ("ORDER_CONFIRMED", "SLP-1"), ("ARRIVED", "SHOP-1"), ("ARRIVED", "SHOP-1"),
    ]  # fmt: skip
    assert await sides.differences() == []
