"""Invoices on their way to Lexware Office: claim, begin a request, settle.

The rules are in `sql/`: `queue_invoices`, `judge_invoice`, `claim_invoices`, `begin_request`, `settle_invoices`. What
may have been created is noted before Lexware Office is asked, and looked for before anybody asks again.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec

from sync.database import Database

Outcome = Literal["sent", "refused", "retry", "unknown", "absent", "returned"]
"""retry: it did nothing; unknown: it may have created the voucher; absent: it has none, and was not asked for one;
returned: nothing came of it, and the attempt does not count."""


class Claimed(msgspec.Struct, frozen=True):
    """An invoice that we hold for a time."""

    id: UUID
    number: str
    """The voucher's."""
    attempts: int
    payload: str | None
    """The voucher, as JSON; None: it is not to be created now, only looked for, since it may be there."""


class Turn(msgspec.Struct, frozen=True):
    """Leave to ask Lexware Office once."""

    may_ask: bool
    """False: the lease is over or will be soon, or all must wait for so long."""
    wait_seconds: float


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a push."""

    id: UUID
    outcome: Outcome
    reason: str | None = None
    voucher_id: str | None = None
    response: dict[str, Any] | None = None
    retry_after: float | None = None
    """Seconds; None: as `mirror.retry_schedule` has it for commands, which gives up some time."""


class Counts(msgspec.Struct):
    """What became of invoices."""

    sent: int = 0
    skipped: int = 0
    refused: int = 0
    retried: int = 0

    def add(self, other: "Counts") -> None:
        """Add another's counts to these."""
        for name in Counts.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Claim(Counts):
    """What is to be pushed, and how many of the invoices that were due ended without."""

    claimed: list[Claimed] = []
    due: int = 0


async def claim(database: Database, token: UUID, *, limit: int, lease: timedelta) -> Claim:
    """Lease up to `limit` due invoices to `token`, the longest-waiting first; refuse what cannot be booked."""
    answer = await database.call("claim_invoices", p_claim=token, p_limit=limit, p_lease=lease)
    return msgspec.json.decode(answer, type=Claim)


async def begin_request(database: Database, token: UUID, push: Claimed, *, creates: bool) -> Turn:
    """Ask for a turn at Lexware Office; if it is to create the voucher, that is on record from then on."""
    (row,) = await database.rows("begin_request", p_claim=token, p_log=push.id, p_creates=creates)
    return Turn(*row)


async def settle(database: Database, token: UUID, settlements: Sequence[Settlement]) -> Counts:
    """End the lease of those pushes that `token` still holds."""
    columns = {name: [getattr(each, name) for each in settlements] for name in Settlement.__struct_fields__}
    columns["response"] = [each and msgspec.json.encode(each).decode() for each in columns["response"]]
    answer = await database.call(
        "settle_invoices", p_claim=token, p_settlements=msgspec.json.encode(columns).decode()
    )  # fmt: skip
    return msgspec.json.decode(answer, type=Counts)


async def slow_down(database: Database, seconds: float | None) -> float:
    """Have nobody ask Lexware Office for so many seconds, or twice as long as last time; return how many."""
    return float(await database.call("slow_lexoffice", p_seconds=seconds))
