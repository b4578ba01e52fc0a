"""Does the last hook of every entity say what the Admin API says? A recording in which it does not is no good.

Only the shop is judged here, not the mirror: the plugin's documents and the API's are held against each other
as they are, but for what docs/vendure-hooks.md says: absent and null are the same.
"""

from __future__ import annotations

from typing import Any

from tests.e2e.receiver import Request


def disagreements(requests: list[Request], documents: dict[str, Any]) -> list[str]:
    """One line for each entity and field in which the newest hook and the Admin API differ."""
    newest = _newest(requests)
    expected = {("customer", item["id"]): item for item in documents["customers"]}
    expected |= {("customer", deleted): None for deleted in documents["deletedCustomers"]}
    expected |= {("order", item["id"]): item for item in documents["orders"]}
    missing = [f"{kind} {key}: no hook" for kind, key in expected.keys() - newest.keys()]
    surplus = [f"{kind} {key}: not in the Admin API" for kind, key in newest.keys() - expected.keys()]
    differing = [
        f"{kind} {key}{path}"
        for (kind, key), document in expected.items()
        if (kind, key) in newest
        for path in _differences(document, newest[kind, key])
    ]
    return [*missing, *surplus, *differing]


def _newest(requests: list[Request]) -> dict[tuple[str, str], Any]:
    """The data with the latest `readAt` of each entity."""
    events = [event for request in requests for event in request.events]
    return {
        (event["type"].partition(".")[0], event["entityId"]): event["data"]
        for event in sorted(events, key=lambda event: event["readAt"])
    }


def _differences(expected: Any, found: Any, path: str = "") -> list[str]:
    """Compare the fields that the API's document has; the hook may have more (custom fields of the shop)."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            difference
            for name, value in expected.items()
            for difference in _differences(value, found.get(name), f"{path}.{name}")
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = zip(_in_order(expected), _in_order(found), strict=True)
        return [
            difference
            for number, (one, other) in enumerate(pairs)
            for difference in _differences(one, other, f"{path}[{number}]")
        ]
    return [] if expected == found else [f"{path}: the API says {expected!r}, the hook {found!r}"]


def _in_order(items: list[Any]) -> list[Any]:
    """Parts with an id have no order of their own."""
    return sorted(items, key=lambda item: str(item["id"])) if items and "id" in items[0] else items
