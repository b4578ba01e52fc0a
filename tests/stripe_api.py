"""Stripe's API in memory, behind respx: lists, newest first, and single objects (https://docs.stripe.com/api)."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import respx

from sync.settings import Credentials
from tests.account import AT, document

URL = "https://api.stripe.com"
KEY = "sk_test_OfTheAccountInTests"
CREDENTIALS = Credentials(api_url=URL, api_key=KEY)

KINDS = {
    "payment_intents": "payment_intent",
    "charges": "charge",
    "refunds": "refund",
    "prices": "price",
    "subscriptions": "subscription",
    "invoices": "invoice",
}
EXPANDED = {"payment_intents": {"latest_charge": "charges"}, "prices": {"product": "products"}, "invoices": {}}

Document = dict[str, Any]
Fault = Callable[[httpx.Request], httpx.Response | Exception | None]


def error(status: int, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    """Return an error as Stripe puts it."""
    said = {"type": "invalid_request_error", "message": "No.", **fields}
    return httpx.Response(status, json={"error": said}, headers=headers)


class FakeStripe:
    """An account with its objects, and a clock of its own."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Document]] = {kind: {} for kind in (*KINDS, "products")}
        self.now = datetime.fromtimestamp(AT, UTC) + timedelta(hours=1)
        self.requests: list[httpx.Request] = []
        self.faults: list[Fault] = []
        """What goes wrong with the next requests, one after the other; None: nothing with that one."""
        self.hidden: set[str] = set()
        """What is left out of the lists once, as a fault of theirs."""
        self.invoice_payments: dict[str, str] = {}

    def put(self, kind: str, described: Document) -> Document:
        """Save an object; return it."""
        self.objects[kind][described["id"]] = copy.deepcopy(described)
        return described

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.now += timedelta(seconds=1)
        fault = self.faults.pop(0)(request) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        response = fault or self._answer(request)
        response.headers["date"] = format_datetime(self.now, usegmt=True)
        return response

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return error(401, message=f"Invalid API Key provided: {request.headers.get('authorization')}")
        _, _, kind, *rest = request.url.path.split("/")
        if rest:
            found = self.objects[kind].get(rest[0])
            if found is None:
                return error(404, code="resource_missing", message=f"No such object: {rest[0]}")
            return httpx.Response(200, json=self._expanded(kind, found, request.url.params.get_list("expand[0]")))
        return self._list(kind, request.url.params)

    def _list(self, kind: str, params: httpx.QueryParams) -> httpx.Response:
        newest_first = sorted(self.objects[kind].values(), key=lambda each: (each["created"], each["id"]), reverse=True)
        listed = [each for each in newest_first if self._is_asked_for(each, params)]
        limit = int(params.get("limit", 10))
        for name in ("starting_after", "ending_before"):
            if name in params and params[name] not in self.objects[kind]:
                return error(404, code="resource_missing", param=name, message=f"No such object: {params[name]}")
        if "starting_after" in params:
            listed = listed[[each["id"] for each in newest_first].index(params["starting_after"]) + 1 :]
        page, more = listed[:limit], len(listed) > limit
        if "ending_before" in params:
            ids = [each["id"] for each in listed]
            listed = listed[: ids.index(params["ending_before"])] if params["ending_before"] in ids else listed
            page, more = listed[-limit:], len(listed) > limit
        page = [each for each in page if each["id"] not in self.hidden]
        expand = [value.removeprefix("data.") for name, value in params.multi_items() if name.startswith("expand[")]
        data = [self._expanded(kind, each, expand) for each in page]
        return httpx.Response(200, json={"object": "list", "data": data, "has_more": more, "url": f"/v1/{kind}"})

    @staticmethod
    def _is_asked_for(each: Document, params: httpx.QueryParams) -> bool:
        if each["object"] == "subscription" and each["status"] == "canceled" and params.get("status") != "all":
            return False
        if params.get("type") and each.get("type") != params["type"]:
            return False
        if params.get("product") and each.get("product") != params["product"]:
            return False
        begin, end = int(params.get("created[gte]", 0)), int(params.get("created[lte]", 2**40))
        return begin <= int(each["created"]) <= end

    def _expanded(self, kind: str, found: Document, names: list[str]) -> Document:
        made = copy.deepcopy(found)
        for name in names:
            if kind == "invoices" and name == "payments":
                paid = self.invoice_payments.get(found["id"])
                payment = {"invoice": found["id"], "payment": {"type": "payment_intent", "payment_intent": paid}}
                made[name] = {"object": "list", "data": [payment] if paid else [], "has_more": False}
            elif made.get(name):
                made[name] = self.objects[EXPANDED[kind][name]].get(made[name], made[name])
        return made


@contextmanager
def running(api: FakeStripe) -> Iterator[respx.MockRouter]:
    """Let requests to Stripe come here."""
    with respx.mock(assert_all_called=False) as router:
        router.route(host="127.0.0.1").pass_through()  # the mirror's own Data API
        router.route(url__regex=re.escape(URL)).mock(side_effect=api.answer)
        yield router


def fill(api: FakeStripe, *, payments: int = 3) -> None:
    """Put a small shop's objects into an account: payments 1…, a refund, a legacy charge, a plan and what follows."""
    for number in range(1, payments + 1):
        charge = f"ch_{number:04}"
        made = {"created": AT + number, "payment_intent": f"pi_{number:04}"}
        api.put("charges", document("charge.succeeded-of-an-intent", id=charge, **made))
        intent = {"id": f"pi_{number:04}", "created": AT + number, "latest_charge": charge}
        api.put("payment_intents", document("payment_intent.succeeded", **intent))
    api.put("charges", document("charge.succeeded", id="ch_old", created=AT - 1000))
    api.put("refunds", document("refund.created", id="re_1", payment_intent="pi_0001", status="succeeded"))
    api.put("products", document("product.created", id="prod_1", name="Club"))
    api.put("prices", document("price.created", id="price_1", product="prod_1"))
    api.put("prices", document("price.created-paid-once", id="price_once", product="prod_1"))
    api.put("subscriptions", document("customer.subscription.deleted", id="sub_1"))
    api.put("invoices", document("invoice.paid", id="in_1"))
    api.invoice_payments["in_1"] = "pi_0001"


def asked(api: FakeStripe) -> list[str]:
    """Return the paths that were asked for."""
    return [request.url.path.removeprefix("/v1/") for request in api.requests]


def parameters(request: httpx.Request) -> dict[str, str]:
    return json.loads(json.dumps(dict(request.url.params)))  # type: ignore[no-any-return]
