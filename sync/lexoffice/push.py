"""Finished invoices → Lexware Office: pushes what is due and returns counts; it does not wait for more.

Lexware Office knows no idempotency keys and takes the same number twice. So a voucher is looked for by its number
before it is created, always: it may be there from an attempt that died before its answer was on record, from a database
that was restored since, or by hand. That it is being created is on record before it is asked for; who finds that on
record, and not what became of it, waits until Lexware Office must have finished or given up, and then looks. A turn to
ask is given only to whoever still holds the lease, for a time that ends with it: of two senders only one can create.

If we die anywhere, the lease lapses, and the next sender looks first.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import msgspec
import structlog

from sync.database import Database
from sync.errors import Retry
from sync.lexoffice import pushes
from sync.lexoffice.api import Barred, Busy, Lexoffice, Refused, Unanswered, Voucher
from sync.lexoffice.pushes import Claimed, Counts, Settlement

log = structlog.get_logger()

LEASE = timedelta(minutes=5)
SLICE = 20
"""Invoices in hand at once. With two requests each, others' included, they fit well into a lease."""

UNCERTAIN_SECONDS = 150.0
"""Wait before looking for a voucher that may be being created: more than `mirror.claim_invoices` insists on."""

BARRED_SECONDS = 600.0
"""Wait before knocking again where we are not let in. It is not the invoices' fault: none is given up for it."""

LATE_SECONDS = 10.0
"""Whoever comes so much too late to its turn was asleep, and does not ask."""


class _Amounts(msgspec.Struct, frozen=True, rename="camel"):
    total_gross_amount: Decimal
    total_tax_amount: Decimal


class _NoTurn(Exception):  # noqa: N818 - it is no error
    """There is no turn to ask: the push is given back."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__()
        self.wait_seconds = wait_seconds


class _Enough(Exception):  # noqa: N818 - it is no error
    """Nothing more is to be asked of this claim."""

    def __init__(self, settlement: Settlement) -> None:
        super().__init__()
        self.settlement = settlement


class Push:
    """Pushes due invoices. Create one for each worker; several may run at once, anywhere."""

    def __init__(
        self, database: Database, lexoffice: Lexoffice, *, slice_size: int = SLICE, lease: timedelta = LEASE
    ) -> None:
        self._database = database
        self._lexoffice = lexoffice
        self._slice_size = slice_size
        self._lease = lease

    async def run(self, stop: asyncio.Event | None = None) -> Counts:
        """Push until nothing is due that can be pushed now, or, after the request in hand, until `stop` is set."""
        counts = Counts()
        stop = stop or asyncio.Event()
        while not stop.is_set() and await self._push_slice(stop, counts):
            pass
        return counts

    async def _push_slice(self, stop: asyncio.Event, counts: Counts) -> bool:
        """Claim and push a slice; return whether there may be more that can be pushed now."""
        token = uuid4()
        claim = await pushes.claim(self._database, token, limit=self._slice_size, lease=self._lease)
        counts.add(claim)
        waiting = list(claim.claimed)
        while waiting:
            try:
                settlement = await _Attempt(self._database, self._lexoffice, token, stop).push(waiting[0])
            except _Enough as enough:
                rest = [_returned(push, enough.settlement.retry_after) for push in waiting[1:]]
                counts.add(await pushes.settle(self._database, token, [enough.settlement, *rest]))
                return False
            counts.add(await pushes.settle(self._database, token, [settlement]))
            del waiting[0]
        return claim.due == self._slice_size


class _Attempt:
    """One push under a claim."""

    def __init__(self, database: Database, lexoffice: Lexoffice, token: UUID, stop: asyncio.Event) -> None:
        self._database = database
        self._lexoffice = lexoffice
        self._token = token
        self._stop = stop

    async def push(self, push: Claimed) -> Settlement:
        """Look for the voucher, create it if there is none; say what became of it.

        Raises:
            _Enough: likewise, and the others of the claim are not to be tried now.
        """
        try:
            await self._turn(push, creates=False)
            found = await self._lexoffice.find(push.number)
        except _NoTurn as no_turn:
            raise _Enough(_returned(push, no_turn.wait_seconds)) from None
        except Busy as busy:
            raise _Enough(_returned(push, await self._slow_down(busy), busy.reason)) from None
        except Barred as barred:
            raise _Enough(_returned(push, BARRED_SECONDS, barred.reason)) from None
        except Refused as refused:
            return Settlement(id=push.id, outcome="unknown", reason=refused.reason, response=refused.response)
        except Retry as retry:
            return Settlement(id=push.id, outcome="unknown", reason=retry.reason, retry_after=retry.after)
        if found:
            return _found(push, found)
        if push.payload is None:
            return Settlement(id=push.id, outcome="absent", retry_after=0)
        return await self._create(push, push.payload)

    async def _create(self, push: Claimed, payload: str) -> Settlement:
        try:
            await self._turn(push, creates=True)
            created = await self._lexoffice.create(payload)
        except _NoTurn as no_turn:
            raise _Enough(Settlement(id=push.id, outcome="absent", retry_after=no_turn.wait_seconds)) from None
        except Busy as busy:
            after = await self._slow_down(busy)
            raise _Enough(
                Settlement(id=push.id, outcome="absent", reason=busy.reason, retry_after=after)
            ) from None  # fmt: skip
        except Barred as barred:
            settlement = Settlement(id=push.id, outcome="absent", reason=barred.reason, retry_after=BARRED_SECONDS)
            raise _Enough(settlement) from None
        except Refused as refused:
            log.warning("lexoffice.refused", invoice=push.number, reason=refused.reason)
            return Settlement(id=push.id, outcome="refused", reason=refused.reason, response=refused.response)
        except Unanswered as unanswered:
            log.warning("lexoffice.unanswered", invoice=push.number, action="looked for before it is tried again")
            return Settlement(id=push.id, outcome="unknown", reason=unanswered.reason, retry_after=UNCERTAIN_SECONDS)
        except Retry as retry:
            return Settlement(id=push.id, outcome="retry", reason=retry.reason, retry_after=retry.after)
        return Settlement(id=push.id, outcome="sent", voucher_id=created.id, response=created.response)

    async def _turn(self, push: Claimed, *, creates: bool) -> None:
        """Wait for a turn to ask; raise _NoTurn if there is none, or we are told to stop meanwhile."""
        if self._stop.is_set():
            raise _NoTurn(0)
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        turn = await pushes.begin_request(self._database, self._token, push, creates=creates)
        if not turn.may_ask:
            raise _NoTurn(turn.wait_seconds)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), turn.wait_seconds)
        if self._stop.is_set() or loop.time() - asked_at > turn.wait_seconds + LATE_SECONDS:
            raise _NoTurn(0)

    async def _slow_down(self, busy: Busy) -> float:
        seconds = await pushes.slow_down(self._database, busy.after)
        log.warning("lexoffice.busy", seconds=round(seconds, 1), action="nobody asks meanwhile")
        return seconds


def _found(push: Claimed, found: list[Voucher]) -> Settlement:
    """Say what it means that vouchers with this number are there."""
    response = {"status": 200, "body": {"found": [voucher.id for voucher in found]}}
    if len(found) > 1:
        reason = f"Lexware Office has {len(found)} sales invoices with the number {push.number}: it is to have one"
        return Settlement(id=push.id, outcome="refused", reason=reason, response=response)
    if push.payload is not None:
        ours = msgspec.json.decode(push.payload, type=_Amounts)
        theirs = found[0]
        if (theirs.total_gross_amount, theirs.total_tax_amount) != (ours.total_gross_amount, ours.total_tax_amount):
            reason = (
                f"Lexware Office has a voucher with the number {push.number} of {theirs.total_gross_amount} with "
                f"{theirs.total_tax_amount} of tax, and the invoice is of {ours.total_gross_amount} with "
                f"{ours.total_tax_amount}"
            )
            return Settlement(id=push.id, outcome="refused", reason=reason, response=response)
    return Settlement(id=push.id, outcome="sent", voucher_id=found[0].id, response=response)


def _returned(push: Claimed, after: float | None, reason: str | None = None) -> Settlement:
    return Settlement(id=push.id, outcome="returned", reason=reason, retry_after=after or 0)
