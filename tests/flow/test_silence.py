"""Who keeps watch learns that hooks stopped coming, or that some never came, and is left in peace otherwise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from rich.console import Console

from sync.report import print_status
from sync.status import read_status
from tests.engine import ShopClient
from tests.factory import order_changed
from tests.flow.runs import fill, heal, look, open_shop
from tests.flow.serving import serving
from tests.mirror import Mirror

TOKEN = "the token of the monitor"
EVENT = """
    insert into mirror.webhook_events (id, integration_id, event_id, event_type, entity_id, payload, created_at)
    select mirror.least_uuid_v7(a.at), i.id, gen_random_uuid()::text, 'order.changed', '1', '{}', a.at
    from mirror.integrations i, (select now() - $1::interval) as a (at) where slug = 'vendure'
"""
USUAL = "select usual, alarm_after, is_alarm from mirror.hook_silence()"
ALARMS = "select alarm from mirror.list_alarms()"


async def come(mirror: Mirror, *ages: timedelta) -> None:
    """Let a hook have come each of these times ago, the oldest first, as if they had been in the inbox ever since."""
    async with mirror.connection.transaction():  # at one moment
        await mirror.connection.executemany(EVENT, [(age,) for age in sorted(ages, reverse=True)])


async def learn(mirror: Mirror) -> None:
    await mirror.connection.execute("select mirror.learn_hook_gaps()")


async def ten_days_of_hooks(mirror: Mirror, *, every: int, until: int) -> None:
    """Let a hook have come every so many hours, for ten days, the last one so many hours ago."""
    await come(mirror, *(timedelta(hours=hours) for hours in range(until, until + 240, every)))
    await learn(mirror)


async def silence(mirror: Mirror) -> tuple[Any, ...]:
    return tuple(*await mirror.connection.fetch(USUAL))


async def test_silence_for_twice_the_usual_wait_is_an_alarm(mirror: Mirror) -> None:
    await ten_days_of_hooks(mirror, every=4, until=9)
    assert await silence(mirror) == (timedelta(hours=4), timedelta(hours=8), True)
    assert await mirror.column(ALARMS) == ["silence"]


async def test_a_wait_that_is_not_much_longer_than_usual_is_none(mirror: Mirror) -> None:
    await ten_days_of_hooks(mirror, every=4, until=7)
    assert await silence(mirror) == (timedelta(hours=4), timedelta(hours=8), False)


async def test_where_hooks_come_every_minute_an_hour_of_silence_is_still_none(mirror: Mirror) -> None:
    ages = [timedelta(days=day, minutes=45 + minute) for day in range(10) for minute in range(5)]
    await come(mirror, *ages)
    await learn(mirror)
    await mirror.connection.execute("update mirror.hook_gaps set longest = '1 minute'")
    assert await silence(mirror) == (timedelta(minutes=1), timedelta(hours=1), False)
    await mirror.connection.execute("update mirror.integrations set silence_at_least = '10 minutes'")
    assert await silence(mirror) == (timedelta(minutes=1), timedelta(minutes=10), True)


async def test_a_hook_ends_the_alarm_before_the_inbox_is_looked_through_again(mirror: Mirror) -> None:
    await ten_days_of_hooks(mirror, every=4, until=9)
    await mirror.take(order_changed("1", 1))
    assert await mirror.column(ALARMS) == []


async def test_before_a_week_with_hooks_nothing_is_known_to_be_usual(mirror: Mirror) -> None:
    await come(mirror, *(timedelta(days=3, hours=hours) for hours in range(48)))
    await learn(mirror)
    assert await silence(mirror) == (None, None, False)


async def test_an_integration_without_hooks_is_silent_and_gives_no_alarm(mirror: Mirror) -> None:
    assert await silence(mirror) == (None, None, False)
    assert await mirror.column(ALARMS) == []


async def test_what_was_learned_outlives_the_events(mirror: Mirror) -> None:
    await ten_days_of_hooks(mirror, every=4, until=9)
    await mirror.connection.execute("update mirror.webhook_events set state = 'applied', settled_at = now()")
    await mirror.connection.execute("delete from mirror.webhook_events")
    assert (await silence(mirror))[2] is True


async def test_the_inbox_is_looked_through_once(mirror: Mirror) -> None:
    await ten_days_of_hooks(mirror, every=4, until=9)
    assert await mirror.column("select sum(hooks)::int from mirror.hook_gaps") == [60]
    await learn(mirror)
    assert await mirror.column("select sum(hooks)::int from mirror.hook_gaps") == [60]


async def test_one_long_night_in_ten_is_usual_enough(mirror: Mirror) -> None:
    await ten_days_of_hooks(mirror, every=2, until=3)
    await mirror.connection.execute("update mirror.hook_gaps set longest = '30 hours' where day = current_date - 5")
    assert (await silence(mirror))[0] == timedelta(hours=2)


async def test_changes_of_which_no_hook_told_are_an_alarm_for_a_day(mirror: Mirror) -> None:
    shop = open_shop()
    await fill(mirror, shop)
    shop.edit("order", "1", state="Shipped")
    await heal(mirror, shop)
    assert await mirror.column(ALARMS) == ["hooks_not_sent"]
    await mirror.connection.execute("update mirror.drift set created_at = created_at - interval '25 hours'")
    assert await mirror.column(ALARMS) == []


async def test_what_a_backfill_brings_over_is_no_lost_hook(mirror: Mirror) -> None:
    await fill(mirror, open_shop())
    assert await mirror.column(ALARMS) == []


async def test_looking_alone_is_no_failed_healing(mirror: Mirror) -> None:
    shop = open_shop()
    await fill(mirror, shop)
    await mirror.connection.execute("update public.customers set first_name = 'Mallory'")
    await look(mirror, shop, ShopClient(shop))
    assert await mirror.column(ALARMS) == []


async def test_the_health_endpoint_says_so_and_the_ready_one_goes_on_serving(
    mirror: Mirror, database: str, secrets: None
) -> None:
    async with serving(database) as api:
        assert ((healthy := await api.get("/health/sync")).status_code, healthy.json()) == (
            200, {"status": "ok", "alarms": []},
        )  # fmt: skip
    await ten_days_of_hooks(mirror, every=4, until=9)
    async with serving(database) as api:
        answer = await api.get("/health/sync")
        assert (answer.status_code, answer.json()["status"]) == (503, "degraded")
        (alarm,) = answer.json()["alarms"]
        assert (alarm["integration"], alarm["alarm"]) == ("vendure", "silence")
        assert (await api.get("/health/ready")).status_code == 200


async def metrics(api: httpx.AsyncClient, token: str = TOKEN) -> httpx.Response:
    return await api.get("/metrics", headers={"authorization": f"Bearer {token}"})


async def test_the_metrics_are_prometheus_text(mirror: Mirror, database: str, secrets: None) -> None:
    shop = open_shop()
    await fill(mirror, shop)
    shop.edit("order", "1", state="Shipped")
    await heal(mirror, shop)
    await ten_days_of_hooks(mirror, every=4, until=9)
    async with serving(database, metrics_token=TOKEN) as api:
        answer = await metrics(api)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.text.splitlines()
    for expected in (
        'mirror_events{state="pending"} 60.0',
        'mirror_rows{table="customers"} 3.0',
        'mirror_drift{entity="order",integration="vendure",kind="stale"} 1.0',
        'mirror_drift{entity="customer",integration="vendure",kind="stale"} 0.0',
        'mirror_silence_alarm_seconds{integration="vendure"} 28800.0',
        'mirror_alarm{alarm="silence",integration="vendure"} 1.0',
        'mirror_alarm{alarm="hooks_not_sent",integration="vendure"} 1.0',
        'mirror_alarm{alarm="reconcile_refused",integration="vendure"} 0.0',
        "mirror_outbox_waiting 0.0",
    ):
        assert expected in lines
    assert any(line.startswith('mirror_silence_seconds{integration="vendure"} 324') for line in lines)


async def test_the_metrics_are_for_those_who_have_the_token(database: str, secrets: None) -> None:
    async with serving(database, metrics_token=TOKEN) as api:
        assert (await metrics(api, "another token")).status_code == 401
        assert (await api.get("/metrics")).status_code == 401


async def test_without_a_token_there_are_no_metrics(database: str, secrets: None) -> None:
    async with serving(database) as api:
        assert (await metrics(api)).status_code == 404


async def test_the_status_tells_of_alarms_runs_and_drift(mirror: Mirror) -> None:
    shop = open_shop()
    await fill(mirror, shop)
    shop.edit("order", "1", state="Shipped")
    await heal(mirror, shop)
    await ten_days_of_hooks(mirror, every=4, until=9)
    status = await read_status(mirror.database)
    console = Console(record=True, width=250)
    print_status(console, status)
    printed = console.export_text()
    assert "alarm vendure: silence since" in printed
    assert "no hook for 09:00:00; usually there is one within 04:00:00" in printed
    assert "alarm vendure: hooks_not_sent since" in printed
    assert "vendure: last hook 9.0 h ago (usually within 4.0 h)" in printed
    assert "backfill of" in printed
    assert "orders at the last reconcile: 0 missing, 1 stale, 0 gone; of 1 no hook was sent; 0 differ still" in printed


LARGE = """
    insert into mirror.webhook_events (integration_id, event_id, event_type, payload, state, settled_at, reason)
    select i.id, n::text, 'order.changed', to_json(repeat('x', 1500)),
        (case when n % 10 = 0 then 'skipped' else 'applied' end)::mirror.event_state, now(), 'x'
    from mirror.integrations i, generate_series(1, 60000) n
"""


async def test_of_a_big_inbox_it_is_estimated_what_is_done(mirror: Mirror) -> None:
    await mirror.connection.execute("alter table mirror.webhook_events alter column payload set storage plain")
    await mirror.connection.execute(LARGE)
    await mirror.take(order_changed("1", 1, totalWithTax="free"))
    inbox = (await read_status(mirror.database)).inbox
    assert (inbox["pending"], inbox["dead"]) == (0, 1)
    assert inbox["applied"] == pytest.approx(54000, rel=0.2)
    assert inbox["skipped"] == pytest.approx(6000, rel=0.4)
