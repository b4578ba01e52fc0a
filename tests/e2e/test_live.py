"""A mirror beside a running shop: whatever happens, it ends equal to what the shop's Admin API says.

Nothing is replayed here. A real Vendure server and worker post to a real API, and a real daemon applies what
came; the script of actions is the one that was recorded for the other tests.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.e2e.asking import let_in, swept
from tests.e2e.databases import fetch
from tests.e2e.documents import read_documents
from tests.e2e.mirror import Mirror
from tests.e2e.story import STORY
from tests.e2e.world import World

Blow = Callable[[World, Mirror], None]


def assert_equal(world: World, mirror: Mirror) -> None:
    """Wait for the last change to arrive; then every row must equal what the Admin API says, and a sweep find it so."""
    world.shop.wait_until_all_is_sent()
    mirror.wait_until_drained()
    comparison = mirror.compare(read_documents(world.shop, world.admin))
    assert comparison.differences == []
    assert comparison.entities > 60
    credentials = let_in(world)
    assert mirror.hashes("customers") == swept(credentials, "customer")
    assert mirror.hashes("customer_orders_summary") == swept(credentials, "order")


def test_a_mirror_equals_the_shop_after_all_that_its_customers_and_admins_do(world: World, mirror: Mirror) -> None:
    for action in STORY:
        action(world)
    assert_equal(world, mirror)
    assert world.shop.errors() == []


def test_a_single_wrong_cell_is_noticed(world: World, mirror: Mirror) -> None:
    for action in STORY[:40]:
        action(world)
    world.shop.wait_until_all_is_sent()
    mirror.wait_until_drained()
    documents = read_documents(world.shop, world.admin)
    fetch(mirror.dsn, "update customers set phone_number = '94770000000' where email like 'kumari.%'")
    (difference,) = mirror.compare(documents).differences
    assert difference.fields == ["phone_number"]


def kill_the_worker(world: World, _: Mirror) -> None:
    world.shop.kill("worker")
    world.shop.start_worker()


def kill_the_server(world: World, _: Mirror) -> None:
    world.shop.kill("server")
    world.shop.start_server()


def kill_the_server_in_the_middle_of_changes(world: World, _: Mirror) -> None:
    """Some of the changes happened, some did not, of one nobody knows: the notes must agree with the tables."""
    order = world.orders["mohamed's"]
    with ThreadPoolExecutor(4) as pool:
        changes = [pool.submit(_set_tracking_number, world, order, number) for number in range(40)]
        changes[10].result()
        world.shop.kill("server")
        outcomes = [change.exception() for change in changes]
    assert any(isinstance(outcome, httpx.TransportError) for outcome in outcomes)
    world.shop.start_server()


def _set_tracking_number(world: World, order: str, number: int) -> None:
    world.admin.do(
        "setOrderCustomFields(input: UpdateOrderInput!)",
        input={"id": order, "customFields": {"trackingNumber": f"SLP-{number}"}},
    )


def kill_the_api(_: World, mirror: Mirror) -> None:
    mirror.kill("serve")
    mirror.start_api()


def kill_the_daemon(_: World, mirror: Mirror) -> None:
    mirror.kill("work")
    mirror.start_daemon()


def kill_everything(world: World, mirror: Mirror) -> None:
    for name in ("server", "worker"):
        world.shop.kill(name)
    for command in ("serve", "work"):
        mirror.kill(command)
    mirror.start()
    world.shop.start()


# After which action of the script: the shop does not wait for the mirror, so changes are under way each time.
BLOWS: dict[int, Blow] = {
    25: kill_the_worker,
    35: kill_the_api,
    45: kill_the_daemon,
    55: kill_the_server,
    70: kill_the_worker,
    80: kill_the_server_in_the_middle_of_changes,
    95: kill_everything,
    105: kill_the_api,
    115: kill_the_daemon,
    125: kill_the_worker,
}


def test_nothing_is_lost_when_every_process_is_killed_in_the_middle(world: World, mirror: Mirror) -> None:
    for number, action in enumerate(STORY):
        action(world)
        if blow := BLOWS.get(number):
            blow(world, mirror)
    assert_equal(world, mirror)


def test_a_mirror_that_was_away_catches_up(world: World, mirror: Mirror) -> None:
    mirror.stop()
    for action in STORY[:40]:
        action(world)
    assert fetch(world.shop.dsn, "select from customer_sync_note limit 1")
    mirror.start()
    world.shop.wait_until_all_is_sent()
    mirror.wait_until_drained()
    assert mirror.compare(read_documents(world.shop, world.admin)).differences == []
    assert world.shop.errors() == []
