"""A slice that the database refuses, taken apart: what can be applied is applied, what cannot is known by itself.

`mirror.apply_apart` takes many pieces of a slice in one call, each in a savepoint, and says of each whether it was
refused. Those that were are taken apart by the next call, down to single events. So the calls are as many as there are
levels, log₁₆ of the slice's length, however many of its events are refused; a slice of 500 takes three.

A single event that cannot be applied is settled there, in the same call, as dead.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from sync.database import Database
from sync.doors.base import PASSING, translated
from sync.errors import Reject, Retry, Unmigrated

PIECES = 16
"""How many pieces a slice, or a piece of it, is taken into. From two events on, the logarithm to the base of 2 is never
less than the levels that this makes."""

Event = TypeVar("Event")


class Piece(msgspec.Struct, Generic[Event], frozen=True):
    """Events that were tried together, and what became of them."""

    events: Sequence[Event]
    refusal: Reject | Retry | None = None
    """Why they were not applied: a single event with a Reject is settled as dead."""
    customers: int = 0
    orders: int = 0
    """How many of each changed."""


async def apply_apart(
    database: Database,
    token: UUID,
    events: Sequence[Event],
    *,
    document: Callable[[Sequence[Event]], dict[str, Any]],
    may_be_one: Callable[[Reject | Retry, Sequence[Event]], bool],
) -> list[Piece[Event]]:
    """Apply what can be applied of a slice that was refused; return every piece of it.

    `document` makes of events what `mirror.apply_apart` takes as a piece. `may_be_one` tells whether a single event
    may be the cause of a refusal; where it is not, a piece that was refused stays together.

    If a call fails altogether, the pieces that it held come back with that error, and are still ours.
    """
    done: list[Piece[Event]] = []
    waiting = _split(events)
    while waiting:
        try:
            tried = await _try(database, token, waiting, document)
        except (Reject, Retry) as error:
            # It is none of the events: those would have been refused one by one.
            return [*done, Piece([event for piece in waiting for event in piece], Retry(error.reason))]
        waiting = []
        for piece in tried:
            if piece.refusal and len(piece.events) > 1 and may_be_one(piece.refusal, piece.events):
                waiting += _split(piece.events)
            else:
                done.append(piece)
    return done


async def _try(
    database: Database,
    token: UUID,
    pieces: Sequence[Sequence[Event]],
    document: Callable[[Sequence[Event]], dict[str, Any]],
) -> list[Piece[Event]]:
    documents = msgspec.json.encode([document(piece) for piece in pieces]).decode()
    rows = await database.rows("apply_apart", p_claim=token, p_pieces=documents, p_passing=list(PASSING))
    return [_piece(piece, row) for piece, row in zip(pieces, rows, strict=True)]


def _piece(events: Sequence[Event], row: Any) -> Piece[Event]:
    if row["state"] is None:
        return Piece(events, None, row["customers"], row["orders"])
    return Piece(events, of_the_event(translated(row["state"], row["message"], constraint=row["violated"])))


def of_the_event(refusal: Reject | Retry) -> Reject | Retry:
    """Return a refusal as it concerns an event: one that is applied while the database is migrated waits for that."""
    return Retry(refusal.reason) if isinstance(refusal, Unmigrated) else refusal


def _split(events: Sequence[Event]) -> list[Sequence[Event]]:
    """Return up to PIECES pieces of about the same length, in order."""
    count = min(PIECES, len(events))
    edges = [len(events) * number // count for number in range(count + 1)]
    return [events[start:end] for start, end in pairwise(edges)]
