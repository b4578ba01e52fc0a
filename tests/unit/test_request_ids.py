"""Request ids: a well-formed one is kept, anything else is replaced."""

from __future__ import annotations

import re

import pytest

from api.edge.ids import request_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("given", "traceparent", "kept"),
    [
        (b"order-7.retry_2", None, "order-7.retry_2"),
        (b"order-7", PARENT.encode(), "order-7"),
        (None, PARENT.encode(), TRACE),
        (b"not one\r\n", PARENT.encode(), TRACE),
        (None, f"01-{TRACE}-00f067aa0ba902b7-01-later".encode(), TRACE),
    ],
)
def test_a_well_formed_id_is_kept(given: bytes | None, traceparent: bytes | None, kept: str) -> None:
    assert request_id(given, traceparent) == kept


@pytest.mark.parametrize(
    ("given", "traceparent"),
    [
        (None, None),
        (b"", None),
        (b"x" * 65, None),
        (b"a b", None),
        ("é".encode("latin-1"), None),
        (None, b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01"),
        (None, f"00-{TRACE}-{'0' * 16}-01".encode()),
        (None, f"ff-{TRACE}-00f067aa0ba902b7-01".encode()),
        (None, PARENT.upper().encode()),
    ],
)
def test_another_is_replaced_by_a_new_one(given: bytes | None, traceparent: bytes | None) -> None:
    made = {request_id(given, traceparent) for _ in range(3)}
    assert len(made) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)
