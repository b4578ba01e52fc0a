"""A shop's clock that is ahead: a little does no harm, and far ahead it leaves nothing that cannot be overwritten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from sync import clocks
from sync.drain import Counts
from sync.errors import Reject
from tests.factory import START, customer_changed, order_changed
from tests.flow.runs import assert_equal, fill, heal, live, open_shop
from tests.mirror import Mirror
from tests.rest.gateway import both_doors

REASON = "select reason from mirror.webhook_events where state = 'dead'"
AHEAD = "by its clock, which is still to come: set the clock of the engine's database right"


class Stopped(datetime):
    """The clock of a machine that has stood still for years."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Stopped:
        return cls(2020, 1, 1, tzinfo=tz)


def ahead(**span: float) -> float:
    """Return when it will be so much later, in a test's seconds."""
    return (datetime.now(UTC) + timedelta(**span) - START).total_seconds()


@both_doors
async def test_what_was_read_years_ahead_is_dead_and_what_follows_is_applied(mirror: Mirror) -> None:
    counts = await mirror.take(customer_changed("1", 1), order_changed("1", ahead(days=800), state="Cancelled"))
    assert (counts.applied, counts.dead) == (1, 1)
    assert AHEAD in (await mirror.column(REASON))[0]
    assert (await mirror.take(order_changed("1", ahead(), state="Shipped"))).orders == 1
    assert (await mirror.order("1"))["order_state"] == "Shipped"


async def test_a_clock_that_is_two_minutes_ahead_does_no_harm(mirror: Mirror) -> None:
    for state in ("PaymentSettled", "Shipped"):
        counts = await mirror.take(order_changed("1", ahead(minutes=2), customer=None, state=state))
        assert (counts.applied, counts.dead) == (1, 0)
    assert (await mirror.order("1"))["order_state"] == "Shipped"


async def test_what_was_read_a_little_too_early_waits_for_its_time(mirror: Mirror) -> None:
    counts = await mirror.take(order_changed("1", ahead(minutes=15), customer=None))
    assert counts == Counts(retried=1)
    (wait,) = await mirror.column("select available_at - now() from mirror.webhook_events where state = 'pending'")
    assert timedelta(minutes=9) < wait < timedelta(minutes=11)
    assert (await mirror.take(order_changed("2", ahead(minutes=70), customer=None))).dead == 1


@both_doors
async def test_of_two_clocks_ours_may_be_the_wrong_one(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "datetime", Stopped)
    assert await mirror.take(customer_changed("1", ahead())) == Counts(applied=1, customers=1)
    assert (await mirror.take(customer_changed("1", ahead(days=800)))).dead == 1


async def test_a_run_refuses_a_shop_that_is_years_ahead_and_heals_it_once_its_clock_is_right(mirror: Mirror) -> None:
    shop = open_shop(customers=1, orders=2)
    await fill(mirror, shop)
    now, shop.now = shop.now, datetime.now(UTC) + timedelta(days=800)
    await mirror.accept_read([shop.edit("order", "1", state="Shipped")])
    assert (await mirror.drain().run()).dead == 1
    for run in (fill, heal):
        with pytest.raises(Reject, match=AHEAD):
            await run(mirror, shop)
    shop.now = now + timedelta(seconds=1)
    assert (await heal(mirror, shop)).ending.state == "complete"
    assert await live(mirror, "order") == ["1", "2"]
    await assert_equal(mirror, shop)
