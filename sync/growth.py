"""What Postgres knows of tables that grow: without it, plans of a first load read all of a store for each row.

Autovacuum gathers the same statistics, but looks only once a minute.
"""

import structlog

from sync.database import Database
from sync.errors import SyncError

log = structlog.get_logger()

RECORDS = 250
"""So many are written between two looks. A look costs a millisecond where no table has grown."""


class Growth:
    """Counts what a process writes, and lets the database look at its tables from time to time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._written = 0

    async def note(self, records: int) -> None:
        """Learn that so many records were written. A refusal is no reason to stop: autovacuum comes in the end."""
        self._written += records
        if self._written < RECORDS:
            return
        self._written = 0
        try:
            await self._database.call("analyze_grown")
        except SyncError as error:
            log.warning("growth.not_analyzed", reason=error.reason, action="autovacuum does so within a minute")
