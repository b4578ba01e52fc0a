"""A populated shop, made once and cloned for each test, beside a mirror that runs as real processes."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import catalogue, node
from tests.e2e.mirror import Mirror
from tests.e2e.shop import Shop
from tests.e2e.world import World, open_world
from tests.postgres import TestServer

HERE = Path(__file__).parent
SECONDS = 1200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give what installs a shop and runs it more time than other tests."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(SECONDS))


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture(scope="session")
def shop_template(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a database with a populated shop in which nothing was sold yet."""
    node.install_shop()
    name = server.create()
    shop = Shop(server.owner(name), tmp_path_factory.mktemp("template"), "http://127.0.0.1:9/", new_secret())
    try:
        shop.populate()
        shop.start_server()
        with catalogue.log_in(shop) as admin:
            catalogue.set_up(admin)
    finally:
        shop.stop()
    yield name
    server.drop(name)


@pytest.fixture
def mirror(database: str, tmp_path: Path) -> Iterator[Mirror]:
    """A running mirror on an empty database."""
    mirror = Mirror(database, new_secret(), tmp_path)
    try:
        mirror.start()
        yield mirror
    finally:
        mirror.stop()


@pytest.fixture
def world(server: TestServer, shop_template: str, mirror: Mirror, tmp_path: Path) -> Iterator[World]:
    """A running shop that posts its hooks to the mirror."""
    name = server.create(template=shop_template)
    shop = Shop(server.owner(name), tmp_path, mirror.endpoint, mirror.secret)
    try:
        shop.start()
        with open_world(shop) as world:
            yield world
    finally:
        shop.stop()
        server.drop(name)
