"""Reconcile: compare the mirror with the engine, cheaply, and heal only what differs.

The engine lists ids and hashes of contents. What is missing here or stale is fetched; what is here and was not listed
is asked for by name, and marked deleted if the engine no longer has it. Too much of that at once is refused: of an
engine that suddenly has half of its orders, we have more likely lost the right to see them.

How it came to differ is told, too: of what changed without a hook having said so, the silence alarm speaks.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime

import msgspec
import structlog

from sync.answers import Source
from sync.database import Database
from sync.engines.base import Client
from sync.errors import Retry, SyncError
from sync.passes import SLICE_SIZE, Passes, Progress, Unwatched
from sync.records import Entity
from sync.runs import Busy, Difference, Ending, Found, Options, Run, Summary, open_run
from sync.sources import find_source

log = structlog.get_logger()

GRACE_SECONDS = 5.0
"""A hook may be so late before it counts as never sent, and what went before it is missed."""
CHECK_SECONDS = 60.0
"""How often the daemon looks whether a reconcile is due."""


class Reconciled(msgspec.Struct, frozen=True):
    """What a reconcile came to."""

    ending: Ending
    summaries: list[Summary]
    found: dict[Entity, list[Found]]
    """Examples of what differed."""
    differing: dict[Entity, list[Difference]]
    """What still differs, and why: the first few hundred."""


async def reconcile(  # noqa: PLR0913 - each narrows it in its own way
    database: Database,
    source: Source,
    *,
    fix: bool,
    entities: tuple[Entity, ...] | None = None,
    since: datetime | None = None,
    allow_gone: float | None = None,
    grace: float = GRACE_SECONDS,
    progress: Progress | None = None,
    waits: Callable[[str], None] | None = None,
) -> Reconciled:
    """Compare, and with `fix` heal: all that the engine has, or some of it; with `since` what is as new as that.

    `allow_gone` is the share of all that may be gone at once, where the integration's own is not to hold.

    Raises:
        Retry: the engine or the database is away for too long, or another run is in hand.
        Reject: the engine or the database refuses to be asked, or has nothing of that kind.
    """
    asked = source.chosen(entities)
    options = Options(
        entities=asked,
        since=since,
        is_full=since is None and set(asked) == set(source.engine.entities),
        fix=fix,
        allow_gone=allow_gone,
    )
    async with open_run(database, source.integration_id, "reconcile", options, waits=waits) as run:
        passes = Passes(run, source, fix=fix, since=since, progress=progress or Unwatched())
        refusals = [await _bury_gone(run, passes, await passes.read(entity)) for entity in asked]
        summaries = [await passes.compare_totals(entity) for entity in asked]
        if any(summary.never_sent or not summary.agrees for summary in summaries):
            await asyncio.sleep(grace)
            summaries = [await passes.compare_totals(entity) for entity in asked]
        found = {s.entity: await run.found(s.entity) for s in summaries if s.missing or s.stale or s.gone}
        differing = {s.entity: await run.differing(s.entity) for s in summaries if s.differing}
        refused = "; ".join(filter(None, refusals)) or None
        return Reconciled(await run.finish(refused), summaries, found, differing)


async def _bury_gone(run: Run, passes: Passes, summary: Summary) -> str | None:
    """Mark deleted what is here and no longer in the engine; return why not, if there is too much of it."""
    if summary.is_forgotten or summary.read_from is None:
        return None
    live = gone = 0
    after: str | None = ""
    while after is not None:
        page = await run.find_gone(summary.entity, after, only_count=True)
        live, gone, after = live + page.live, gone + page.count, page.last
    if gone == 0:
        return None
    refusal = await run.refuse_gone(summary.entity, gone, live)
    if refusal is not None:
        return refusal
    after = ""
    while after is not None:
        page = await run.find_gone(summary.entity, after)
        for begin in range(0, len(page.gone), SLICE_SIZE):
            await passes.bury(summary.entity, page.gone[begin : begin + SLICE_SIZE], summary.read_from)
        after = page.last
    return None


class Due(msgspec.Struct, frozen=True):
    """A reconcile that is to be done now."""

    slug: str
    is_full: bool
    since: datetime


class Reconciling:
    """The daemon's duty: heals on the schedule of `mirror.integrations`, the integrations whose engines it can ask.

    Of several daemons one does it: a run is in the hands of one process at a time.
    """

    def __init__(self, database: Database, clients: Mapping[str, Client]) -> None:
        self._database = database
        self._clients = clients

    async def run(self, stop: asyncio.Event) -> None:
        """Heal whatever is due, until `stop` is set; a run in hand is left then."""
        healing = asyncio.create_task(self._keep_healing())
        await stop.wait()
        healing.cancel()
        with suppress(asyncio.CancelledError):
            await healing

    async def _keep_healing(self) -> None:
        while self._clients:
            await self.heal_due()
            await asyncio.sleep(CHECK_SECONDS)

    async def heal_due(self) -> None:
        """Heal what is due, once; a failure is logged, and it is due again when its time comes."""
        try:
            due = msgspec.json.decode(await self._database.call("due_reconcile"), type=list[Due])
        except SyncError as error:
            log.warning("reconcile.not_asked", reason=error.reason, action="asked again in a minute")
            return
        except Exception:
            log.exception("reconcile.fault", action="asked again in a minute")
            return
        for each in due:
            if each.slug in self._clients:
                await self._heal(each)

    async def _heal(self, due: Due) -> None:
        try:
            source = await find_source(self._database, due.slug, self._clients[due.slug])
            healed = await reconcile(self._database, source, fix=True, since=None if due.is_full else due.since)
        except Busy:
            log.info("reconcile.left", integration=due.slug, why="another process has a run in hand")
        except SyncError as error:
            action = "due again at its time" if isinstance(error, Retry) else "see the reason"
            log.warning("reconcile.failed", integration=due.slug, reason=error.reason, action=action)
        except Exception:
            log.exception("reconcile.fault", integration=due.slug, action="due again at its time")
        else:
            _tell(due, healed)


def _tell(due: Due, healed: Reconciled) -> None:
    drift = {
        f"{summary.entity}_{name}": count
        for summary in healed.summaries
        for name in ("missing", "stale", "gone", "never_sent", "differing")
        if (count := getattr(summary, name))
    }
    tell = log.info if healed.ending.state == "complete" else log.error
    tell("reconcile.done", integration=due.slug, state=healed.ending.state, reason=healed.ending.reason, **drift)
