"""What a door to the database is, and what both have in common: the row, and what an error means.

A door knows one way to reach Postgres. It gives the same values as the other, in the same Python types, and fails with
the same errors; `sync/database.py` chooses between them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, overload

from sync.errors import Await, Reject, Retry, Unmigrated

TRANSIENT_CLASSES = ("08", "25", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that say nothing about the arguments: connection, transaction state, rollback,
resources, not in a state for it, operator intervention, system error, internal error (Postgres, appendix A)."""

ORDER_CODE_INDEX = "customer_orders_summary_order_code"
"""Two orders with one code are a matter of time: the one that had it gave it up, or is deleted, by a later event."""

UNIQUE_VIOLATION = "23505"

UNMIGRATED = ("3F000", "42P01", "42703", "42883")
"""A schema, table, column or function is not there."""

PASSING = (*TRANSIENT_CLASSES, *UNMIGRATED, ORDER_CODE_INDEX)
"""Classes of SQLSTATE, SQLSTATEs and constraints whose errors are no event's fault, and pass: what `translated` makes a
Retry of, and an Unmigrated."""

MIGRATE = "Is the database migrated? `mirror migrate` does it"

Heard = Callable[[str], object]
"""Takes what a notification says; first nothing, when from now on nothing is missed."""


class Row(Protocol):
    """A row of a function that returns a table: its values by name or by position."""

    @overload
    def __getitem__(self, key: str, /) -> Any: ...
    @overload
    def __getitem__(self, key: int, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...
    def keys(self) -> Iterable[str]:
        """Return the names, in the order of the values."""


class Door(Protocol):
    """A way to call a function of the schema `mirror`; a call is a transaction of its own.

    `value` and `rows` raise Retry, Await or Reject, as `translated` says.
    """

    async def value(self, function: str, arguments: dict[str, Any]) -> Any:
        """Return the value of a function."""

    async def rows(self, function: str, arguments: dict[str, Any]) -> list[Row]:
        """Return the rows of a function that returns a table."""

    async def hears(self) -> bool:
        """Tell whether notifications arrive; raise as `value` does."""

    async def listen(self, channel: str, heard: Heard) -> None:
        """Call `heard` at each notification on `channel` until cancelled; raise Retry if the connection ends."""

    async def close(self) -> None:
        """Give all connections back, after the calls in hand."""


def translated(state: str, message: str, *, constraint: str | None = None) -> Retry | Reject:
    """Say what to do about an error of Postgres. Detail lines stay out: they quote the data."""
    if state == UNIQUE_VIOLATION and constraint == ORDER_CODE_INDEX:
        return Await("another order has this code for now: its own change has not arrived yet")
    reason = f"{message} (SQLSTATE {state})"
    if state in UNMIGRATED:
        return Unmigrated(f"{reason}. {MIGRATE}")
    return Retry(reason) if state.startswith(TRANSIENT_CLASSES) else Reject(reason)
