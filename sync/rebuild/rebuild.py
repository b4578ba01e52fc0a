"""`mirror rebuild`: is what the tables hold what the stored events say?

Makes the mirror a second time in a schema of its own, applies the stored inbox there from nothing, and compares. The
live tables are only read, in one snapshot; hooks may come and be applied meanwhile. It needs a connection to Postgres
that may make a schema (hosted Supabase's `postgres` may), because it makes tables.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import msgspec
from rich.console import Console

from sync.rebuild import schema as schemas
from sync.rebuild.comparison import Comparison, Difference, compare
from sync.rebuild.inbox import COUNT, Replay, Replayed
from sync.rebuild.schema import RebuildError

DIFFERENCES_SHOWN = 20


class Rebuilt(msgspec.Struct, frozen=True):
    """What came of a rebuild."""

    schema: str
    replayed: Replayed
    comparison: Comparison

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.comparison.differences


async def count_events(dsn: str) -> int:
    """Return how many events there are to apply."""
    async with _connected(dsn) as connection:
        return int(await connection.fetchval(COUNT))


async def rebuild(
    dsn: str,
    schema: str,
    *,
    replace: bool = False,
    drop: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Rebuilt:
    """Rebuild into the schema and compare; `drop` removes it afterwards, `replace` one of an earlier rebuild before.

    Raises:
        RebuildError: the schema cannot be made there.
    """
    async with _connected(dsn) as connection:
        await schemas.make(connection, schema, replace=replace)
        replay = Replay(connection, schema)
        try:
            await replay.run(progress)
            async with connection.transaction(isolation="repeatable_read"):
                await connection.execute("set local statement_timeout = 0")
                await replay.catch_up()
                comparison = await compare(connection, schema, replay.done.named)
        finally:
            if drop:
                await schemas.drop(connection, schema)
    return Rebuilt(schema, replay.done, comparison)


def print_rebuilt(console: Console, rebuilt: Rebuilt) -> None:
    """Print the counts, what differs, and what could not be in it."""
    comparison = rebuilt.comparison
    for difference in comparison.differences[:DIFFERENCES_SHOWN]:
        console.print(_line(difference), soft_wrap=True)
    if (more := len(comparison.differences) - DIFFERENCES_SHOWN) > 0:
        console.print(f"… and {more:,} more: --json names them all")
    for name, texts in (("unreadable", rebuilt.replayed.unreadable), ("refused", rebuilt.replayed.refused)):
        for text in sorted(set(texts))[:DIFFERENCES_SHOWN]:
            console.print(f"{name}: {text}", soft_wrap=True, markup=False, highlight=False)
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in comparison.elsewhere.items())
    console.print(
        f"{rebuilt.replayed.events:,} events applied. equal: {comparison.equal:,}, "
        f"differ: {len(comparison.differences):,}, not in the inbox: {sum(comparison.elsewhere.values()):,}"
        + (f" ({reasons})" if reasons else ""),
        soft_wrap=True,
    )
    if comparison.set_here:
        console.print(
            f"Of {comparison.set_here:,} orders the delivery was not compared: it was set here, not in the shop."
        )


def _line(difference: Difference) -> str:
    return f"[red]differs[/] {difference.entity} {difference.source_id}: {', '.join(difference.columns)}"


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        # No statement cache: a transaction pooler would mix up the connections' prepared statements.
        connection = await asyncpg.connect(
            dsn, statement_cache_size=0, server_settings={"application_name": "commerce-mirror rebuild"}
        )
    except asyncpg.PostgresError as error:
        raise RebuildError(f"The database cannot be reached: {error}. Check DATABASE_URL.") from error
    try:
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise RebuildError(
            f"A rebuild makes tables, and the role of DATABASE_URL may not: {error}. On Supabase, connect as postgres."
        ) from error
    finally:
        await connection.close()
