"""What a slice sends to the database: the newest record of each entity, parted so that two connections write at once.

Records that touch each other (an order and its customer, two customers with one e-mail address) go down the same lane,
so lanes do not wait for each other's rows. They may, where the database knows of more than a slice says; then they lock
in the order that daemons keep (decision 8).
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import msgspec

from sync.columns import record_columns
from sync.records import PROVIDER_PAYMENTS, Customer, Deletion, Order, Payment, ProviderRecord, Record, Refund

LANES = 2
LANE_RECORDS = 50
"""A slice with fewer for each lane goes down one: a second transaction would cost more than it gains."""

Part = TypeVar("Part")
"""What belongs together anyway, such as an event with all of its records."""


def lanes(parts: Sequence[Part], records: Callable[[Part], Iterable[Record]]) -> list[list[Part]]:
    """Part a slice into lists that touch no entity in common, of about the same length, each in the slice's order."""
    if len(parts) < LANES * LANE_RECORDS or any(_frees_a_code(record) for part in parts for record in records(part)):
        return [list(parts)] if parts else []
    group_of = _groups([key for record in records(part) for key in _touched(record)] for part in parts)
    sizes: dict[int, int] = {}
    for group in group_of:
        sizes[group] = sizes.get(group, 0) + 1
    lane_of: dict[int, int] = {}
    loads = [0] * LANES
    for group, size in sizes.items():
        lane_of[group] = lane = loads.index(min(loads))
        loads[lane] += size
    parted: list[list[Part]] = [[] for _ in loads]
    for part, group in zip(parts, group_of, strict=True):
        parted[lane_of[group]].append(part)
    return [lane for lane in parted if lane]


def newest_records(records: Iterable[tuple[UUID, Record]]) -> str:
    """Return the newest record of each entity, by integration, as the JSON that `mirror.apply_records` takes."""
    by_integration: dict[UUID, dict[tuple[str, str], Record]] = {}
    for integration_id, record in records:
        newest = by_integration.setdefault(integration_id, {})
        known = newest.get(key := _key(record))
        if known is None or _moment(known) < _moment(record):
            newest[key] = record
    documents = [
        {"integration_id": integration_id, **record_columns(newest.values())}
        for integration_id, newest in by_integration.items()
    ]
    return msgspec.json.encode(documents).decode()


def _key(record: Record) -> tuple[str, str]:
    """Return what a record is about. A state and a deletion do not replace each other: the later of each counts."""
    kind = f"deleted {record.entity}" if isinstance(record, Deletion) else type(record).__name__
    return kind, record.source_id


def _moment(record: Record) -> tuple[datetime, str]:
    """Return what tells the newer of two records: a payment provider's may be of one moment."""
    return record.source_version, record.source_order if isinstance(record, ProviderRecord) else ""


def _frees_a_code(record: Record) -> bool:
    """Tell whether another order of the slice may have this one's code by now, which the record does not say."""
    return isinstance(record, Deletion) and record.entity == "order"


def _touched(record: Record) -> list[tuple[str, str]]:
    """Return what is written, or locked, for a record."""
    match record:
        case Customer():
            touched = [("customer", record.source_id), ("e-mail", record.email)]
        case Order():
            touched = [("order", record.source_id), ("customer", record.customer_source_id)]
            named = (payment.transaction_id for payment in record.payments)
            touched += [("payment", name) for name in named if name and name.startswith(PROVIDER_PAYMENTS)]
        case Payment():
            touched = [("payment", record.source_id)]
        case Refund():
            touched = [("payment", record.payment_source_id), ("refund", record.source_id)]
        case Deletion():
            touched = [(record.entity, record.source_id)]
        case _:
            touched = [(type(record).__name__, record.source_id)]
    return [(kind, value) for kind, value in touched if value is not None]


def _groups(keys: Iterable[Iterable[tuple[str, str]]]) -> list[int]:
    """Return a number for each collection of keys: the same for those that share a key, directly or through others."""
    above: list[int] = []
    first_with: dict[tuple[str, str], int] = {}

    def root(group: int) -> int:
        while above[group] != group:
            above[group] = group = above[above[group]]
        return group

    for group, own in enumerate(keys):
        above.append(group)
        for key in own:
            above[root(first_with.setdefault(key, group))] = group
    return [root(group) for group in range(len(above))]
