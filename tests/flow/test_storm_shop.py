"""The simulated shop and its emitter: the same seed does the same, and each fault really happens on the wire."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from sync.engines.base import Context
from sync.engines.vendure.engine import Vendure
from sync.records import Customer, Entity, Order
from sync.storm.emitter import Emitter
from sync.storm.faults import HookFaults
from sync.storm.server import LoopbackServer, bound_at
from sync.storm.shop import ACTIONS, Shop
from tests.hooks import SECRET

ENTITIES: tuple[Entity, Entity] = ("customer", "order")


def after(steps: int, seed: int = 1) -> Shop:
    shop = Shop(seed)
    for _ in range(steps):
        shop.step()
    return shop


def told(shop: Shop) -> list[Customer | Order]:
    """Return every document of a shop as the mirror maps it."""
    events = [(entity, shop.event(entity, known)) for entity in ENTITIES for known in shop.documents[entity]]
    records = [Vendure().map(f"{entity}.changed", event, Context(phone_region="LK"))[0] for entity, event in events]
    return [record for record in records if isinstance(record, Customer | Order)]


def without_times(shop: Shop) -> list[str]:
    """Return the documents of a shop without what its clock wrote."""
    documents = [document for entity in ENTITIES for document in shop.documents[entity].values()]
    return [json.dumps(document, sort_keys=True, default=str) for document in map(_timeless, documents)]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(part) for name, part in value.items() if not name.endswith(("At",))}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def test_the_same_seed_does_the_same_things() -> None:
    assert without_times(after(600)) == without_times(after(600))
    assert without_times(after(600)) != without_times(after(600, seed=2))


def test_everything_happens_and_the_mirror_can_map_it() -> None:
    shop = after(3000)
    records = told(shop)
    customers = [record for record in records if isinstance(record, Customer)]
    orders = [record for record in records if isinstance(record, Order)]
    assert len({customer.email for customer in customers}) < len(customers)  # an address used again
    assert any(customer.group_names and len(customer.addresses) > 1 for customer in customers)
    assert any(order.total_refunded > 0 for order in orders)
    assert any(order.cancelled_at for order in orders)
    assert {order.delivery_stage for order in orders} >= {"ORDER_CONFIRMED", "DISPATCHED", "DELIVERED"}
    assert any(item.print_name for order in orders for item in order.items)
    gone = {order.customer_source_id for order in orders} - {customer.source_id for customer in customers}
    assert gone, "customers are deleted, and their orders stay"


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_changes_something(action: str) -> None:
    shop = after(500)
    noted: list[tuple[Entity, str]] = []
    shop.on_change = lambda entity, source_id: noted.append((entity, source_id))
    before = {
        (entity, source_id): shop.read(entity, source_id) for entity in ENTITIES for source_id in shop.documents[entity]
    }
    getattr(shop, f"_{action}")()
    assert {key for key in noted if shop.read(*key) != before.get(key)}


def test_its_clock_never_shows_the_same_time_twice() -> None:
    shop = Shop()
    times = [shop.now() for _ in range(1000)]
    assert sorted(set(times)) == times


def test_a_delivery_that_the_mirror_sets_is_in_the_shops_history() -> None:
    shop = after(200)
    source_id = next(iter(shop.documents["order"]))
    for _ in range(2):
        assert shop.set_delivery(source_id, "SOURCING", "ADM-1")
    *_, change = shop.documents["order"][source_id]["deliveryStageChanges"]
    assert (change["stage"], change["trackingNumber"]) == ("SOURCING", "ADM-1")
    assert not shop.set_delivery("none", "SOURCING", None)


class Recorder:
    """Takes every hook, whatever is wrong with it, and writes it down."""

    def __init__(self, *, slow: float = 0, unsigned: int = 202) -> None:
        self.requests: list[tuple[dict[str, str], bytes, datetime]] = []
        self._slow = slow
        self._unsigned = unsigned

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append((headers, body, datetime.now(UTC)))
        status = 202 if self.is_signed(len(self.requests) - 1) else self._unsigned
        await asyncio.sleep(self._slow)
        json_type = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": json_type})
        await send({"type": "http.response.body", "body": b'{"accepted": 1, "duplicates": 0}'})

    def events(self) -> list[list[dict[str, Any]]]:
        """Return the events of each request that can be read."""
        return [json.loads(body)["events"] for _, body, _ in self.requests if _is_json(body)]

    def is_signed(self, number: int) -> bool:
        headers, body, _ = self.requests[number]
        try:
            Webhook(SECRET).verify(body, headers, json_parse=False)
        except WebhookVerificationError:
            return False
        return True


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


@asynccontextmanager
async def recording(recorder: Recorder, port: int = 0) -> AsyncIterator[str]:
    """Serve a recorder; give the address for hooks."""
    with bound_at(port) as bound:
        server = LoopbackServer(recorder)
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/hooks/vendure"
        server.drop()
        await serving


async def emitted(
    steps: int = 60, *, slow: float = 0, unsigned: int = 202, **faults: float
) -> tuple[Shop, Emitter, Recorder]:
    """Let a shop live for some steps, and tell it with these faults."""
    recorder, shop = Recorder(slow=slow, unsigned=unsigned), Shop(1)
    async with recording(recorder) as endpoint:
        emitter = Emitter(shop, endpoint, SECRET, HookFaults(**faults), seed=1)
        shop.on_change = emitter.note
        sending = asyncio.create_task(emitter.run())
        for step in range(steps):
            shop.step()
            await asyncio.sleep(0.05 if step % 10 == 0 else 0)
        async with asyncio.timeout(30):
            await emitter.drained()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    return shop, emitter, recorder


def newest(recorder: Recorder) -> dict[tuple[str, str], Any]:
    """Return what the newest event of each entity says of it: what a mirror makes of the hooks."""
    events = sorted((event for request in recorder.events() for event in request), key=lambda event: event["readAt"])
    return {(event["type"].partition(".")[0], event["entityId"]): event["data"] for event in events}


def is_told(shop: Shop, recorder: Recorder) -> bool:
    """Tell whether a mirror that took these hooks would equal the shop."""
    live = {key: data for key, data in newest(recorder).items() if data is not None}
    return live == {
        (entity, source_id): json.loads(shop.read(entity, source_id) or b"")
        for entity in ENTITIES
        for source_id in shop.documents[entity]
    }


async def test_without_faults_every_change_is_told_once_and_signed() -> None:
    shop, emitter, recorder = await emitted()
    ids = Counter(event["id"] for request in recorder.events() for event in request)
    assert is_told(shop, recorder)
    assert set(ids.values()) == {1}
    assert set(ids) == emitter.sent == emitter.acknowledged
    assert all(recorder.is_signed(number) for number in range(len(recorder.requests)))
    assert max(map(len, recorder.events())) > 1, "several events travel together"
    assert not emitter.thrown.total()


async def test_lost_changes_are_never_told() -> None:
    shop, emitter, recorder = await emitted(lost=0.5)
    assert not is_told(shop, recorder)
    assert emitter.thrown["hooks: lost"] > 10


async def test_doubled_events_come_twice_with_one_id() -> None:
    shop, _, recorder = await emitted(doubled=1)
    ids = Counter(event["id"] for request in recorder.events() for event in request)
    assert set(ids.values()) == {2}
    assert is_told(shop, recorder)


async def test_delayed_events_come_long_after_they_were_read() -> None:
    shop, _, recorder = await emitted(delayed=0.3)
    waits = [
        (at - datetime.fromisoformat(event["readAt"])).total_seconds()
        for _, body, at in recorder.requests
        for event in json.loads(body)["events"]
    ]
    assert max(waits) > 0.5
    assert is_told(shop, recorder)


async def test_stale_events_bring_an_old_state_as_if_it_were_new() -> None:
    shop, emitter, recorder = await emitted(120, stale=0.5)
    assert emitter.thrown["hooks: stale"] > 10
    assert not is_told(shop, recorder)


async def test_outdated_events_come_again_as_they_were_read_under_another_id() -> None:
    shop, _, recorder = await emitted(outdated=1)
    ids = defaultdict(set)
    for request in recorder.events():
        for event in request:
            ids[event["entityId"], event["readAt"]].add(event["id"])
    assert max(map(len, ids.values())) > 1
    assert is_told(shop, recorder)


async def test_shuffled_requests_have_their_events_in_another_order() -> None:
    _, _, recorder = await emitted(shuffled=1)
    notes = [[int(event["id"].split("-")[3]) for event in request] for request in recorder.events()]
    assert any(note != sorted(note) for note in notes)


async def test_truncated_requests_end_in_the_middle_and_come_again_whole() -> None:
    shop, emitter, recorder = await emitted(truncated=1)
    cut = [number for number, (_, body, _) in enumerate(recorder.requests) if not _is_json(body)]
    assert len(cut) == len(recorder.requests) / 2
    assert all(recorder.is_signed(number) for number in cut)
    assert len(emitter.wrongly_taken) == len(cut), "this recorder takes anything"
    assert is_told(shop, recorder)


async def test_forged_requests_are_signed_by_somebody_else_and_come_again_rightly_signed() -> None:
    shop, emitter, recorder = await emitted(forged=1)
    forged = [number for number in range(len(recorder.requests)) if not recorder.is_signed(number)]
    assert len(forged) == len(recorder.requests) / 2
    assert len(emitter.wrongly_taken) == len(forged)
    assert is_told(shop, recorder)


@pytest.mark.parametrize(("status", "is_wrong"), [(401, False), (429, False), (503, False), (500, True)])
async def test_a_forged_request_may_be_refused_in_more_than_one_way(status: int, is_wrong: bool) -> None:
    _, emitter, _ = await emitted(20, forged=1, unsigned=status)
    assert bool(emitter.wrongly_taken) == is_wrong


async def test_abandoned_requests_come_again_with_the_same_ids() -> None:
    shop, emitter, recorder = await emitted(abandoned=1, slow=0.05)
    ids = Counter(event["id"] for request in recorder.events() for event in request)
    assert max(ids.values()) == 2
    assert is_told(shop, recorder)
    assert emitter.tally.unavailable == 0, "it went away by itself"


async def test_a_mirror_that_is_away_is_told_everything_when_it_is_back() -> None:
    shop, recorder = Shop(1), Recorder()
    async with recording(recorder) as endpoint:
        pass
    emitter = Emitter(shop, endpoint, SECRET, HookFaults(), seed=1)
    shop.on_change = emitter.note
    sending = asyncio.create_task(emitter.run())
    for _ in range(50):
        shop.step()
    async with asyncio.timeout(30):
        while not emitter.tally.unavailable:  # noqa: ASYNC110 - it happens beside
            await asyncio.sleep(0.01)
        async with recording(recorder, int(endpoint.split(":")[2].partition("/")[0])):
            await emitter.drained()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert is_told(shop, recorder)
