"""A Vendure shop in memory, with the mirror's plugins: documents that change, a clock of its own, hooks, and a Client.

It gives what a real one gives (`docs/vendure-hooks.md`), with none of the network: what is lost, late or doubled is up
to the test that holds it.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sync.engines.base import Event, Fingerprint, Sweep
from sync.engines.vendure import payloads
from sync.records import Delivery, Entity
from tests.factory import START, Document
from tests.hooks import body_of


class Shop:
    """The documents of a shop. Each change, and each reading, takes a millisecond of its clock."""

    def __init__(self) -> None:
        self.documents: dict[Entity, dict[str, Document]] = {"customer": {}, "order": {}}
        self.now = START
        self.asked: list[str] = []
        """Names of the calls that were made of the client, in their order."""

    def put(self, entity: Entity, document: Document) -> Event:
        """Save a document; return the hook's event that says so."""
        self._tick()
        self.documents[entity][document["id"]] = copy.deepcopy(document)
        return self.event(entity, document["id"])

    def edit(self, entity: Entity, source_id: str, **fields: Any) -> Event:
        """Change fields of a document; return the event."""
        return self.put(entity, {**self.documents[entity][source_id], **fields})

    def set_stage(self, source_id: str, stage: str, tracking_number: str | None = None) -> Event:
        """Set an order's delivery as the shop's admin would; return the event."""
        order = self.documents["order"][source_id]
        fields = {"deliveryStage": stage, "trackingNumber": tracking_number}
        changes = list(order.get("deliveryStageChanges", []))
        if any((order.get("customFields") or {}).get(name) != value for name, value in fields.items()):
            changed_at = _written(self.now)
            changes.append({"id": f"{source_id}-{len(changes)}", "stage": stage, "trackingNumber": tracking_number})
            changes[-1]["changedAt"] = changed_at
        custom_fields = {**(order.get("customFields") or {}), **fields}
        return self.edit("order", source_id, customFields=custom_fields, deliveryStageChanges=changes)

    def remove(self, entity: Entity, source_id: str) -> Event:
        """Delete a document; return the event."""
        self._tick()
        del self.documents[entity][source_id]
        return self.event(entity, source_id)

    def event(self, entity: Entity, source_id: str) -> Event:
        """Return what a hook says of an entity that is read now."""
        self._tick()
        document = self.documents[entity].get(source_id)
        change = {
            "id": f"{entity}-{source_id}-{_written(self.now)}",
            "type": f"{entity}.{'deleted' if document is None else 'changed'}",
            "entityId": source_id,
            "readAt": _written(self.now),
            "hash": document and _digest(document),
            "data": document,
        }
        (event,) = payloads.read(body_of(change))
        return event

    def _tick(self) -> None:
        self.now += timedelta(milliseconds=1)


class ShopClient:
    """A `sync.engines.base.Client` of the shop."""

    is_test: bool | None = None

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def count(self, entity: Entity, *, since: datetime | None = None) -> int:
        self.shop.asked.append("count")
        return len(self._ids(entity, since))

    async def sweep(
        self, entity: Entity, *, position: str | None = None, since: datetime | None = None, limit: int = 500
    ) -> Sweep:
        self.shop.asked.append("sweep")
        read_at = self._read_at()
        following = [source_id for source_id in self._ids(entity, since) if position is None or source_id > position]
        documents = self.shop.documents[entity]
        fingerprints = [Fingerprint(source_id, _digest(documents[source_id])) for source_id in following[:limit]]
        last = following[limit - 1] if len(following) > limit else None
        return Sweep(read_at, len(fingerprints), fingerprints, last)

    async def fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[Event]:
        self.shop.asked.append("fetch")
        return [self.shop.event(entity, source_id) for source_id in source_ids]

    async def set_delivery(self, source_id: str, delivery: Delivery) -> None:
        self.shop.asked.append("set_delivery")
        self.shop.set_stage(source_id, delivery.stage, delivery.tracking_number)

    def _ids(self, entity: Entity, since: datetime | None) -> list[str]:
        documents = self.shop.documents[entity]
        return sorted(i for i, document in documents.items() if since is None or _touched(document) >= since)

    def _read_at(self) -> datetime:
        self.shop._tick()
        return self.shop.now


def _touched(document: Document) -> datetime:
    times = (document.get(name) for name in ("createdAt", "orderPlacedAt", "updatedAt"))
    return max(datetime.fromisoformat(time) for time in times if time)


def _digest(document: Document) -> str:
    """Return the hash of a document as the plugin makes it: its beginning is that of the content but for names."""
    parts = (json.dumps(content, sort_keys=True) for content in (_nameless(document), document))
    nameless, whole = (hashlib.sha256(part.encode()).hexdigest() for part in parts)
    return nameless[:16] + whole[:8]


def _nameless(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _nameless(value) for key, value in content.items() if key != "name"}
    return [_nameless(value) for value in content] if isinstance(content, list) else content


def _written(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
