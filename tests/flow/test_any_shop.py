"""A small shop in which anything happens: customers share e-mails, addresses and orders move, all may be deleted.

The recording tells what one real shop did; this tells what no shop did yet. Any order, duplication and slicing of the
hooks ends in the same tables, bare references aside (`docs/decisions/0004-two-registers.md`).
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.contents import Contents, read_contents
from tests.factory import (
    Document,
    address,
    at,
    customer_changed,
    customer_deleted,
    line,
    order_changed,
    order_deleted,
)
from tests.flow.test_convergence import EMPTY, differences
from tests.mirror import Mirror

CUSTOMERS = st.sampled_from("123")
ORDERS = st.sampled_from("78")
EMAILS = st.sampled_from(["a@example.com", "b@example.com", "c@example.com"])
PARTS = st.lists(st.sampled_from("567"), unique=True, max_size=3)

Step = tuple[Any, ...]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("customer"), CUSTOMERS, EMAILS, PARTS),
        st.tuples(st.just("customer gone"), CUSTOMERS),
        st.tuples(st.just("order"), ORDERS, st.none() | CUSTOMERS, PARTS),
        st.tuples(st.just("order gone"), ORDERS),
    ),
    min_size=2,
    max_size=12,
)


def told(step: Step, read_at: int) -> Document:
    """Return the event in which the engine tells of a step, read at the given second."""
    what, entity, *details = step
    if what == "customer":
        email, addresses = details
        book = [address(f"{entity}{number}") for number in addresses]
        return customer_changed(
            entity, read_at, emailAddress=email, createdAt=at(-3600 + int(entity)), addresses=book
        )  # fmt: skip
    if what == "order":
        customer, lines = details
        reference = {"id": customer} if customer else None
        return order_changed(entity, read_at, customer=reference, lines=[line(number) for number in lines])
    return customer_deleted(entity, read_at) if what == "customer gone" else order_deleted(entity, read_at)


async def outcome(mirror: Mirror, parts: list[list[Document]]) -> Contents:
    """Take events part by part; return what the tables say then, and empty them."""
    for part in parts:
        counts = await mirror.take(*part)
        assert (counts.dead, counts.retried) == (0, 0)
    contents = await read_contents(mirror.connection)
    await mirror.connection.execute(EMPTY)
    seen = [row for row in contents["customers"] if row["source_version"] != "-infinity" or row["deleted_at"]]
    return {**contents, "customers": seen}


def cut(events: list[Document], order: random.Random) -> list[list[Document]]:
    """Return the events in another order, some of them twice, in slices of any size."""
    shuffled = events + order.sample(events, min(3, len(events)))
    order.shuffle(shuffled)
    bounds = [0, *sorted(order.sample(range(1, len(shuffled)), min(4, len(shuffled) - 1))), len(shuffled)]
    return [shuffled[start:end] for start, end in itertools.pairwise(bounds)]


async def test_whatever_happens_in_a_shop_its_hooks_end_in_the_same_tables_in_any_order(mirror: Mirror) -> None:
    loop = asyncio.get_running_loop()

    @given(steps=STEPS, order=st.randoms(use_true_random=True))
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    def holds(steps: list[Step], order: random.Random) -> None:
        events = [told(step, number) for number, step in enumerate(steps, 1)]
        in_turn, otherwise = (
            asyncio.run_coroutine_threadsafe(outcome(mirror, parts), loop).result()
            for parts in ([[event] for event in events], cut(events, order))
        )
        assert differences(otherwise, in_turn) == []

    await asyncio.to_thread(holds)
