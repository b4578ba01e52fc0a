"""The mirror's own client of a real shop, let in as the README says: by an administrator made for it, or by a key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sync.engines.base import Client, Context
from sync.engines.registry import ENGINES
from sync.records import Entity
from sync.settings import Credentials
from tests.e2e.graphql import Session
from tests.e2e.world import World

PERMISSIONS = ["ReadCustomer", "ReadOrder", "UpdateOrder"]
SLICE = 7
SRI_LANKA = Context(phone_region="LK")
"""Small, so that a sweep of a small shop has many slices."""

T = TypeVar("T")


def let_in(world: World, name: str = "mirror", permissions: Sequence[str] = PERMISSIONS) -> Credentials:
    """Make an administrator who may do this, and no more; return how to log in."""
    login = {"username": f"{name}@shop.example.com", "password": "only-for-tests"}
    person = {"emailAddress": login["username"], "firstName": "The", "lastName": name}
    roles = [_create_role(world.admin, name, permissions)]
    world.admin.do(
        "createAdministrator(input: CreateAdministratorInput!)",
        input={**person, "password": login["password"], "roleIds": roles},
    )
    return Credentials(api_url=world.shop.admin_api, **login)


def make_key(world: World) -> Credentials:
    """Make an API key with the mirror's permissions."""
    names = [{"languageCode": "en", "name": "The mirror"}]
    roles = [_create_role(world.admin, "key", PERMISSIONS)]
    key = world.admin.do(
        "createApiKey(input: CreateApiKeyInput!)", fields="apiKey", input={"roleIds": roles, "translations": names}
    )
    return Credentials(api_url=world.shop.admin_api, api_key=key["apiKey"])


def _create_role(admin: Session, name: str, permissions: Sequence[str]) -> str:
    role = {"code": name, "description": "For a test", "permissions": list(permissions)}
    return str(admin.do("createRole(input: CreateRoleInput!)", input=role)["id"])


def asked(credentials: Credentials, question: Callable[[Client], Awaitable[T]]) -> T:
    """Open a client, ask one thing, close it."""

    async def ask() -> T:
        async with ENGINES["vendure"].connect(credentials) as client:
            return await question(client)

    return asyncio.run(ask())


def swept(credentials: Credentials, entity: Entity) -> dict[str, str]:
    """Every id that a sweep meets, with its hash; each slice has as many as the shop counts."""
    return asked(credentials, lambda client: sweep(client, entity))


async def sweep(client: Client, entity: Entity, **conditions: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    position = None
    while True:
        part = await client.sweep(entity, position=position, limit=SLICE, **conditions)
        assert part.counted == len(part.fingerprints)
        found |= {one.source_id: ENGINES["vendure"].source_hash(one.hash, SRI_LANKA) for one in part.fingerprints}
        position = part.position
        if position is None:
            return found
