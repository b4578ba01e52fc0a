"""The story of an order, in the order of time. `mirror.why_order` tells it; here it is printed."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sync.database import Database


async def tell(database: Database, code: str, store: str | None) -> list[dict[str, Any]]:
    """Return the moments of the story: `at`, `kind`, `who`, `what`, `outcome`; none if the order is not known."""
    which = {"p_store": store} if store else {}
    return [dict(row) for row in await database.rows("why_order", p_order_code=code, **which)]


def print_story(console: Console, moments: list[dict[str, Any]]) -> None:
    """Print each moment, and below it what came of it; times are UTC."""
    table = Table(box=None, pad_edge=False)
    table.add_column("at (UTC)", no_wrap=True)
    table.add_column("kind")
    table.add_column("who")
    table.add_column("what, and what came of it", ratio=1)
    for moment in moments:
        at = f"{moment['at']:%Y-%m-%d %H:%M:%S}"
        table.add_row(at, moment["kind"], moment["who"], Text(f"{moment['what']}\n→ {moment['outcome']}"))
    console.print(table)
