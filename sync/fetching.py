"""What events only name is fetched from the engine, before anything is applied: no transaction waits for it.

The events are leased meanwhile, so the asking ends in time: what was not answered by then is tried again later. Of the
same thing, however many events name it, the engine is asked once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from sync.database import Row
from sync.engines.base import Client, Context, Engine, Fetch
from sync.engines.registry import ENGINES
from sync.errors import Reject, Retry, Skip, SyncError
from sync.records import Record
from sync.settings import prefix_of

LANES = 8
"""So many are asked for side by side, at the most."""


class Shop(msgspec.Struct, frozen=True):
    """An active integration: how its events are read, and whom to ask of what they do not say."""

    id: UUID
    slug: str
    engine_name: str
    engine: Engine | None
    """None: another version of the mirror knows it."""
    context: Context
    client: Client | None

    @classmethod
    def of(cls, integration: Row, clients: Mapping[str, Client]) -> "Shop":
        """Return what a row of `mirror.list_integrations` says."""
        client = clients.get(integration["slug"])
        context = Context.of(integration)
        if client is not None and context.is_test is None:
            context = msgspec.structs.replace(context, is_test=client.is_test)
        name = integration["engine"]
        return cls(integration["id"], integration["slug"], name, ENGINES.get(name), context, client)


class Fetching:
    """Asks for what the events of one slice name."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = asyncio.get_running_loop().time() + seconds
        self._lanes = asyncio.Semaphore(LANES)
        self._asked: dict[Any, asyncio.Task[list[Record]]] = {}

    async def fetch(self, shop: Shop, wanted: Fetch) -> list[Record]:
        """Return what an engine says now; where it cannot be asked, what will do instead.

        Raises:
            Retry: it did not answer in time, or has to be asked and there are no credentials.
            Skip, Reject: what it says is not for us, or it refuses to be asked.
        """
        if shop.client is None:
            return _otherwise(shop, wanted)
        key = (shop.id, wanted.entity, wanted.source_id)
        if key not in self._asked:
            self._asked[key] = asyncio.create_task(self._ask(shop, shop.client, wanted))
        try:
            read = await self._asked[key]
        except Reject:
            if wanted.otherwise is None:
                raise
            return _otherwise(shop, wanted)
        # Clocks that show seconds would let a reading seem older than the event that it came after.
        return [
            msgspec.structs.replace(record, source_version=max(record.source_version, wanted.at)) for record in read
        ]

    async def fetch_all(self, named: Sequence[tuple[Shop, Fetch]]) -> list[list[Record] | BaseException]:
        """Return for each what was found, or what it failed with."""
        asking = (self.fetch(shop, wanted) for shop, wanted in named)
        return list(await asyncio.gather(*asking, return_exceptions=True))

    async def _ask(self, shop: Shop, client: Client, wanted: Fetch) -> list[Record]:
        try:
            async with asyncio.timeout_at(self._ends_at), self._lanes:
                events = await client.fetch(wanted.entity, [wanted.source_id])
        except TimeoutError:
            raise Retry(f"{shop.slug} was not asked of {wanted.source_id} in time", after=1) from None
        records: list[Record] = []
        skipped: SyncError = Skip(f"{shop.slug} has nothing of {wanted.source_id}")
        for event in events:
            try:
                records += shop.engine.map(event.event_type, bytes(event.payload), shop.context) if shop.engine else []
            except Skip as skip:
                skipped = skip
        if not records:
            raise skipped
        return records


def _otherwise(shop: Shop, wanted: Fetch) -> list[Record]:
    if wanted.otherwise is None:
        variable = f"{prefix_of(shop.slug)}API_KEY"
        raise Retry(f"{wanted.reason}, and there is nothing to ask with: set {variable} where the daemon runs")
    if not wanted.otherwise:
        raise Skip(wanted.reason)
    return list(wanted.otherwise)
