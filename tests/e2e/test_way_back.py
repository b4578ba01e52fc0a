"""What an admin sets in the mirror reaches a real shop, and comes back as nothing new."""

from __future__ import annotations

import pytest

from tests.e2e.asking import let_in
from tests.e2e.databases import fetch
from tests.e2e.documents import read_documents
from tests.e2e.mirror import Mirror
from tests.e2e.people import Person
from tests.e2e.story.shopping import guest_order
from tests.e2e.world import World

PERSON = Person("Lasantha", "Late", "0771234599", "5 Station Road", "Matara", "81000")
SET = """
    update order_delivery_status set stage = $2::delivery_stage, tracking_number = $3
    where order_summary_id = (select id from customer_orders_summary where source_id = $1)
"""
HISTORY = """
    select e.stage::text, e.tracking_number, e.updated_by
    from order_delivery_status_events e join customer_orders_summary o on o.id = e.order_summary_id
    where o.source_id = $1 and e.source_id <> 'placed' order by e.updated_at
"""


@pytest.fixture
def order(world: World, mirror: Mirror) -> str:
    """The id of an order in shop and mirror, and a daemon that may tell the shop."""
    guest_order(world, "late", PERSON, {"KIT-COL-A-M": 1})
    mirror.stop()
    mirror.credentials = let_in(world)
    mirror.start()
    both_rest(world, mirror)
    return world.orders["late"]


def both_rest(world: World, mirror: Mirror) -> None:
    """Wait until neither side has anything to tell the other; then they are equal."""
    mirror.wait_until_all_is_told()
    world.shop.wait_until_all_is_sent()
    mirror.wait_until_drained()
    assert mirror.compare(read_documents(world.shop, world.admin)).differences == []


def test_what_an_admin_sets_reaches_the_shop_and_its_echo_is_no_news(world: World, mirror: Mirror, order: str) -> None:
    admin = fetch(mirror.dsn, "select current_user::text")[0][0]
    fetch(mirror.dsn, SET, order, "SOURCING", None)
    both_rest(world, mirror)
    fetch(mirror.dsn, SET, order, "DISPATCHED", "SLP-1")
    both_rest(world, mirror)
    fields = {"deliveryStage": "DELIVERED", "trackingNumber": "SLP-1"}
    world.admin.do("setOrderCustomFields(input: UpdateOrderInput!)", input={"id": order, "customFields": fields})
    both_rest(world, mirror)
    assert [tuple(row) for row in fetch(mirror.dsn, HISTORY, order)] == [
        ("SOURCING", None, admin),
        ("DISPATCHED", "SLP-1", admin),
        ("DELIVERED", "SLP-1", "vendure"),
    ]
    assert [row[0] for row in fetch(mirror.dsn, "select state from mirror.outbox")] == ["sent", "sent"]
    assert world.shop.errors() == []


def test_a_shop_that_is_away_is_told_when_it_is_back(world: World, mirror: Mirror, order: str) -> None:
    world.shop.kill("server")
    fetch(mirror.dsn, SET, order, "ARRIVED", "SLP-2")
    mirror.wait_until_the_shop_is_asked()
    world.shop.start_server()
    both_rest(world, mirror)
    assert [row[0] for row in fetch(mirror.dsn, HISTORY, order)] == ["ARRIVED"]
