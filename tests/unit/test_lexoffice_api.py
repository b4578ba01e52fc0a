"""Each of Lexware Office's documented answers says what it means: there, refused, busy, barred, or nobody knows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
import pytest
import respx

from sync.errors import Retry
from sync.lexoffice.api import Barred, Busy, Lexoffice, Refused, Unanswered, connect
from sync.settings import LexofficeAccess

URL = "https://api.lexware.io"
CREATED = {
    "id": "66196c43-baf3-4335-bfee-d610367059db",
    "resourceUri": "https://api.lexware.io/v1/vouchers/66196c43-baf3-4335-bfee-d610367059db",
    "createdDate": "2023-06-29T15:15:09.447+02:00",
    "updatedDate": "2023-06-29T15:15:09.447+02:00",
    "version": 1,
}


def voucher(voucher_type: str, number: str = "123-456", **fields: Any) -> dict[str, Any]:
    return {
        "id": "0a739052-ce80-4ae6-a276-34524eec43b1", "organizationId": "aa93e8a8-2aa3-470b-b914-caad8a255dd8",
        "type": voucher_type, "voucherNumber": number, "voucherDate": "2023-01-31T00:00:00.000+01:00",
        "dueDate": "2023-01-31T00:00:00.000+01:00", "totalGrossAmount": 500, "totalTaxAmount": 79.83,
        "taxType": "gross", "useCollectiveContact": True, "remark": "Test-2", "files": [], "version": 0, **fields,
    }  # fmt: skip


def page(*vouchers: dict[str, Any], last: bool = True) -> httpx.Response:
    counts = {"totalPages": 1, "totalElements": len(vouchers), "numberOfElements": len(vouchers)}
    return httpx.Response(200, json={"content": vouchers, "last": last, "first": True, "size": 250, **counts})


@pytest.fixture
async def lexoffice() -> Any:
    async with connect(LexofficeAccess("a-key", URL)) as opened:
        yield opened


@respx.mock
async def test_a_voucher_is_created_with_the_key_and_as_it_was_written(lexoffice: Lexoffice) -> None:
    route = respx.post(f"{URL}/v1/vouchers").respond(201, json=CREATED)
    created = await lexoffice.create('{"totalGrossAmount": 119.00}')
    assert (created.id, created.response) == (CREATED["id"], {"status": 201, "body": CREATED})
    (request,) = [call.request for call in route.calls]
    assert request.content == b'{"totalGrossAmount": 119.00}'
    assert request.headers["authorization"] == "Bearer a-key"
    assert request.headers["content-type"] == "application/json"


@respx.mock
async def test_sales_invoices_are_found_by_their_exact_number(lexoffice: Lexoffice) -> None:
    there = [voucher("purchaseinvoice"), voucher("salesinvoice"), voucher("salesinvoice", "123-4567")]
    route = respx.get(f"{URL}/v1/vouchers").mock(return_value=page(*there))
    (found,) = await lexoffice.find("123-456")
    assert (found.total_gross_amount, found.total_tax_amount) == (Decimal(500), Decimal("79.83"))
    assert route.calls[0].request.url.params["voucherNumber"] == "123-456"


@respx.mock
async def test_amounts_may_be_strings(lexoffice: Lexoffice) -> None:
    respx.get(f"{URL}/v1/vouchers").mock(return_value=page(voucher("salesinvoice", totalGrossAmount="1337.00")))
    (found,) = await lexoffice.find("123-456")
    assert found.total_gross_amount == Decimal("1337.00")


@respx.mock
async def test_a_list_that_does_not_heed_the_number_says_nothing(lexoffice: Lexoffice) -> None:
    respx.get(f"{URL}/v1/vouchers").mock(return_value=page(voucher("salesinvoice", "other"), last=False))
    with pytest.raises(Retry, match="other numbers"):
        await lexoffice.find("123-456")


ISSUES = {
    "IssueList": [
        {
            "i18nKey": "invalid_total_amount", "source": "totalGrossAmount", "type": "validation_failure",
            "additionalData": None, "args": ["Erika"],
        }
    ]
}  # fmt: skip
REGULAR = {
    "timestamp": "2026-11-20T10:00:00.000+01:00", "status": 406, "error": "Not Acceptable", "path": "/v1/vouchers",
    "traceId": "90d78d0777be", "message": "Validation failed for Erika",
    "details": [{"violation": "NOTNULL", "field": "voucherItems[0].categoryId", "message": "darf nicht leer sein"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (406, ISSUES, "Lexware Office answered 406: totalGrossAmount: invalid_total_amount"),
        (406, REGULAR, "Lexware Office answered 406: voucherItems[0].categoryId: NOTNULL"),
        (400, {"message": "Malformed JSON"}, "Lexware Office answered 400: Malformed JSON"),
        (415, None, "Lexware Office answered 415: it does not say why"),
    ],
)
@respx.mock
async def test_a_refusal_names_the_fields(lexoffice: Lexoffice, status: int, body: Any, reason: str) -> None:
    respx.post(f"{URL}/v1/vouchers").respond(status, json=body)
    with pytest.raises(Refused) as refused:
        await lexoffice.create("{}")
    assert refused.value.reason == reason
    assert refused.value.response["status"] == status


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(401, json={"message": "Unauthorized"}), Barred),
        (httpx.Response(402, json={"message": "Payment required"}), Barred),
        (httpx.Response(403, json={"message": "Forbidden"}), Barred),
        (httpx.Response(429, json={"message": "Rate limit exceeded"}), Busy),
        (httpx.Response(500, json={"message": "Internal server error or rate limit exceeded"}), Unanswered),
        (httpx.Response(503), Unanswered),
        (httpx.Response(504, json={"message": "Endpoint request timed out"}), Unanswered),
        (httpx.Response(201, text="<html>"), Unanswered),
        (httpx.Response(200, json={}), Unanswered),
        (httpx.ConnectError("no route"), Retry),
        (httpx.ReadTimeout("late"), Unanswered),
        (httpx.RemoteProtocolError("cut"), Unanswered),
        (httpx.Response(404), Retry),
    ],
)
@respx.mock
async def test_what_goes_wrong_says_whether_the_voucher_may_be_there(
    lexoffice: Lexoffice, answer: Any, error: type[Retry]
) -> None:
    respx.post(f"{URL}/v1/vouchers").mock(side_effect=[answer])
    with pytest.raises(Retry) as raised:
        await lexoffice.create("{}")
    assert type(raised.value) is error


@pytest.mark.parametrize(("header", "seconds"), [({}, None), ({"retry-after": "7"}, 7.0), ({"retry-after": "?"}, None)])
@respx.mock
async def test_a_wait_that_is_asked_for_is_heeded(
    lexoffice: Lexoffice, header: dict[str, str], seconds: float | None
) -> None:
    respx.post(f"{URL}/v1/vouchers").respond(429, headers=header)
    with pytest.raises(Busy) as busy:
        await lexoffice.create("{}")
    assert busy.value.after == seconds


def test_the_key_is_not_shown() -> None:
    assert "a-key" not in repr(LexofficeAccess("a-key", URL))
