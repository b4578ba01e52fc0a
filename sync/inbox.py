"""The inbox: accept, claim, settle.

An event is accepted once, whoever delivers it how often; it is claimed for a time and settled by whoever still holds
the claim. What dies in between lapses and is claimed again. The rules are in `sql/`: `accept_events`, `claim_events`,
`settle_events`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal
from uuid import UUID

import msgspec

from sync.database import Database
from sync.engines.base import Event

Outcome = Literal["applied", "skipped", "dead", "retry"]


class Claimed(msgspec.Struct, frozen=True):
    """An event that we hold for a time."""

    id: UUID
    integration_id: UUID
    event_type: str
    payload: str
    """JSON."""
    attempts: int
    """How often it was claimed, this time included."""


class Settlement(msgspec.Struct, frozen=True):
    """What became of a claimed event."""

    id: UUID
    outcome: Outcome
    reason: str | None = None
    retry_after: float | None = None
    """Seconds, with outcome retry; None: as `mirror.retry_schedule` says."""


async def accept(
    database: Database, arriving: Sequence[tuple[UUID, Event]], request_ids: Sequence[str | None] = ()
) -> list[bool]:
    """Store events, each with its integration; return for each whether it is new. Committed on return.

    `request_ids` has for each the id of the request that brings it, or is empty.
    """
    accepted = await database.call("accept_events", p_events=event_columns(arriving, request_ids))
    return list(accepted)


def event_columns(arriving: Sequence[tuple[UUID, Event]], request_ids: Sequence[str | None] = ()) -> str:
    """Return events as `mirror.accept_events` takes them."""
    columns = {
        "integration_id": [integration_id for integration_id, _ in arriving],
        "event_id": [event.event_id for _, event in arriving],
        "event_type": [event.event_type for _, event in arriving],
        "entity_id": [event.entity_id for _, event in arriving],
        "payload": [event.payload for _, event in arriving],
        "request_id": request_ids,
    }
    return msgspec.json.encode(columns).decode()


async def claim(database: Database, token: UUID, *, limit: int, lease: timedelta) -> list[Claimed]:
    """Lease up to `limit` pending events to `token`, the longest-waiting first."""
    rows = await database.rows("claim_events", p_claim=token, p_limit=limit, p_lease=lease)
    return [Claimed(*row) for row in rows]


async def settle(database: Database, token: UUID, settlements: Sequence[Settlement]) -> None:
    """End the lease of events; raise Retry if `token` no longer holds every one of them."""
    await database.call("settle_events", p_claim=token, p_settlements=settlement_columns(settlements))


def settlement_columns(settlements: Sequence[Settlement]) -> str:
    """Return the JSON that `settle_events` and `apply_events` take."""
    columns = {name: [getattr(settlement, name) for settlement in settlements] for name in Settlement.__struct_fields__}
    return msgspec.json.encode(columns).decode()
