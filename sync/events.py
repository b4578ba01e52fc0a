"""Events that people look after: found, shown, applied again, or left out.

The rules are in `sql/40_functions/70_events.sql`. A payload is a customer's data: `show` prints it, on
demand; nothing else does.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console

from sync.database import Database


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are meant: each field that is given narrows it."""

    state: str | None = None
    type: str | None = None
    entity: str | None = None
    """The engine's id of what the event is about."""
    integration: str | None = None
    """Its slug."""
    since: datetime | None = None
    """Arrived then or later."""
    reason: str | None = None
    """Words in the reason, in upper or lower case."""
    events: Sequence[str] | None = None
    """The sender's ids."""
    request: str | None = None
    """The X-Request-ID that brought them."""

    @property
    def is_anything(self) -> bool:
        """Whether nothing narrows it."""
        return self == Choice()

    @property
    def arguments(self) -> dict[str, Any]:
        """What the functions of the database take."""
        values = {f"p_{name}": getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in values.items() if value is not None}


class Outcome(msgspec.Struct):
    """What became of the events of a choice."""

    retried: int = 0
    skipped: int = 0
    leased: list[str] = []
    """A daemon has them in hand: left alone."""
    settled: list[str] = []
    """Applied or skipped already."""
    unknown: list[str] = []


async def find(database: Database, choice: Choice, *, limit: int) -> list[dict[str, Any]]:
    """Return events, the newest first."""
    return [dict(row) for row in await database.rows("list_events", **choice.arguments, p_limit=limit)]


async def count(database: Database, choice: Choice) -> int:
    """Return how many events that is."""
    return int(await database.call("count_events", **choice.arguments))


async def read(database: Database, event_id: str, integration: str | None) -> list[dict[str, Any]]:
    """Return the events with this id, payload and all."""
    which = {"p_integration": integration} if integration else {}
    found: list[dict[str, Any]] = msgspec.json.decode(await database.call("show_event", p_event=event_id, **which))
    return found


async def retry(database: Database, choice: Choice) -> Outcome:
    """Have events applied again, with a fresh count of attempts; without ids or a state, the dead ones."""
    return msgspec.json.decode(await database.call("retry_events", **choice.arguments), type=Outcome)


async def skip(database: Database, choice: Choice, why: str) -> Outcome:
    """Leave pending or dead events out; without ids or a state, the dead ones."""
    answer = await database.call("skip_events", p_why=why, **choice.arguments)
    return msgspec.json.decode(answer, type=Outcome)


def print_events(console: Console, found: list[dict[str, Any]]) -> None:
    """Print a line for each event, and its reason below; its id comes whole, to be copied."""
    if not found:
        console.print("There is no such event.")
    for event in found:
        state = "in hand" if event["is_leased"] else event["state"]
        what = f"{event['event_type']} {event['entity_id']}"
        tried = f"tried {event['attempts']} times" if event["attempts"] != 1 else "tried once"
        _print(console, f"{event['arrived_at']:%Y-%m-%d %H:%M:%S}  {state:8} {what:24} {event['event_id']}  {tried}")
        if event["reason"]:
            _print(console, f"    {event['reason']}")


def print_event(console: Console, event: dict[str, Any]) -> None:
    """Print all there is about an event, and the command that replays it."""
    payload = event.pop("payload")
    for name, value in event.items():
        if value is not None:
            _print(console, f"{name:13} {value}")
    console.print_json(data=payload)
    replay = f"mirror events retry {event['event_id']} --integration {event['integration']}"
    _print(console, f"To have it applied again: {replay}")


def print_outcome(console: Console, outcome: Outcome, verb: str) -> None:
    """Print how many events were retried or skipped, and name those that were not."""
    _print(console, f"{verb} {_events(outcome.retried + outcome.skipped)}.")
    for names, why in (
        (outcome.leased, "in a daemon's hands and left alone"),
        (outcome.settled, "applied or skipped already"),
        (outcome.unknown, "unknown"),
    ):
        for name in names:
            _print(console, f"{why}: {name}")


def _print(console: Console, text: str) -> None:
    """Print a line as it is: what comes from elsewhere is no markup."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _events(number: int) -> str:
    return f"{number:,} event" if number == 1 else f"{number:,} events"
