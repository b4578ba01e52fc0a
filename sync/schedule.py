"""The scheduled work: once a minute asks the database to do what is due.

What there is to do, and how often, are rows of `mirror.schedule`. `mirror.run_schedule` does each job once, however
many instances ask at once, and beside pg_cron. A job that fails is logged here, is recorded there, and holds up nothing
else.
"""

import asyncio
from contextlib import suppress

import structlog

from sync.database import Database
from sync.errors import SyncError

log = structlog.get_logger()

SECONDS = 60


async def keep_schedule(database: Database, stop: asyncio.Event) -> None:
    """Run what is due, now and every minute, until `stop` is set. A job that has more to do is due again at once."""
    while not stop.is_set():
        while not stop.is_set() and await run_due(database):
            pass
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), SECONDS)


async def run_due(database: Database) -> list[str]:
    """Run what is due once; return the names of the jobs that were done here, failed ones too."""
    try:
        rows = await database.rows("run_schedule")
    except SyncError as error:
        log.warning("schedule.not_run", reason=error.reason, action="asked for again in a minute")
        return []
    for row in rows:
        if row["error"] is None:
            log.info("schedule.done", job=row["job"])
        else:
            log.error("schedule.failed", job=row["job"], reason=row["error"], action="tried again when it is due next")
    return [row["job"] for row in rows]
