"""What was ordered, paid, refunded and invoiced of an order, and whether that agrees: `mirror.tell_money`, printed."""

from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sync.database import Database


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A payment, a refund or an invoice; amounts are exact decimals as text."""

    id: str
    currency: str
    status: str
    at: datetime | None = None
    amount: str | None = None
    total: str | None = None
    """An invoice's amount."""
    method: str | None = None
    number: str | None = None
    reason: str | None = None
    failure_reason: str | None = None
    told_by: list[str] = []
    disagreement: str | None = None


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """The money of an order in one store. What only another currency holds is in the entries, not in the sums."""

    store: str
    order_code: str
    order_state: str
    currency: str
    ordered: str
    paid: str
    refunded: str
    invoiced: str | None
    """None: there is no finished invoice."""
    payments: list[Entry]
    refunds: list[Entry]
    invoices: list[Entry]
    disagreements: list[str]


async def read_money(database: Database, code: str, store: str | None) -> str:
    """Return the JSON of a list of Money, one for each store that has an order of this code."""
    which = {"p_store": store} if store else {}
    answer: str = await database.call("tell_money", p_order_code=code, **which)
    return answer


def parse(answer: str) -> list[Money]:
    """Return what `read_money` has read."""
    return msgspec.json.decode(answer, type=list[Money])


def print_money(console: Console, money: Money) -> None:
    """Print the sums, each entry, and in what it does not agree; times are UTC."""
    console.print(f"Order {money.order_code} ({money.store}), {money.order_state}", markup=False, highlight=False)
    sums = Table(box=None, show_header=False, pad_edge=False)
    for name in ("ordered", "paid", "refunded", "invoiced"):
        amount = getattr(money, name)
        sums.add_row(
            f"  {name}", Text(f"{amount} {money.currency}" if amount is not None else "nothing", justify="right")
        )
    console.print(sums)
    entries = Table(box=None, pad_edge=False)
    for column in ("at (UTC)", "", "amount", "status", "told by", "id"):
        entries.add_column(column, justify="right" if column == "amount" else "left")
    for kind, parts in (("payment", money.payments), ("refund", money.refunds), ("invoice", money.invoices)):
        for part in parts:
            entries.add_row(*_cells(kind, part))
    if entries.row_count:
        console.print(entries)
    for sentence in money.disagreements:
        console.print(Text(f"does not agree: {sentence}", style="red"), soft_wrap=True)
    if not money.disagreements:
        console.print("It agrees.")


def _cells(kind: str, entry: Entry) -> list[Any]:
    at = f"{entry.at:%Y-%m-%d %H:%M}" if entry.at else ""
    why = f" ({entry.failure_reason})" if entry.failure_reason else ""
    amount = f"{entry.amount or entry.total} {entry.currency}"
    what = " ".join(filter(None, (kind, entry.method)))
    return [
        Text(cell)
        for cell in (at, what, amount, entry.status + why, ", ".join(entry.told_by), entry.number or entry.id)
    ]
