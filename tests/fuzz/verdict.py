"""What must become of a body that was properly signed, found out by another JSON parser than the mirror's.

Written from `docs/vendure-hooks.md`, not from the code. Where that leaves room (how deep is too deep, a key twice),
either answer is right, as long as what is stored is what was answered.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import msgspec

MAX_EVENTS = 1000
MAX_LENGTH = 200
CERTAIN_DEPTH = 200
"""So deep a document must be taken; a deeper one may be refused."""

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class Verdict(msgspec.Struct, frozen=True):
    """What must become of a request."""

    events: frozenset[str] = frozenset()
    """Ids of the events that are stored if it is taken."""
    may_be_taken: bool = False
    may_be_refused: bool = True


REFUSED = Verdict()


def taken(*events: str) -> Verdict:
    return Verdict(frozenset(events), may_be_taken=True, may_be_refused=False)


def verdict_of(body: bytes) -> Verdict:
    """Return what must become of a body that is signed as it should be."""
    doubts: list[str] = []

    def without_doubt(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            doubts.append("a key twice")
        return dict(pairs)

    try:
        envelope = json.loads(
            body.decode(), object_pairs_hook=without_doubt, parse_constant=_refuse, parse_int=_zero, parse_float=_zero
        )
        events = _events(envelope, doubts)
    except RecursionError:
        return Verdict(may_be_taken=True)
    except ValueError:
        return REFUSED if not doubts else Verdict(may_be_taken=True)
    if _depth(envelope) > CERTAIN_DEPTH:
        doubts.append("deep")
    return Verdict(frozenset(events), may_be_taken=True, may_be_refused=bool(doubts))


def _events(envelope: Any, doubts: list[str]) -> list[str]:
    if not isinstance(envelope, dict) or envelope.get("type") != "vendure.changes":
        raise ValueError("no envelope of ours")
    events = envelope.get("events")
    if not isinstance(events, list) or not 1 <= len(events) <= MAX_EVENTS:
        raise ValueError("no events, or too many")
    return [_event(event, doubts) for event in events]


def _event(event: Any, doubts: list[str]) -> str:
    if not isinstance(event, dict):
        raise ValueError("no object")
    for name in ("id", "type", "entityId"):
        text = event.get(name)
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_LENGTH:
            raise ValueError(name)
        if not text.isprintable() or "\ufffd" in text or _UNSTORABLE.search(text):
            raise ValueError(name)
    read_at = event.get("readAt")
    if not isinstance(read_at, str):
        raise ValueError("readAt")
    if not _INSTANT.fullmatch(read_at):
        if not re.match(r"\d{4}-\d\d-\d\d", read_at):
            raise ValueError("readAt")
        doubts.append("an unusual way to write a moment")
    else:
        datetime.fromisoformat(read_at)
    return str(event["id"])


def _depth(node: Any) -> int:
    """Return how deep a document is nested, without recursion."""
    deepest, waiting = 0, [(node, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(node, dict | list):
            waiting += [(each, depth + 1) for each in (node.values() if isinstance(node, dict) else node)]
    return deepest


def _zero(_: str) -> int:
    """A number is a number: Python's own would refuse one of 5,000 digits."""
    return 0


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
