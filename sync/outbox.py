"""The outbox: claim, hand out, settle.

A command says what an order's delivery should be in the engine. It is claimed for a time, handed out when the engine
has just been asked what it has, and settled by whoever still holds the claim. What dies in between lapses and is
claimed again. The rules are in `sql/`: `queue_commands`, `claim_commands`, `hand_out_commands`, `settle_commands`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal
from uuid import UUID

import msgspec

from sync.database import Database
from sync.records import Delivery

Outcome = Literal["sent", "unread", "retry", "skipped", "dead"]
"""unread: the engine took it, but could not be asked again what it has now."""


class Claimed(msgspec.Struct, frozen=True):
    """A command that we hold for a time."""

    id: UUID
    source_id: str
    """The engine's id of the order."""
    attempts: int
    """How often it was claimed, this time included."""


class Command(msgspec.Struct, frozen=True):
    """What the engine is to be told now."""

    id: UUID
    source_id: str
    attempts: int
    delivery: Delivery


class Settlement(msgspec.Struct, frozen=True):
    """What became of a claimed command."""

    id: UUID
    outcome: Outcome
    reason: str | None = None
    retry_after: float | None = None
    """Seconds, with outcome retry; None: as `mirror.retry_schedule` has it, which gives up some time."""


class Counts(msgspec.Struct):
    """What became of commands."""

    sent: int = 0
    skipped: int = 0
    dead: int = 0
    retried: int = 0

    def add(self, other: "Counts") -> None:
        """Add another's counts to these."""
        for name in Counts.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class HandedOut(Counts):
    """What is still to be told of the commands that were claimed, and how many of them ended without."""

    handed_out: list[Command] = []


async def claim(
    database: Database, token: UUID, integration_id: UUID, *, limit: int, lease: timedelta
) -> list[Claimed]:  # fmt: skip
    """Lease up to `limit` due commands of an integration to `token`, the longest-waiting first."""
    rows = await database.rows(
        "claim_commands", p_claim=token, p_integration_id=integration_id, p_limit=limit, p_lease=lease
    )
    return [Claimed(*row) for row in rows]


async def hand_out(database: Database, token: UUID, commands: Sequence[UUID], records: str) -> HandedOut:
    """Apply what the engine says of the commands' orders; return what it is still to be told."""
    answer = await database.call(
        "hand_out_commands", p_claim=token, p_commands=list(commands), p_records=records
    )  # fmt: skip
    return msgspec.json.decode(answer, type=HandedOut)


async def settle(database: Database, token: UUID, settlements: Sequence[Settlement], records: str = "[]") -> Counts:
    """Apply what the engine says after the sending, and end the lease of those commands that `token` still holds."""
    columns = {name: [getattr(settlement, name) for settlement in settlements] for name in Settlement.__struct_fields__}
    answer = await database.call(
        "settle_commands", p_claim=token, p_records=records, p_settlements=msgspec.json.encode(columns).decode()
    )
    return msgspec.json.decode(answer, type=Counts)
