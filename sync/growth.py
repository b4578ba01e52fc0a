"""What Postgres knows of tables that grow: without it, plans of a first load read all of a store for each row.

Autovacuum gathers the same statistics, but looks only once a minute.
"""

import structlog

from sync.database import Database
from sync.errors import SyncError

log = structlog.get_logger()

FIRST_RECORDS = 500


class Growth:
    """Counts what a process writes, and lets the database look at its tables when that has doubled."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._written = 0
        self._next = FIRST_RECORDS

    async def note(self, records: int) -> None:
        """Learn that so many records were written. A refusal is no reason to stop: autovacuum comes in the end."""
        self._written += records
        if self._written < self._next:
            return
        self._next = 2 * self._written
        try:
            await self._database.call("analyze_grown")
        except SyncError as error:
            log.warning("growth.not_analyzed", reason=error.reason, action="autovacuum does so within a minute")
