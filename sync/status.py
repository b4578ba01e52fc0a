"""How the mirror does, in one look: what `mirror.get_status()` says. It is cheap, however big the tables are."""

from datetime import datetime
from typing import Any

import msgspec

from sync.database import Database


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that could not be applied."""

    event_id: str
    event_type: str
    reason: str


class Alarm(msgspec.Struct, frozen=True):
    """Something that somebody should look at."""

    integration: str
    alarm: str
    since: datetime
    detail: str


class LastRun(msgspec.Struct, frozen=True):
    """The last backfill or reconcile of an integration."""

    kind: str
    state: str
    reason: str | None
    began_at: datetime
    finished_at: datetime | None
    options: dict[str, Any]


class Drift(msgspec.Struct, frozen=True):
    """What the last reconcile found of an entity."""

    entity: str
    missing: int
    stale: int
    gone: int
    never_sent: int
    differing: int
    at: datetime


class Watched(msgspec.Struct, frozen=True):
    """An active integration: its hooks, its runs, its drift."""

    slug: str
    last_hook_at: datetime | None
    silent_seconds: float | None
    usual_seconds: float | None
    """The usual longest wait for a hook; None while it is not known yet."""
    alarm_seconds: float | None
    is_silent: bool
    runs: list[LastRun]
    drift: list[Drift]


class Commands(msgspec.Struct, frozen=True):
    """The way back to the engine of an integration."""

    integration: str
    is_active: bool
    waiting: int
    waiting_since: datetime | None
    reason: str | None
    """Why the latest that was tried did not go through; None if none was tried."""
    refused: int
    conflicts: int


class Books(msgspec.Struct, frozen=True):
    """The invoices of a store in Lexware Office."""

    store: str
    waiting: int
    waiting_since: datetime | None
    reason: str | None
    """Why the latest that was tried did not go through; None if none was tried."""
    sent: int
    skipped: int
    refused: int
    to_correct: int
    last_refusal: str | None
    """What the last of those that are refused or to be corrected is about."""


class Status(msgspec.Struct, frozen=True):
    """What `mirror.get_status()` returns."""

    inbox: dict[str, int]
    lag_seconds: float
    dead_letters: list[DeadLetter]
    outbox_waiting: int
    commands: list[Commands]
    books: list[Books]
    alarms: list[Alarm]
    integrations: list[Watched]
    tables: dict[str, int]


async def read_status(database: Database) -> Status:
    """Return how the mirror does."""
    return msgspec.json.decode(await database.call("get_status"), type=Status)
