"""The OpenAPI document: whoever reads it sees what each route takes and answers, by examples that are true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from api import examples
from api.app import create_app
from api.auth_hooks import SmsTaken, _Hook
from api.hooks import Receipt
from api.otp import CodeEntered, CodeRequest, CodeSent, Verified
from api.tracking.told import TrackedOrder
from sync.engines.vendure import payloads
from sync.settings import load_settings


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@localhost/none")
    monkeypatch.setenv("MIRROR_METRICS_TOKEN", "the-token-of-the-tests")
    return create_app(load_settings()).openapi_schema.to_schema()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method} {path}", operation


def test_all_that_is_taken_and_answered_has_an_example(document: dict[str, Any]) -> None:
    lacking = []
    for name, operation in operations(document):
        parts = [(f"{name}: {each['name']}", each) for each in operation.get("parameters", [])]
        bodies = [("body", operation.get("requestBody", {})), *operation["responses"].items()]
        parts += [
            (f"{name}: {of} {kind}", media) for of, each in bodies for kind, media in each.get("content", {}).items()
        ]
        lacking += [part for part, documented in parts if not documented.get("examples")]
    assert not lacking


def test_each_operation_says_what_it_does_and_what_it_takes(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation.get("description"), name
        assert name.startswith("get") or operation["requestBody"]["content"]["application/json"], name
        assert all(each.get("description") for each in operation.get("parameters", [])), name


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (examples.ORDER, TrackedOrder),
        (examples.RECEIPT, Receipt),
        (examples.CODE_REQUEST, CodeRequest),
        (examples.CODE_SENT, CodeSent),
        (examples.CODE_ENTERED, CodeEntered),
        (examples.VERIFIED, Verified),
        (examples.SEND_SMS, _Hook),
        (examples.SMS_SENT, SmsTaken),
        (examples.SMS_REFUSED, SmsTaken),
    ],
)
def test_an_example_is_what_it_stands_for(value: Any, kind: type[msgspec.Struct]) -> None:
    assert msgspec.convert(value, kind)
    assert set(value) <= set(kind.__struct_fields__)


def test_the_hook_of_the_example_can_be_read() -> None:
    (event,) = payloads.read(msgspec.json.encode(examples.HOOK))
    assert event.entity_id == "12"
