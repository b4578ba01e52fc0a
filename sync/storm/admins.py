"""Admins who work in the mirror while the storm lasts: in Supabase Studio, they set stages and tracking numbers."""

import asyncio
import random
from collections import Counter

import asyncpg

from sync.records import DELIVERY_STAGES

APPLICATION = "supabase/dashboard-table-editor"
"""As Studio names itself."""

GONE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises when Postgres goes away."""

SOME_DELIVERY = """
    select s.id, s.stage::text, o.source_id
    from public.order_delivery_status as s
    inner join public.customer_orders_summary as o on o.id = s.order_summary_id
    where not s.is_cancelled and o.deleted_at is null
    offset floor($1::float8 * (select count(*) from public.order_delivery_status where not is_cancelled))
    limit 1
"""
SET_STAGE = "update public.order_delivery_status set stage = $2::text::public.delivery_stage where id = $1"
SET_NUMBER = "update public.order_delivery_status set tracking_number = $2 where id = $1"


class Admins:
    """Edits deliveries, so many a second, while `run` runs."""

    def __init__(self, dsn: str, rate: float, *, seed: object) -> None:
        self.thrown: Counter[str] = Counter()
        self.edited: set[str] = set()
        """Orders that they edited, by the shop's ids."""
        self._dsn = dsn
        self._rate = rate
        self._choice = random.Random(f"{seed} admins")  # noqa: S311 - no secret

    async def run(self) -> None:
        """Edit until cancelled; when the database goes away, come back later."""
        while True:
            try:
                await self._work()
            except GONE:
                await asyncio.sleep(0.5)

    async def _work(self) -> None:
        connection = await asyncpg.connect(self._dsn, server_settings={"application_name": APPLICATION})
        try:
            while True:
                await self._edit(connection)
                await asyncio.sleep(self._choice.expovariate(self._rate))
        finally:
            connection.terminate()

    async def _edit(self, connection: asyncpg.Connection) -> None:
        row = await connection.fetchrow(SOME_DELIVERY, self._choice.random())
        if row is None:
            return
        self.edited.add(row["source_id"])
        further = DELIVERY_STAGES[DELIVERY_STAGES.index(row["stage"]) + 1 :]
        try:
            if further and self._choice.random() < 0.6:
                await connection.execute(SET_STAGE, row["id"], further[0])
                self.thrown["admins: stages set"] += 1
            else:
                await connection.execute(SET_NUMBER, row["id"], f"ADM-{self._choice.randrange(10**6):06}")
                self.thrown["admins: tracking numbers set"] += 1
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.TransactionRollbackError):
            self.thrown["admins: edits refused"] += 1  # the engine was faster: it cancelled or deleted the order
