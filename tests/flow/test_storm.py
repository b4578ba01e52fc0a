"""`mirror storm`: a mirror rides it out, and one that does not is found out."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sync.engines.vendure import payloads
from sync.storm.emitter import Emitter
from sync.storm.faults import HookFaults
from sync.storm.shop import Shop
from sync.storm.verdict import Verdict, judge
from tests.flow.test_cli import command, read_until, staying
from tests.hooks import SECRET
from tests.mirror import Mirror

SHORT = ("--seconds", "6", "--rate", "50", "--kill-every", "1", "--seed", "7")


def test_a_mirror_whose_processes_and_postgres_are_killed_equals_the_shop_in_the_end(tmp_path: Path) -> None:
    done = subprocess.run(**command(tmp_path, "storm", *SHORT, "--json"), timeout=400, check=False)
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, verdict["converged"]) == (0, True), done.stdout
    assert verdict["entities"] > 100
    assert {name for name, times in verdict["thrown"].items() if times} >= {
        "mirror: kill -9 of the API",
        "mirror: kill -9 of a daemon",
        "mirror: kill -9 of all daemons",
        "mirror: restart of Postgres",
        "mirror: crash of Postgres",
    }
    for fault in ("doubled", "delayed", "outdated", "shuffled", "truncated", "forged", "abandoned"):
        assert verdict["thrown"][f"hooks: {fault}"] > 0


def test_a_storm_that_is_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    with staying(tmp_path, "storm", "--seconds", "60") as process:
        read_until(process, "Starting the API")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert not (tmp_path / "storm" / "postgres" / "data" / "postmaster.pid").exists()


@pytest.fixture
def emitter() -> Emitter:
    """One whose events the tests deliver themselves, without a network."""
    return Emitter(Shop(1), "nowhere", SECRET, HookFaults(), seed=1)


async def tell(mirror: Mirror, emitter: Emitter, is_told: Callable[[int], bool] = lambda _: True) -> None:
    """Let the shop live for a while, and tell the mirror every change of which `is_told` says so."""
    shop = emitter._shop
    shop.on_change = emitter.note
    for _ in range(150):
        shop.step()
        for key, note in emitter._claim(10).items():
            event = emitter._event(key, note)
            if is_told(note):
                await mirror.accept_read(payloads.read(b'{"type":"vendure.changes","events":[%s]}' % event.json))
                emitter.acknowledged.add(event.event_id)
    await mirror.drain().run()


async def judged(mirror: Mirror, emitter: Emitter) -> Verdict:
    return await judge(mirror.database, mirror.connection, emitter._shop, emitter)


async def test_a_mirror_that_was_told_everything_converges(mirror: Mirror, emitter: Emitter) -> None:
    await tell(mirror, emitter)
    verdict = await judged(mirror, emitter)
    assert (verdict.differences, verdict.offences) == ([], [])
    assert verdict.converged
    assert verdict.entities > 30


async def test_a_mirror_that_drops_the_last_change_of_an_entity_is_found_out(mirror: Mirror, emitter: Emitter) -> None:
    shop = emitter._shop
    await tell(mirror, emitter)
    customer, order = next(iter(shop.documents["customer"])), next(iter(shop.documents["order"]))
    shop.documents["customer"][customer]["lastName"] = "Unheard"
    shop.documents["order"][order]["totalWithTax"] += 1
    verdict = await judged(mirror, emitter)
    assert [(d.entity, d.source_id, d.fields) for d in verdict.differences] == [
        ("customer", customer, ["last_name"]),
        ("order", order, ["tax", "total_with_tax"]),
    ]
    assert not verdict.converged


async def test_a_mirror_that_keeps_what_the_shop_deleted_is_found_out(mirror: Mirror, emitter: Emitter) -> None:
    await tell(mirror, emitter)
    for entity in ("customer", "order"):
        del emitter._shop.documents[entity][next(iter(emitter._shop.documents[entity]))]
    verdict = await judged(mirror, emitter)
    assert [(d.entity, d.fields) for d in verdict.differences] == [
        ("customer", ["not deleted"]),
        ("order", ["not deleted"]),
    ]


async def test_a_mirror_that_is_told_half_misses_half(mirror: Mirror, emitter: Emitter) -> None:
    await tell(mirror, emitter, lambda note: note % 2 == 0)
    verdict = await judged(mirror, emitter)
    assert not verdict.converged
    assert any(difference.fields == ["missing"] for difference in verdict.differences)


COUNTED_TWICE = """
    alter table public.customers disable trigger user;
    update public.customers set total_orders = total_orders + 1 where total_orders > 0
"""
STAGE_COUNTED_TWICE = """
    insert into mirror.delivery_stage_counts (store_id, stage, orders)
    select store_id, stage, 1 from mirror.delivery_stage_counts limit 1
"""
SOME_EVENT = "(select id from mirror.webhook_events order by id limit 1)"


@pytest.mark.parametrize(
    ("tampering", "offence"),
    [
        (COUNTED_TWICE, "customers whose totals are not those of their orders"),
        (STAGE_COUNTED_TWICE, "stages whose count is not that of the deliveries"),
        ("update public.customers set is_active = false", "customers wrongly active, or wrongly not"),
        (f"delete from mirror.webhook_events where id = {SOME_EVENT}", "events acknowledged and not in the inbox"),
        (
            f"update mirror.webhook_events set event_id = 'forged' where id = {SOME_EVENT}",
            "events in the inbox that nobody sent",
        ),
        (
            f"update mirror.webhook_events set state = 'pending', settled_at = null where id = {SOME_EVENT}",
            "events still pending",
        ),
        (
            f"update mirror.webhook_events set state = 'dead', reason = '', settled_at = now() where id = {SOME_EVENT}",
            "dead letters",
        ),
    ],
)
async def test_what_does_not_add_up_is_found_out(
    mirror: Mirror, emitter: Emitter, tampering: str, offence: str
) -> None:
    await tell(mirror, emitter)
    await mirror.connection.execute(tampering)
    verdict = await judged(mirror, emitter)
    assert any(offence in sentence for sentence in verdict.offences), verdict.offences
    assert not verdict.converged


async def test_a_change_that_the_shop_was_not_told_is_found_out(mirror: Mirror, emitter: Emitter) -> None:
    await tell(mirror, emitter)
    await mirror.connection.execute(
        "update public.order_delivery_status set tracking_number = 'UNTOLD' where not is_cancelled"
    )
    verdict = await judged(mirror, emitter)
    assert any("commands that the shop was not told" in sentence for sentence in verdict.offences)
    assert any(difference.fields[0] == "tracking_number" for difference in verdict.differences)


async def test_a_forged_hook_that_is_taken_is_found_out(mirror: Mirror, emitter: Emitter) -> None:
    await tell(mirror, emitter)
    emitter.wrongly_taken.append("202 where it should be 401")
    assert not (await judged(mirror, emitter)).converged
