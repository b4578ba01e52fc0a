"""Vendure's signature and envelope, beyond what every engine promises (`test_engine_contract.py`)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sync.engines.base import BadSignature
from sync.engines.vendure import payloads, signature
from sync.errors import Reject
from tests.hooks import SECRET, body_of, change, signed

BODY = body_of(change("1"))


def refusal(headers: dict[str, str], body: bytes = BODY, *secrets: str) -> str:
    with pytest.raises(BadSignature) as caught:
        signature.verify(headers, body, secrets or (SECRET,))
    return caught.value.reason


def test_another_id_does_not_pass() -> None:
    assert "does not match" in refusal({**signed(BODY), "webhook-id": "msg_2"})


@pytest.mark.parametrize("name", signature.HEADERS)
def test_a_missing_header_is_named(name: str) -> None:
    headers = signed(BODY)
    del headers[name]
    assert refusal(headers) == f"The request is not signed: it lacks {name}."


@pytest.mark.parametrize("timestamp", ["yesterday", "nan", "1e400", "-"])
def test_a_timestamp_that_is_none_is_explained(timestamp: str) -> None:
    assert "Unix time" in refusal({**signed(BODY), "webhook-timestamp": timestamp})


@pytest.mark.parametrize("written", ["v1", "v1,a,b", "v1,*", "v1,é", "v2,AAAA", ",", "v1,"])
def test_a_signature_that_is_none_does_not_pass(written: str) -> None:
    assert "does not match" in refusal({**signed(BODY), "webhook-signature": written})


def test_events_are_read_in_order_and_kept_word_for_word() -> None:
    first = b'{"id": "a",  "type":"order.changed","entityId":"1","readAt":"2026-11-20T10:00:00Z","data":{"x":1.50}}'
    second = json.dumps(change("b", type="customer.deleted", data=None)).encode()
    events = payloads.read(b'{"type":"vendure.changes","events":[' + first + b"," + second + b"]}")
    assert [(e.event_id, e.event_type, e.entity_id) for e in events] == [
        ("a", "order.changed", "1"),
        ("b", "customer.deleted", "12"),
    ]
    assert [bytes(e.payload) for e in events] == [first, second]


MALFORMED: list[tuple[bytes, str]] = [
    (b"", "The body is not JSON in UTF-8: Input data was truncated."),
    (b"hello", "The body is not JSON in UTF-8: JSON is malformed"),
    (b'"\xff"', "The body is not JSON in UTF-8"),
    (b"[]", "The body: Expected `object`, got `array`"),
    (b'{"type":"other","events":[{}]}', "type: Invalid enum value 'other'"),
    (b'{"type":"vendure.changes"}', "The body: Object missing required field `events`"),
    (body_of(), "events: Expected `array` of length >= 1"),
    (body_of(*[change("1")] * 1001), "events: Expected `array` of length <= 1000"),
    (body_of(change("1"), 5), "events[1]: Expected `object`, got `int`"),
    (body_of({"id": "1"}), "events[0]: Object missing required field `type`"),
    (body_of(change("1", readAt="soon")), "events[0].readAt: Invalid RFC3339"),
    (body_of(change("1", readAt="2026-11-20T10:00:00")), "events[0].readAt: Expected `datetime` with a timezone"),
    (body_of(change("1", entityId=12)), "events[0].entityId: Expected `str`, got `int`"),
    (body_of(change("")), "events[0].id: Expected `str` of length >= 1"),
    (body_of(change("x" * 201)), "events[0].id: Expected `str` of length <= 200"),
    (body_of(change("a\0b")), "events[0].id: Expected printable characters only"),
    (body_of(change("a", type="a\nb")), "events[0].type: Expected printable characters only"),
    (body_of(change("a", entityId="\ud800")), "events[0].entityId: Expected printable characters only"),
    (b"[" * 20_000 + b"]" * 20_000, "The body: Expected `object`, got `array`"),
    (b'{"events":' + b"[" * 20_000, "The body is nested too deeply."),
    (b'{"x":' + b"[" * 20_000, "The body is nested too deeply."),
]


@pytest.mark.parametrize(("body", "reason"), MALFORMED, ids=[reason for _, reason in MALFORMED])
def test_what_cannot_be_read_is_said_with_its_place(body: bytes, reason: str) -> None:
    with pytest.raises(Reject) as caught:
        payloads.read(body)
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (r"a\u0000b", "a\ufffdb"),
        (r"\ud800", "\ufffd"),
        (r"\uDC00\ud83d\uDE00", "\ufffd😀"),
        (r"\ud83d\ud83d\ude00", "\ufffd😀"),
        (r"\\u0000 \\\u0000", "\\u0000 \\\ufffd"),
        (r"\\ud800 \n \u00e9", "\\ud800 \n é"),
    ],
)
def test_a_character_that_postgres_cannot_hold_is_replaced_and_nothing_else(written: str, kept: str) -> None:
    body = body_of(change("1", data="@")).replace(b"@", written.encode())
    (event,) = payloads.read(body)
    payload: dict[str, Any] = json.loads(bytes(event.payload))
    assert payload["data"] == kept
