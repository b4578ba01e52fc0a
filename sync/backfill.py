"""Backfill: read everything that the engine has into the tables, and prove it.

Kind by kind, what names another after that. It is gone on with where it was, whatever ended it, for a day; and hooks
may arrive meanwhile.
"""

from collections.abc import Callable
from datetime import datetime

import msgspec

from sync.answers import Source
from sync.database import Database
from sync.passes import Passes, Progress, Unwatched
from sync.records import Entity
from sync.runs import Difference, Ending, Options, Summary, open_run


class Backfilled(msgspec.Struct, frozen=True):
    """What a backfill came to."""

    ending: Ending
    summaries: list[Summary]
    differing: dict[Entity, list[Difference]]
    """What is not here as the engine has it, and why: the first few hundred."""


async def backfill(  # noqa: PLR0913 - each narrows it in its own way
    database: Database,
    source: Source,
    *,
    entities: tuple[Entity, ...] | None = None,
    since: datetime | None = None,
    restart: bool = False,
    progress: Progress | None = None,
    waits: Callable[[str], None] | None = None,
) -> Backfilled:
    """Read an engine into the tables: all that it has, or some of it; with `since`, what is as new as that.

    One that was not finished, and was asked for in the same words, is gone on with, unless it is to restart. `waits`
    is told before it waits for a run that another process, perhaps a dead one, has in hand; without, that is an error.

    Raises:
        Retry: the engine or the database is away for too long, or (Busy) a run is in hand; what was read is kept.
        Reject: the engine or the database refuses to be asked, or has nothing of that kind.
    """
    asked = source.chosen(entities)
    options = Options(entities=asked, since=since, is_full=since is None and set(asked) == set(source.engine.entities))
    async with open_run(database, source.integration_id, "backfill", options, restart=restart, waits=waits) as run:
        passes = Passes(run, source, fix=True, since=since, progress=progress or Unwatched())
        summaries = [await passes.read(entity) for entity in asked]
        differing = {summary.entity: await run.differing(summary.entity) for summary in summaries if summary.differing}
        return Backfilled(await run.finish(), summaries, differing)
