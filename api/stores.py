"""The stores, as far as what customers are told depends on them. Changes are known within half a minute."""

from uuid import UUID

import msgspec

from api.cached import Cached
from sync.database import Database, Row


class Store(msgspec.Struct, frozen=True):
    """An active store."""

    id: UUID
    slug: str
    name: str
    phone_region: str
    """ISO 3166: where a phone number without country code is dialled."""
    locale: str
    storefront_url: str | None
    code_seconds: int | None
    """How long an SMS code holds; None: the store has no settings for them, and sends none."""
    currency: str
    """ISO 4217."""
    timezone: str
    """IANA: Asia/Colombo."""
    accent_color: str
    """#rrggbb."""
    carrier_links: dict[str, str]
    """Per carrier the address of a parcel, with {number} in place of its number."""
    allowed_origins: list[str]
    """Web sites whose pages may call the API."""


class Stores:
    """The active stores by slug."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known = Cached(self._read)

    async def find(self, slug: str | None) -> Store | None:
        """Return a store, the first one without a slug; None if there is none; raise Retry if that cannot be known."""
        known = await self._known.get()
        return next(iter(known.values()), None) if slug is None else known.get(slug)

    async def all(self) -> list[Store]:
        """Return the stores; raise Retry if that cannot be known."""
        return list((await self._known.get()).values())

    async def find_by_id(self, store_id: UUID) -> Store | None:
        """Return the store of this id; None if there is none; raise Retry if that cannot be known."""
        known = await self._known.get()
        return next((store for store in known.values() if store.id == store_id), None)

    async def _read(self) -> dict[str, Store]:
        rows = await self._database.rows("list_stores")
        return {store.slug: store for store in map(_store, rows)}


def _store(row: Row) -> Store:
    values = {name: row[name] for name in Store.__struct_fields__}
    return Store(**values | {"carrier_links": msgspec.json.decode(values["carrier_links"])})
