"""The stored inbox, applied from nothing: each event that was applied, in order of arrival, by today's mapping."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from sync.engines.base import Context, Fetch
from sync.engines.registry import ENGINES
from sync.errors import SyncError
from sync.records import Entity, Record
from sync.slices import newest_records

PAGE = 500
INTEGRATIONS = """
    select i.id, i.engine::text, s.phone_region, i.money_precision, i.is_test
    from mirror.integrations as i join public.stores as s on s.id = i.store_id
"""
FIELDS = "id, integration_id, event_type, entity_id, payload::text as payload"
COUNT = "select count(*) from mirror.webhook_events where state = 'applied'"
PAGE_OF_EVENTS = f"""
    select {FIELDS} from mirror.webhook_events where state = 'applied' and id > $1 order by id limit {PAGE}
"""
SETTLED_SINCE = f"""
    select {FIELDS} from mirror.webhook_events
    where state = 'applied' and settled_at > $1::timestamptz - interval '10 minutes' order by id
"""
"""A transaction that was under way when the rebuild began may have settled with an earlier time: minutes at most."""

Said = list[tuple[UUID, Record]]
"""What an event says, each record with its integration."""


class Replayed(msgspec.Struct):
    """What a replay did."""

    events: int = 0
    unreadable: list[str] = []
    """Events that were applied once and that this version cannot map: the entity of each."""
    refused: list[str] = []
    """Events that the rules refuse, from nothing: why, each once."""
    named: set[tuple[Entity, str]] = set()
    """What events named, to be read at the engine."""


class Replay:
    """Applies stored events into a schema that `schema.make` made."""

    def __init__(self, connection: asyncpg.Connection, schema: str) -> None:
        self._connection = connection
        self._apply = f"select {schema}.apply_records($1::json)"
        self._schema = schema
        self._contexts: dict[UUID, tuple[str, Context]] = {}
        self._waiting: list[Said] = []
        self._since: datetime | None = None
        self.done = Replayed()

    async def run(self, progress: Callable[[int], None]) -> None:
        """Apply page after page, each in a transaction of its own, telling `progress` how many events a page had."""
        self._since = await self._connection.fetchval("select now()")
        for row in await self._connection.fetch(INTEGRATIONS):
            self._contexts[row["id"]] = (row["engine"], Context.of(row))
        last, pages = UUID(int=0), 0
        while page := await self._connection.fetch(PAGE_OF_EVENTS, last):
            await self._apply_page(page)
            last, pages = page[-1]["id"], pages + 1
            if pages in {
                1,
                10,
                100,
                1000,
            }:  # new tables have no statistics: without, plans would read them from end to end
                await self._analyze()
            progress(len(page))

    async def catch_up(self) -> None:
        """Apply what was settled since `run` began, in the caller's transaction: its snapshot is then complete."""
        self.done.events = await self._connection.fetchval(COUNT)
        late = await self._connection.fetch(SETTLED_SINCE, self._since)
        for start in range(0, len(late), PAGE):
            await self._apply_page(late[start : start + PAGE])
        before = None
        while self._waiting and len(self._waiting) != before:  # what had to wait for something that came later
            before, waiting, self._waiting = len(self._waiting), self._waiting, []
            self.done.refused.clear()
            for said in waiting:
                await self._apply_together([said])

    async def _apply_page(self, page: Sequence[asyncpg.Record]) -> None:
        await self._apply_together([said for row in page if (said := self._map(row))])

    def _map(self, row: asyncpg.Record) -> Said:
        engine, context = self._contexts[row["integration_id"]]
        try:
            records = ENGINES[engine].map(row["event_type"], row["payload"].encode(), context)
        except Fetch as wanted:  # what was asked of the engine then is not kept: what the event says must do
            self.done.named.add((wanted.entity, wanted.source_id))
            records = list(wanted.otherwise or ())
        except (SyncError, KeyError):
            self.done.unreadable.append(f"{row['event_type']} {row['entity_id']}")
            return []
        return [(row["integration_id"], record) for record in records]

    async def _apply_together(self, said: Sequence[Said]) -> None:
        """Apply what events say; where the rules refuse it, halve. What is refused alone waits for the end."""
        if not said:
            return
        try:
            async with self._connection.transaction():
                await self._connection.execute("set local statement_timeout = 0")
                await self._connection.fetchval(self._apply, newest_records(_flat(said)))
        except asyncpg.PostgresError as error:
            if len(said) == 1:
                self._waiting.append(said[0])
                self.done.refused.append(f"{error.args[0]} (SQLSTATE {error.sqlstate})")
                return
            middle = len(said) // 2
            await self._apply_together(said[:middle])
            await self._apply_together(said[middle:])

    async def _analyze(self) -> None:
        tables = await self._connection.fetch("select tablename from pg_tables where schemaname = $1", self._schema)
        for row in tables:
            await self._connection.execute(f"analyze {self._schema}.{row['tablename']}")


def _flat(said: Iterable[Said]) -> Iterable[tuple[UUID, Record]]:
    return (pair for pairs in said for pair in pairs)
