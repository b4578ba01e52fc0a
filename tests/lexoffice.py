"""A Lexware Office that keeps its vouchers, in the shapes that its documentation shows, and the invoices for it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
import uvicorn

from sync.columns import record_columns
from sync.database import Database
from sync.lexoffice.api import Lexoffice
from sync.lexoffice.push import Push
from sync.records import Invoice, TaxShare

STRIPE = """
    insert into mirror.integrations (store_id, slug, engine, secrets_variable)
    select id, 'stripe', 'stripe', 'STRIPE_HOOK_SECRETS' from public.stores where slug = 'default'
    on conflict do nothing
"""
LEASE_LAPSES = """
    select set_config('mirror.actor', 'engine:test', true);
    update public.lexoffice_sync_logs set available_at = now() where status = 'pending';
"""
MINUTES_PASS = LEASE_LAPSES + "update public.lexoffice_sync_logs set requested_at = requested_at - interval '2 minutes'"
FORGET = """
    select set_config('mirror.actor', 'engine:test', true);
    delete from public.lexoffice_sync_logs;
"""
Request = httpx.Request
Answer = Callable[[Request], httpx.Response | Awaitable[httpx.Response]]


class FakeLexoffice:
    """An account. It takes the same number as often as it is sent, as the real one does."""

    def __init__(self) -> None:
        self.vouchers: list[dict[str, Any]] = []
        self.arrivals: list[float] = []
        self.requests: list[Request] = []
        self.next: deque[Answer] = deque()
        """How the next requests are answered, instead of rightly."""

    def client(self) -> Lexoffice:
        """Return a client of this account."""
        transport = httpx.MockTransport(self.handle)
        return Lexoffice(httpx.AsyncClient(base_url="https://api.lexware.io", transport=transport))

    async def handle(self, request: Request) -> httpx.Response:
        await asyncio.sleep(0)
        self.arrivals.append(time.monotonic())
        self.requests.append(request)
        answer = self.next.popleft()(request) if self.next else self.answer(request)
        return answer if isinstance(answer, httpx.Response) else await answer

    def answer(self, request: Request) -> httpx.Response:
        """Do what is asked."""
        if request.method == "GET":
            return self._find(request.url.params["voucherNumber"])
        return self._create(msgspec.json.decode(request.content))

    def numbers(self) -> list[str]:
        return sorted(voucher["voucherNumber"] for voucher in self.vouchers)

    def _find(self, number: str) -> httpx.Response:
        found = [voucher for voucher in self.vouchers if voucher["voucherNumber"] == number]
        page = {"totalPages": 1, "totalElements": len(found), "last": True, "numberOfElements": len(found)}
        return httpx.Response(200, json={"content": found, **page, "first": True, "size": 250, "number": 0})

    def _create(self, voucher: dict[str, Any]) -> httpx.Response:
        items = voucher["voucherItems"]
        if round(sum(item["amount"] for item in items) - voucher["totalGrossAmount"], 2):
            return refusal("totalGrossAmount", "invalid_total_amount")
        made = {"id": str(uuid4()), "createdDate": "2026-11-20T11:00:00.000+01:00", "version": 1}
        self.vouchers.append({**voucher, **made, "voucherStatus": "open", "files": []})
        where = f"https://api.lexware.io/v1/vouchers/{made['id']}"
        return httpx.Response(201, json={**made, "resourceUri": where, "updatedDate": made["createdDate"]})


def refusal(source: str, key: str) -> httpx.Response:
    """Return what is said of a voucher that is not right."""
    issue = {"i18nKey": key, "source": source, "type": "validation_failure", "additionalData": None, "args": None}
    return httpx.Response(406, json={"IssueList": [issue]})


def fails(status: int, **answer: Any) -> Answer:
    """Answer with a status, and do nothing."""
    return lambda _: httpx.Response(status, **{"json": {"message": "…"}, **answer})


def breaks(error: type[httpx.HTTPError]) -> Answer:
    """Break the line off before anything is done."""

    def answer(request: Request) -> httpx.Response:
        raise error("broken")

    return answer


@asynccontextmanager
async def serving_lexoffice(fake: FakeLexoffice) -> AsyncIterator[str]:
    """Serve an account over HTTP, for daemons in processes of their own; give its address."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        url = f"http://lexoffice{scope['path']}?{scope['query_string'].decode()}"
        answer = await fake.handle(httpx.Request(scope["method"], url, content=body, headers=scope["headers"]))
        await send({"type": "http.response.start", "status": answer.status_code, "headers": []})
        await send({"type": "http.response.body", "body": answer.content})

    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


class Books:
    """A mirror's invoices, and their way into the books."""

    def __init__(self, database: Database, connection: asyncpg.Connection, fake: FakeLexoffice) -> None:
        self.database = database
        self.connection = connection
        self.fake = fake

    @classmethod
    async def open(cls, database: Database, connection: asyncpg.Connection) -> Books:
        """Open the books, of all times, of a shop in Berlin; nobody waits between requests."""
        await connection.execute(STRIPE)
        await connection.execute("update public.stores set timezone = 'Europe/Berlin'")
        await connection.execute("update mirror.lexoffice_settings set books_since = '2020-01-01'")
        await connection.execute("update mirror.lexoffice_pace set spacing = '0'")
        return cls(database, connection, FakeLexoffice())

    async def issue(self, *invoices: Invoice) -> None:
        """Have Stripe tell of invoices."""
        integration = await self.connection.fetchval("select id from mirror.integrations where slug = 'stripe'")
        records = msgspec.json.encode(record_columns(invoices)).decode()
        await self.database.call("upsert_money", p_integration_id=integration, p_records=records)

    def push(self) -> Push:
        return Push(self.database, self.fake.client())

    async def log(self, source_id: str = "in_1") -> dict[str, Any]:
        """Return what became of an invoice."""
        row = await self.connection.fetchrow(
            "select l.* from public.lexoffice_sync_logs l join public.invoices i on i.id = l.invoice_id "
            "where i.source_id = $1",
            source_id,
        )
        return dict(row) if row else {}

    async def log_id(self, source_id: str = "in_1") -> UUID:
        return UUID(str((await self.log(source_id))["id"]))

    async def lease_lapses(self) -> None:
        """Let whoever has invoices in hand hold them no longer."""
        async with self.connection.transaction():
            await self.connection.execute(LEASE_LAPSES)

    async def forget(self) -> None:
        """Have a database from before anything was booked."""
        async with self.connection.transaction():
            await self.connection.execute(FORGET)
        await self.connection.execute("update mirror.lexoffice_settings set updated_at = now()")

    async def time_passes(self) -> None:
        """Let leases lapse, and what was asked for come to an end."""
        async with self.connection.transaction():
            await self.connection.execute(MINUTES_PASS)


def share(rate: str | None, taxable: str | None, tax: str) -> TaxShare:
    return TaxShare(name="MwSt.", rate=rate, taxable_amount=taxable, tax=tax)


def invoice(source_id: str = "in_1", *, version: int = 0, **fields: Any) -> Invoice:
    """Return a paid invoice of 119.00 EUR with 19.00 of VAT, issued half an hour before midnight in Berlin."""
    issued = datetime(2026, 11, 19, 22, 30, tzinfo=UTC)
    standard: dict[str, Any] = {
        "source_version": issued + timedelta(seconds=version),
        "stripe_customer_id": "cus_1", "customer_source_id": None, "order_code": None, "order_source_id": None,
        "payment_source_id": None, "subscription_source_id": None, "number": f"RE-{source_id}", "status": "paid",
        "customer_name": "Erika Mustermann", "customer_email": "erika@example.com", "currency": "EUR",
        "sub_total": Decimal("119.00"), "tax": Decimal("19.00"), "total": Decimal("119.00"),
        "amount_paid": Decimal("119.00"), "amount_due": Decimal(0), "tax_breakdown": [share("19", "100.00", "19.00")],
        "issued_at": issued, "due_at": None, "paid_at": issued, "voided_at": None, "pdf_url": None, "hosted_url": None,
    }  # fmt: skip
    return Invoice(source_id=source_id, **{**standard, **fields})
