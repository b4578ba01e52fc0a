"""The mirror asks a real shop with our plugin, and tells it what to change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from sync.engines.base import Client, Event
from sync.engines.registry import ENGINES
from sync.errors import Reject
from sync.records import Customer, Deletion, Delivery, Entity, Order, Record
from sync.settings import Credentials
from tests.e2e.asking import SRI_LANKA, asked, let_in, make_key, sweep, swept
from tests.e2e.catalogue import SUPERADMIN
from tests.e2e.conftest import new_secret
from tests.e2e.databases import fetch
from tests.e2e.documents import read_documents
from tests.e2e.mirror import Mirror
from tests.e2e.people import Person
from tests.e2e.shop import Shop
from tests.e2e.story import STORY
from tests.e2e.story.shopping import guest_order
from tests.e2e.world import World, open_world
from tests.postgres import TestServer

ARRIVED = Delivery(stage="ARRIVED", tracking_number="SLP-77")
KEPT = (Customer, Order)
LATE = Person("Lasantha", "Late", "0771234599", "5 Station Road", "Matara", "81000")


@pytest.fixture(scope="module")
def busy(server: TestServer, shop_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A shop in which all of the script has happened, and whose hooks reach nobody."""
    name = server.create(template=shop_template)
    shop = Shop(server.owner(name), tmp_path_factory.mktemp("busy"), "http://127.0.0.1:9/", new_secret())
    try:
        shop.start_server()
        with open_world(shop) as world:
            for action in STORY:
                action(world)
            yield world
    finally:
        shop.stop()
        server.drop(name)


@pytest.fixture(scope="module")
def credentials(busy: World) -> Credentials:
    return let_in(busy)


def record_of(event: Event) -> Record:
    (record,) = ENGINES["vendure"].map(event.event_type, event.payload, SRI_LANKA)
    return record


def test_a_sweep_meets_every_customer_and_every_placed_order(busy: World, credentials: Credentials) -> None:
    documents = read_documents(busy.shop, busy.admin)
    sellers = {part["id"] for order in documents["orders"] for part in order["sellerOrders"]}
    orders = {order["id"] for order in documents["orders"]} - sellers
    assert swept(credentials, "order").keys() == orders
    assert swept(credentials, "customer").keys() == {customer["id"] for customer in documents["customers"]}
    assert asked(credentials, lambda client: client.count("order")) == len(orders)


@pytest.mark.parametrize("entity", ["customer", "order"])
def test_what_is_fetched_has_the_hash_that_was_swept(credentials: Credentials, entity: Entity) -> None:
    by_sweep = swept(credentials, entity)
    events = asked(credentials, lambda client: client.fetch(entity, list(by_sweep)))
    records = [record_of(event) for event in events]
    assert {record.source_id: record.source_hash for record in records if isinstance(record, KEPT)} == by_sweep


@pytest.mark.parametrize("entity", ["customer", "order"])
def test_only_what_is_new_is_swept_and_counted(busy: World, credentials: Credentials, entity: Entity) -> None:
    (row,) = fetch(busy.shop.dsn, "select clock_timestamp() as now")
    guest_order(busy, "late", LATE, {"KIT-COL-A-M": 1})
    new = asked(credentials, lambda client: sweep(client, entity, since=row["now"]))
    assert len(new) == 1
    assert asked(credentials, lambda client: client.count(entity, since=row["now"])) == 1


def test_a_deleted_customer_comes_as_a_deletion(busy: World, credentials: Credentials) -> None:
    (row,) = fetch(busy.shop.dsn, 'select id::text from customer where "deletedAt" is not null limit 1')
    (event,) = asked(credentials, lambda client: client.fetch("customer", [row["id"]]))
    assert isinstance(record_of(event), Deletion)


def test_an_api_key_lets_the_mirror_in(busy: World) -> None:
    assert asked(make_key(busy), lambda client: client.count("order")) > 0


def test_whoever_lacks_a_permission_is_told_which_are_needed(busy: World) -> None:
    clerk = let_in(busy, "clerk", ["ReadOrder"])
    assert asked(clerk, lambda client: client.count("order")) > 0
    with pytest.raises(Reject, match="ReadCustomer, ReadOrder and UpdateOrder"):
        asked(clerk, lambda client: client.count("customer"))
    with pytest.raises(Reject, match="ReadCustomer, ReadOrder and UpdateOrder"):
        asked(clerk, lambda client: client.set_delivery(busy.orders["mohamed's"], ARRIVED))


def test_a_wrong_password_is_refused(credentials: Credentials) -> None:
    wrong = msgspec.structs.replace(credentials, password="wrong")
    with pytest.raises(Reject, match="INVALID_CREDENTIALS_ERROR"):
        asked(wrong, lambda client: client.count("order"))


def test_a_session_that_has_ended_is_renewed(busy: World, credentials: Credentials) -> None:
    async def before_and_after(client: Client) -> bool:
        before = await client.count("order")
        await asyncio.to_thread(end_all_sessions, busy)
        return before == await client.count("order")

    assert asked(credentials, before_and_after)


def end_all_sessions(world: World) -> None:
    """The server keeps sessions in memory, too, until it ends."""
    fetch(world.shop.dsn, "delete from session")
    world.shop.kill("server")
    world.shop.start_server()
    world.admin.do("login(username: String!, password: String!)", on="CurrentUser", **SUPERADMIN)


def test_a_stage_that_the_mirror_sets_comes_back_by_a_hook(world: World, mirror: Mirror) -> None:
    guest_order(world, "late", LATE, {"KIT-COL-A-M": 1})
    credentials, order_id = let_in(world), world.orders["late"]
    asked(credentials, lambda client: client.set_delivery(order_id, ARRIVED))
    world.shop.wait_until_all_is_sent()
    mirror.wait_until_drained()
    query = (
        "select delivery_stage::text, tracking_number, source_hash from customer_orders_summary where source_id = $1"
    )
    (row,) = fetch(mirror.dsn, query, order_id)
    assert (row["delivery_stage"], row["tracking_number"]) == (ARRIVED.stage, ARRIVED.tracking_number)
    assert row["source_hash"] == swept(credentials, "order")[order_id]


def test_a_stage_that_there_is_not_is_refused(busy: World, credentials: Credentials) -> None:
    lost = msgspec.structs.replace(ARRIVED, stage="LOST")
    with pytest.raises(Reject, match=r"The shop refuses: .*deliveryStage"):
        asked(credentials, lambda client: client.set_delivery(busy.orders["mohamed's"], lost))
    with pytest.raises(Reject, match="ENTITY_NOT_FOUND"):
        asked(credentials, lambda client: client.set_delivery("999999", ARRIVED))
