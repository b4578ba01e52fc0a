"""Outbox → engines: tells what is due and returns counts; it does not wait for more.

A slice of commands is claimed. Then the engine is asked for their orders and what it says is applied, so that its own
changes are seen before ours overwrite them; what still stands is handed out, and sent, a few at a time. Then the
engine is asked again, and what it says is applied together with the settling, in one transaction. If we die anywhere,
the lease lapses and all of it is done again: the first asking shows what the engine has taken, and that is not sent
twice.

Nothing is sent when much of the lease is over: another sender could take over, send something newer, and be
overwritten. Between the asking and the sending the engine may change an order without our seeing it: it cannot be told
to set a value only if it still has the one that was read. The last write wins there, whatever the policy.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
import structlog

from sync import outbox
from sync.database import Database
from sync.engines.base import Client, Context, Engine
from sync.engines.registry import ENGINES
from sync.errors import Await, Reject, Retry, Skip, SyncError
from sync.outbox import Claimed, Command, Counts, Settlement
from sync.records import Record
from sync.slices import newest_records

log = structlog.get_logger()

LEASE = timedelta(minutes=5)
"""Longer than a client keeps trying to reach its engine, twice over, and then some."""

SENDING_SHARE = 0.6
"""Part of the lease after which nothing more is sent."""

SENDERS = 4
"""Commands that are on their way to one engine at a time."""


class _Shop(msgspec.Struct, frozen=True):
    """An engine that can be told, and what reading its documents needs."""

    integration_id: UUID
    engine: Engine
    context: Context
    client: Client


class _Claim(msgspec.Struct, frozen=True):
    """The right to settle a slice, and how long it may be used for sending."""

    token: UUID
    ends_at: float
    """By the clock of the event loop: nothing is sent after it."""
    stop: asyncio.Event
    """Nothing more is sent once it is set."""


class _Read(msgspec.Struct, frozen=True):
    """What an engine says of some orders."""

    records: list[Record]
    faults: dict[str, SyncError]
    """By order, why what was said of it is no record."""


class Deliver:
    """Sends due commands. Create one for each worker; several may run at once, anywhere."""

    def __init__(
        self,
        database: Database,
        clients: Mapping[str, Client],
        *,
        slice_size: int = 100,
        lease: timedelta = LEASE,
    ) -> None:
        self._database = database
        self._clients = clients
        """By integration. Commands of the others wait."""
        self._slice_size = slice_size
        self._lease = lease

    async def run(self, stop: asyncio.Event | None = None) -> Counts:
        """Send slices until nothing is due, or, after what is on its way, until `stop` is set."""
        counts = Counts()
        stop = stop or asyncio.Event()
        for shop in await self._shops():
            while not stop.is_set() and await self._deliver_slice(shop, stop, counts):
                pass
        return counts

    async def _shops(self) -> list[_Shop]:
        return [
            _Shop(
                row["id"],
                ENGINES[row["engine"]],
                Context.of(row),
                self._clients[row["slug"]],
            )
            for row in await self._database.rows("list_integrations")
            if row["slug"] in self._clients and row["engine"] in ENGINES
        ]

    async def _deliver_slice(self, shop: _Shop, stop: asyncio.Event, counts: Counts) -> bool:
        """Claim and send a slice; return whether there may be more that can be sent now."""
        token, retried_before = uuid4(), counts.retried
        ends_at = asyncio.get_running_loop().time() + SENDING_SHARE * self._lease.total_seconds()
        commands = await outbox.claim(
            self._database, token, shop.integration_id, limit=self._slice_size, lease=self._lease
        )
        if commands:
            await _Slice(self._database, shop, _Claim(token, ends_at, stop), counts).deliver(commands)
        return len(commands) == self._slice_size and counts.retried - retried_before < len(commands)


class _Slice:
    """One claim on its way to one engine."""

    def __init__(self, database: Database, shop: _Shop, claim: _Claim, counts: Counts) -> None:
        self._database = database
        self._shop = shop
        self._claim = claim
        self._counts = counts
        self._later: Retry | None = None
        """What the engine said when it named a time to come again: nothing more is sent before that."""

    async def deliver(self, commands: Sequence[Claimed]) -> None:
        """Ask, hand out, send, ask again, settle."""
        try:
            read = await self._read(commands)
        except (Retry, Reject) as error:
            await self._put_back(commands, error)
            return
        await self._settle([_fault(c, read.faults[c.source_id]) for c in commands if c.source_id in read.faults])
        await self._tell([c for c in commands if c.source_id not in read.faults], read.records)

    async def _tell(self, commands: Sequence[Claimed], records: Sequence[Record]) -> None:
        """Hand out and send; where the database refuses what the engine says, halve, down to the one it refuses."""
        if not commands:
            return
        source_ids = {command.source_id for command in commands}
        said = self._json([record for record in records if record.source_id in source_ids])
        try:
            handed = await outbox.hand_out(
                self._database, self._claim.token, [command.id for command in commands], said
            )
        except (Retry, Reject) as error:
            if len(commands) == 1 or not isinstance(error, Reject | Await):
                await self._put_back(commands, error)
                return
            middle = len(commands) // 2
            await self._tell(commands[:middle], records)
            await self._tell(commands[middle:], records)
        else:
            self._counts.add(handed)
            if handed.handed_out:
                await self._settle_as_read(handed.handed_out, await self._send(handed.handed_out))

    async def _send(self, commands: Sequence[Command]) -> list[Settlement]:
        gate = asyncio.Semaphore(SENDERS)
        async with asyncio.TaskGroup() as sending:
            tasks = [sending.create_task(self._send_one(command, gate)) for command in commands]
        return [task.result() for task in tasks]

    async def _send_one(self, command: Command, gate: asyncio.Semaphore) -> Settlement:
        try:
            async with gate, asyncio.timeout_at(self._claim.ends_at):
                if self._claim.stop.is_set():
                    raise Retry("the daemon was told to stop", after=0)
                if self._later is not None:
                    raise self._later
                await self._shop.client.set_delivery(command.source_id, command.delivery)
        except Reject as reject:
            log.warning("deliver.refused", command=str(command.id), reason=reject.reason)
            return Settlement(command.id, "dead", reject.reason)
        except Retry as retry:
            if retry.after is not None:
                self._later = retry
            return _retry(command, retry)
        except TimeoutError:
            return _retry(command, Retry("the engine did not answer in time"))
        except Exception as error:
            log.exception("deliver.fault", command=str(command.id), action="tried again later")
            return _retry(command, Retry(f"a fault of the mirror: {type(error).__name__}; see its log"))
        return Settlement(command.id, "sent")

    async def _settle_as_read(self, commands: Sequence[Command], settlements: Sequence[Settlement]) -> None:
        """Settle by what the engine says now; if it says nothing, later, for then it is known who changed what."""
        try:
            read = await self._read(commands)
            unread = {command.id for command in commands if command.source_id in read.faults}
            await self._settle(_unread(settlements, unread), self._json(read.records))
        except (Retry, Reject) as error:
            log.warning("deliver.unread", commands=len(commands), reason=error.reason)
            await self._settle(_unread(settlements, {command.id for command in commands}))

    async def _read(self, commands: Sequence[Claimed | Command]) -> _Read:
        """Ask the engine for the commands' orders."""
        source_ids = [command.source_id for command in commands]
        records: list[Record] = []
        faults: dict[str, SyncError] = dict.fromkeys(source_ids, Retry("the engine said nothing of this order"))
        for event in await self._shop.client.fetch("order", source_ids):
            source_id = event.entity_id or ""
            try:
                records += self._shop.engine.map(event.event_type, bytes(event.payload), self._shop.context)
                faults.pop(source_id, None)
            except (Skip, Reject) as error:
                faults[source_id] = error
        return _Read(records, faults)

    async def _put_back(self, commands: Sequence[Claimed], error: Reject | Retry) -> None:
        """Give commands back for later. If that fails, too, their lease lapses: nothing is lost."""
        log.warning("deliver.retry", commands=len(commands), reason=error.reason)
        await self._settle([_retry(command, error) for command in commands])

    async def _settle(self, settlements: Sequence[Settlement], records: str = "[]") -> None:
        if not settlements:
            return
        self._counts.add(await outbox.settle(self._database, self._claim.token, settlements, records))

    def _json(self, records: Sequence[Record]) -> str:
        return newest_records((self._shop.integration_id, record) for record in records)


def _fault(command: Claimed, error: SyncError) -> Settlement:
    """Say what becomes of a command whose order could not be read."""
    if isinstance(error, Skip):
        return Settlement(command.id, "skipped", f"the engine's order is none for us: {error.reason}")
    return _retry(command, error)


def _unread(settlements: Sequence[Settlement], unread: set[UUID]) -> list[Settlement]:
    """Let what was sent wait to be read, if the engine could not be asked."""
    reason = "the engine took it, but could not be asked again"
    return [Settlement(s.id, "unread", reason) if s.outcome == "sent" and s.id in unread else s for s in settlements]


def _retry(command: Claimed | Command, error: SyncError) -> Settlement:
    return Settlement(command.id, "retry", error.reason, error.after if isinstance(error, Retry) else None)
