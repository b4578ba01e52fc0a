"""Whatever two daemons and two admins do at once, every counter and statistic equals a naive count of the rows.

Each example is a plan: what the engine tells, in slices, and what admins do in Studio, in transactions. The four run at
once on connections of their own. What the rules refuse is refused; that an admin is thrown out of a circle of waiting
is a failure. Two daemons may meet in one where rows are new to both (decision 8): the drain tries again.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import asyncpg
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sync.database import connect
from tests.database.shop import ASSIGNMENTS, BATCHES, DELIVERY, ORDERS, pre_order
from tests.database.studio import Studio, studio
from tests.factory import Document, at, customer_changed, order_changed, order_deleted, payment
from tests.flow.recount import STAGES, Recount
from tests.mirror import Mirror
from tests.postgres import TestServer

STATUSES = ("orderedFromSupplier", "inTransit", "arrived", "dispatched", "completed")
MONTH = 30 * 24 * 3600

KNOWN, NEW = "12345", "67"
CUSTOMERS = "123"

known_ids = st.sampled_from(KNOWN)
order_ids = st.sampled_from(KNOWN + NEW)
customer_ids = st.sampled_from(CUSTOMERS)
stages = st.sampled_from(STAGES)
batch_places = st.integers(0, 4)
targets = st.integers(1, 4) | st.none()

told_orders = st.fixed_dictionaries({
    "order_id": order_ids,
    "customer": st.none() | customer_ids.map(lambda id: {"id": id}),
    "state": st.sampled_from(["PaymentSettled", "PaymentSettled", "Cancelled"]),
    "currencyCode": st.sampled_from(["LKR", "JPY"]),
    "totalWithTax": st.sampled_from([100000, 250000]),
    "refund": st.sampled_from([0, 5000]),
    "quantity": st.integers(0, 3),
    "stage": st.none() | stages,
})  # fmt: skip
told = st.one_of(
    told_orders,
    told_orders,
    told_orders,
    st.tuples(st.just("deleted"), known_ids),
    st.tuples(st.just("met"), customer_ids),
)
edits = st.one_of(
    st.tuples(st.just("delivery"), order_ids, stages),
    st.tuples(st.just("order"), order_ids, stages),
    st.tuples(st.just("correct"), order_ids, stages),
    st.tuples(st.just("number"), order_ids, st.sampled_from(["SLP-1", "SLP-2", ""])),
    st.tuples(st.just("batch"), order_ids, st.none() | batch_places),
    st.tuples(st.just("reassign"), order_ids, batch_places),
    st.tuples(st.just("pull out"), order_ids),
    st.tuples(st.just("open"), targets),
    st.tuples(st.just("target"), batch_places, targets),
    st.tuples(st.just("status"), batch_places, st.sampled_from(STATUSES)),
)


class Plan(NamedTuple):
    """What happens at once: slices of two daemons, transactions of two admins."""

    slices: list[list[list[Any]]]
    transactions: list[list[list[tuple[Any, ...]]]]


def two_of(steps: st.SearchStrategy[Any], *, most: int) -> st.SearchStrategy[Any]:
    """Return two lists of lists of steps."""
    one = st.lists(st.lists(steps, min_size=1, max_size=most), min_size=4, max_size=10)
    return st.lists(one, min_size=2, max_size=2)


plans = st.builds(Plan, two_of(told, most=4), two_of(edits, most=2))


@given(plan=plans)
@settings(max_examples=6, deadline=None, phases=[Phase.generate], database=None)
def test_counters_equal_a_naive_count(server: TestServer, migrated_template: str, plan: Plan) -> None:
    name = server.create(template=migrated_template)
    try:
        asyncio.run(carry_out(server.owner(name), plan))
    finally:
        server.drop(name)


async def carry_out(dsn: str, plan: Plan) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("update public.stores set batch_target_order_count = 2")
    async with connect(dsn) as door, studio(dsn) as one, studio(dsn) as other:
        mirror = await Mirror.over(door, connection)
        reads = iter(range(1, 10_000))
        await mirror.take(
            *(customer_changed(c, 0) for c in CUSTOMERS),
            *(order_changed(o, 0, orderPlacedAt=placed_at(o)) for o in KNOWN),
        )
        told_in_time = [[[event(t, next(reads)) for t in s] for s in slices] for slices in plan.slices]
        await asyncio.gather(
            *(tell(mirror, slices) for slices in told_in_time),
            *(administer(admin, plan.transactions[n]) for n, admin in enumerate((one, other))),
        )
        await apply_rest(mirror)
        await (await Recount.of(connection)).check()
    await connection.close()


def event(what: Any, read_at: int) -> Document:
    """Return the hook's event of a step of the engine."""
    if isinstance(what, tuple):
        entity, entity_id = what
        return order_deleted(entity_id, read_at) if entity == "deleted" else customer_changed(entity_id, read_at)
    fields = dict(what)
    order_id, stage, refund = fields.pop("order_id"), fields.pop("stage"), fields.pop("refund")
    refunds = [{"total": refund, "state": "Settled"}]
    return order_changed(
        order_id, read_at, **fields,
        orderPlacedAt=placed_at(order_id),
        lines=[pre_order(f"{order_id}-1", quantity=fields.pop("quantity"))],
        customFields={"deliveryStage": stage} if stage else {},
        payments=[payment("1", refunds=refunds)],
    )  # fmt: skip


def placed_at(order_id: str) -> str:
    """Return when an order was placed: the first ones a minute ago, the others a month."""
    return at(-60 if order_id in "12" else -MONTH)


async def tell(mirror: Mirror, slices: list[list[Document]]) -> None:
    """Be a daemon: take one slice after the other."""
    for events in slices:
        await mirror.take(*events)


async def apply_rest(mirror: Mirror) -> None:
    """Apply what was put back: two daemons may meet the same new customer at once."""
    while "pending" in (states := set(await mirror.events())):
        await mirror.drain().run()
        await asyncio.sleep(0.05)
    assert states == {"applied"}


async def administer(admin: Studio, transactions: list[list[tuple[Any, ...]]]) -> None:
    """Be an admin: save what belongs together, and take a refusal for an answer."""
    for edits_together in transactions:
        try:
            async with admin.connection.transaction():
                for kind, *what in edits_together:
                    await edit(admin, kind, *what)
        except asyncpg.IntegrityConstraintViolationError:
            continue


async def edit(admin: Studio, kind: str, place: Any, value: Any = None) -> None:
    """Make one edit, where there is something to edit yet."""
    if kind == "open":
        await admin.insert(BATCHES, target_order_count=place)
    elif kind in {"target", "status"}:
        if batch := await batch_at(admin, place):
            await admin.edit(BATCHES, batch, **{"status" if kind == "status" else "target_order_count": value})
    elif kind == "correct":
        query = "select correct_order_delivery_status(order_code, $2, 'tested') from public.customer_orders_summary "
        await admin.run(query + "where source_id = $1 and order_code is not null", place, value)
    elif kind in {"reassign", "pull out"}:
        await edit_assignment(admin, place, value)
    else:
        await edit_order(admin, kind, place, value)


async def edit_order(admin: Studio, kind: str, order_id: str, value: Any) -> None:
    table = DELIVERY if kind in {"delivery", "number"} else ORDERS
    key = "order_summary_id" if table == DELIVERY else "id"
    column = {"delivery": "stage", "number": "tracking_number", "order": "delivery_stage", "batch": "batch_id"}[kind]
    if kind == "batch" and value is not None:
        value = await batch_at(admin, value)
    query = f"select t.id from public.{table} t join public.customer_orders_summary o on o.id = t.{key} "
    for (row_id,) in await admin.run(query + "where o.source_id = $1 and o.order_code is not null", order_id):
        await admin.edit(table, row_id, **{column: value})


async def edit_assignment(admin: Studio, order_id: str, place: int | None) -> None:
    query = f"select a.id from public.{ASSIGNMENTS} a join public.{ORDERS} o on o.id = a.order_summary_id "
    for (row_id,) in await admin.run(query + "where o.source_id = $1 order by a.id desc limit 1", order_id):
        if place is None:
            await admin.delete(ASSIGNMENTS, row_id)
        elif batch := await batch_at(admin, place):
            await admin.edit(ASSIGNMENTS, row_id, batch_id=batch)


async def batch_at(admin: Studio, place: int) -> Any:
    """Return the id of the batch at a place among all, if there are so many."""
    rows = await admin.run("select id from public.import_batches order by id offset $1 limit 1", place)
    return rows[0][0] if rows else None
