"""Whatever a document holds, mapping it ends in records, Skip or Reject: nothing else may hold up a slice."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sync.engines.base import Context
from sync.engines.vendure.mapping import map_event
from sync.errors import Reject, Skip
from sync.recording import load_recording
from tests.factory import Document, at


def recorded_events() -> list[Document]:
    return [event for hook in load_recording().hooks for event in json.loads(hook.body)["events"]]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(at(0)),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts, max_size=3),
    max_leaves=5,
)


@given(data=st.data(), described=st.sampled_from(recorded_events()), precision=st.none() | st.integers(0, 4))
@settings(max_examples=400, deadline=None)
def test_whatever_a_document_says_it_is_mapped_skipped_or_rejected(
    data: st.DataObject, described: Document, precision: int | None
) -> None:
    mutated = json.loads(json.dumps(described))
    for _ in range(data.draw(st.integers(1, 3))):
        _mutate(data, mutated)
    assert all(_outcome(mutated, Context(phone_region="LK", money_precision=precision)))


def _outcome(described: Document, context: Context) -> list[object]:
    """Return the records of an event, or the reason why there are none."""
    try:
        return [*map_event(str(described.get("type")), json.dumps(described).encode(), context)]
    except (Skip, Reject) as refused:
        return [refused.reason]


def _mutate(data: st.DataObject, node: Any) -> None:
    """Replace or remove a value somewhere inside."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and data.draw(st.booleans()):
            node = node[key]
            continue
        if data.draw(st.booleans()):
            del node[key]
        else:
            node[key] = data.draw(ANYTHING)
        return
