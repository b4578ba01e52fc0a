"""A storefront and a back office at the Data API: PostgREST itself, with the tokens that our own API gives."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from joserfc.jwk import ECKey

from sync.token_keys import make_token_key
from tests.e2e.postgrest_program import program
from tests.flow.serving import serving, until
from tests.hooks import SECRET
from tests.postgres import TestServer
from tests.rest.postgrest import PostgREST

SEED = Path(__file__).parent.parent.parent / "supabase" / "seed.sql"
KEY = make_token_key()
CUSTOMER = """
    select c.phone_number, array_agg(o.order_code order by o.order_code) as codes
    from public.customers c join public.customer_orders_summary o on o.customer_id = c.id
    where not c.phone_verified group by c.id order by count(*) desc limit 1
"""

ORDERS = "customer_orders_summary?select=order_code,"
EMBEDDED = (
    "customer_orders_summary?select=*,customer_order_items(*)",
    f"{ORDERS}customers(first_name),order_delivery_status(*),order_delivery_status_events(*)",
    f"{ORDERS}customer_payments(*,customer_refunds(*)),customer_refunds(*),customer_invoices(*)",
    f"{ORDERS}payments(amount,status,refunds(amount)),refunds(amount),invoices(number,total)",
    "customer_order_items?select=sku,customer_orders_summary(order_code)",
    "order_delivery_status?select=order_code,customer_orders_summary(order_state,customer_order_items(sku))",
    "order_tracking?select=*,customer_order_items(product_name)",
    "customers?select=*,customer_addresses(*),customer_orders_summary(order_code,customer_order_items(*))",
    "customers?select=id,customer_payments(*),customer_invoices(*),customer_subscriptions(*)",
    "customers?select=id,payments(amount),subscriptions(status,subscription_plans(name)),invoices(number)",
    "customer_subscriptions?select=*,subscription_plans(name),customer_invoices(number)",
)
FOR_SERVICE = (
    *EMBEDDED,
    f"{ORDERS}import_batches(batch_number),stores(name),fulfillments(*),order_events(*),payments(*)",
    "import_batches?select=*,order_batch_assignments(*,customer_orders_summary(order_code)),supplier_purchase_lists(*)",
    "stores?select=slug,customers(count),customer_orders_summary(count)",
    "lexoffice_sync_logs?select=*,invoices(number)",
    "orders_needing_attention?select=*",
)
INTERNALS = (
    "payments?select=*", "payments?select=stripe_charge_id", "refunds?select=stripe_refund_id",
    "invoices?select=source_id", "subscriptions?select=stripe_subscription_id", "stores", "import_batches",
    "lexoffice_sync_logs", "otp_sessions", "order_events", f"{ORDERS}payments(disagreement)",
    f"{ORDERS}import_batches(batch_number)",
)  # fmt: skip


class DataAPI:
    """Requests of one after the other, each on a connection of its own."""

    def __init__(self, postgrest: PostgREST, phone: str, codes: list[str]) -> None:
        self.tokens: dict[str, str | None] = {"service": postgrest.tokens["service_role"], "anon": None}
        self.phone, self.codes = phone, codes
        self._address = postgrest.address

    async def ask(self, who: str, path: str, method: str = "GET", body: Any = None, **headers: str) -> httpx.Response:
        """Return the answer to somebody, whatever it is but a fault of ours."""
        token = self.tokens[who]
        sent = {"prefer": "return=representation", **headers} | ({"authorization": f"Bearer {token}"} if token else {})
        async with httpx.AsyncClient(base_url=self._address, timeout=30) as client:
            answer = await client.request(method, f"/{path}", json=body, headers=sent)
        assert answer.status_code < 500, (who, method, path, answer.text)
        return answer

    async def call(self, function: str, **arguments: Any) -> httpx.Response:
        return await self.ask("service", f"rpc/{function}", "POST", arguments)

    async def paths(self) -> list[str]:
        """Return what there is: tables, views and functions."""
        return [path.removeprefix("/") for path in (await self.ask("service", "")).json()["paths"] if path != "/"]


@pytest.fixture
async def data_api(
    server: TestServer,
    database: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> AsyncIterator[DataAPI]:
    """The example shop, and a customer of it who has just proved their phone number."""
    monkeypatch.setenv("VENDURE_HOOK_SECRETS", SECRET)
    monkeypatch.setenv("MIRROR_TOKEN_KEY", KEY)
    monkeypatch.setenv("MIRROR_BCRYPT_COST", "8")
    await asyncio.to_thread(server.let_authenticator_in)
    await connection.execute(SEED.read_text())
    ((phone, codes),) = await connection.fetch(CUSTOMER)
    public_key = {**ECKey.import_key(json.loads(KEY)).as_dict(private=False), "key_ops": ["verify"]}
    with PostgREST.running(str(program()), server.authenticator(urlsplit(database).path[1:]), public_key) as postgrest:
        found = DataAPI(postgrest, phone, codes)
        found.tokens["customer"] = await _proved(database, phone, capfd)
        yield found
        await postgrest.close()


async def _proved(database: str, phone: str, capfd: pytest.CaptureFixture[str]) -> str:
    """Prove a number at our API; return the token."""
    printed = ""

    async def has_come() -> bool:
        nonlocal printed
        printed += "".join(capfd.readouterr())
        return f"SMS to +{phone}:" in printed

    async with serving(database) as api:
        session = (await api.post("/otp/request", json={"phone": f"+{phone}"})).json()["session_id"]
        await until(has_come)
        code = re.findall(rf"SMS to \+{phone}:\n(\d{{6}}) ", printed)[0]
        token: str = (await api.post("/otp/verify", json={"session_id": session, "code": code})).json()["token"]
    return token


def said(found: Any, name: str) -> set[str]:
    """Return all values of this name in an answer, however deep."""
    if isinstance(found, list):
        return {value for each in found for value in said(each, name)}
    if isinstance(found, dict):
        return said(list(found.values()), name) | ({found[name]} if name in found else set())
    return set()


async def test_a_customer_reads_what_is_theirs_and_nothing_else(data_api: DataAPI) -> None:
    for path in EMBEDDED:
        answer = await data_api.ask("customer", path)
        assert answer.status_code == 200, (path, answer.text)
        assert said(answer.json(), "order_code") <= set(data_api.codes)
    orders = await data_api.ask("customer", "customer_orders_summary?select=order_code", prefer="count=exact")
    assert said(orders.json(), "order_code") == set(data_api.codes)
    assert orders.headers["content-range"].endswith(f"/{len(data_api.codes)}")
    for path in INTERNALS:
        assert (await data_api.ask("customer", path)).status_code == 403, path


async def test_a_token_that_is_not_ours_opens_nothing(data_api: DataAPI) -> None:
    header, _, signature = str(data_api.tokens["customer"]).split(".")
    _, other, _ = str(data_api.tokens["service"]).split(".")
    data_api.tokens["forger"] = f"{header}.{other}.{signature}"
    assert (await data_api.ask("forger", "customers")).status_code == 401


async def test_nobody_but_the_service_changes_or_calls_anything(data_api: DataAPI) -> None:
    paths = await data_api.paths()
    assert {"customers", "order_tracking", "rpc/get_batch_statistics"} <= set(paths)
    for path in paths:
        for who, refused in (("anon", {401, 404}), ("customer", {403, 404})):
            if path.startswith("rpc/"):
                assert (await data_api.ask(who, path, "POST", {})).status_code in refused, path
                continue
            for method in ("PATCH", "DELETE"):
                answer = await data_api.ask(who, f"{path}?id=not.is.null", method, {"id": None})
                assert answer.status_code in refused, (path, answer.text)
        if not path.startswith("rpc/"):
            assert (await data_api.ask("anon", path)).status_code == 401


async def test_a_back_office_finds_what_belongs_together(data_api: DataAPI) -> None:
    for path in FOR_SERVICE:
        answer = await data_api.ask("service", path)
        assert answer.status_code == 200, (path, answer.text)


async def test_a_back_office_works_with_batches_and_deliveries(
    data_api: DataAPI, connection: asyncpg.Connection
) -> None:
    (batch,) = (await data_api.ask("service", "import_batches?order_count=gt.0&status=eq.collecting")).json()
    merging = {"prefer": "return=representation,resolution=merge-duplicates"}
    answer = await data_api.ask("service", "import_batches", "POST", batch | {"notes": "soon"}, **merging)
    assert answer.status_code == 200, answer.text
    assert {**answer.json()[0], "updated_at": None} == batch | {"notes": "soon", "updated_at": None}

    statistics = (await data_api.call("get_batch_statistics", batch_uuid=batch["id"])).json()
    assert statistics[0]["total_orders"] == batch["order_count"]
    assert (await data_api.call("get_delivery_statistics")).status_code == 200
    code = await connection.fetchval(
        "select order_code from public.order_delivery_status "
        "where stage = 'ORDER_CONFIRMED' and not is_cancelled limit 1"
    )
    moved = await data_api.call("update_order_delivery_status", order_code=code, stage="SOURCING")
    assert moved.json()["stage"] == "SOURCING"
    path = f"order_delivery_status?order_code=eq.{code}"
    assert (await data_api.ask("service", path, "PATCH", {"tracking_number": "T1"})).json()[0][
        "tracking_number"
    ] == "T1"
    back = await data_api.ask("service", path, "PATCH", {"stage": "ORDER_CONFIRMED"})
    assert (back.status_code, back.json()["message"][:5]) == (400, "Order")
    waiting = "select payload ->> 'tracking_number' from mirror.outbox where state = 'pending'"
    assert [row[0] for row in await connection.fetch(waiting)] == ["T1"]


async def test_what_is_not_there_is_not_found(data_api: DataAPI) -> None:
    nobody = "00000000-0000-7000-8000-000000000000"
    for function, arguments in (
        ("get_batch_statistics", {"batch_uuid": nobody}),
        ("export_supplier_purchase_list", {"batch_uuid": nobody}),
        ("update_customer_statistics", {"customer_id": nobody}),
        ("update_order_delivery_status", {"order_code": "NONE", "stage": "SOURCING"}),
    ):
        answer = await data_api.call(function, **arguments)
        assert (answer.status_code, answer.json()["message"].split()[0]) == (404, "There"), answer.text
    answer = await data_api.call("get_batch_statistics", batch_uuid="nope")
    assert answer.status_code == 400
