"""Shop and admin change the same orders, hooks come as they like, senders fail and die: both sides come to rest, equal.

A state machine makes up the stories; `--hypothesis-profile=thorough` has it tell many more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, ClassVar, TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import sync.deliver
from sync.database import Database, Row, connect
from sync.deliver import Deliver
from sync.engines.base import Event
from sync.errors import Retry
from sync.outbox import Counts
from sync.records import DELIVERY_STAGES, Delivery, Entity
from tests.engine import Shop, ShopClient
from tests.flow.test_convergence import EMPTY
from tests.flow.two_sides import TwoSides, open_two_sides
from tests.mirror import Mirror

T = TypeVar("T")

ORDERS = ("1", "2")
STAGES: list[str] = [*DELIVERY_STAGES[:4]]
NUMBERS = (None, "A", "B")
CONFLICTS = "mirror.sync_conflicts"

WAITING = "select count(*) from mirror.outbox where state = 'pending'"
EVENTS = """
    select e.source_id, e.stage::text, e.tracking_number, e.actor, e.note
    from public.order_delivery_status_events e join public.customer_orders_summary o on o.id = e.order_summary_id
    where o.source_id = $1 and e.source_id <> 'placed' order by e.updated_at, e.id
"""
LINKED = """
    select c.change_source_id from mirror.outbox c join public.customer_orders_summary o on o.id = c.order_summary_id
    where o.source_id = $1 and c.change_source_id is not null
"""


class Crash(BaseException):
    """The process of a sender ends here."""


POINTS = (
    "claimed", "asked", "answered", "handed out", "sending", "sent", "asked again", "answered again", "settled",
)  # fmt: skip
AFTER_SENDING = {"asked again", "answered again", "settled"}

orders = st.sampled_from(ORDERS)
hooks = st.sampled_from(["arrives", "late", "lost"])
stages, numbers = st.sampled_from(STAGES), st.sampled_from(NUMBERS)
cells = st.one_of(
    st.fixed_dictionaries({"stage": stages}),
    st.fixed_dictionaries({"tracking_number": numbers}),
    st.fixed_dictionaries({"stage": stages, "tracking_number": numbers}),
)
shop_edits = st.tuples(st.just("shop"), orders, stages, numbers, hooks)
admin_edits = st.tuples(st.just("admin"), orders, cells)
happenings = st.one_of(
    shop_edits,
    admin_edits,
    st.sampled_from([("crash",), ("fail",), ("another",), ("hooks",)]),
)
plans = st.dictionaries(st.sampled_from(POINTS), happenings, max_size=4)
others = st.one_of(
    st.tuples(st.just("state"), orders, st.sampled_from(["Cancelled", "PaymentSettled"]), hooks),
    st.sampled_from([("hooks",), ("poll",), ("time",)]),
)


class WatchedDatabase(Database):
    """The database, as a sender sees it to whom things happen between two calls."""

    def __init__(self, database: Database, way: Way) -> None:
        self._database = database
        self._way = way

    async def call(self, function: str, **arguments: Any) -> Any:
        value = await self._database.call(function, **arguments)
        await self._way.reached({"hand_out_commands": "handed out", "settle_commands": "settled"}[function])
        return value

    async def rows(self, function: str, **arguments: Any) -> list[Row]:
        rows = await self._database.rows(function, **arguments)
        if function == "claim_commands" and rows:
            await self._way.reached("claimed")
        return rows


class WatchedClient(ShopClient):
    """The shop, likewise."""

    def __init__(self, shop: Shop, way: Way) -> None:
        super().__init__(shop)
        self._way = way
        self._again = ""

    async def fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[Event]:
        await self._way.reached(f"asked{self._again}")
        events = await super().fetch(entity, source_ids)
        await self._way.reached(f"answered{self._again}")
        self._again = " again"
        return events

    async def set_delivery(self, source_id: str, delivery: Delivery) -> None:
        await self._way.reached("sending")
        before = len(self.shop.documents["order"][source_id].get("deliveryStageChanges", []))
        await super().set_delivery(source_id, delivery)
        changes = self.shop.documents["order"][source_id].get("deliveryStageChanges", [])
        self._way.story.sent[source_id] += [change["id"] for change in changes[before:]]
        await self._way.reached("sent")


class Way:
    """What happens to a sender on its way, at the first time that it gets to each point."""

    def __init__(self, story: Story, plan: dict[str, tuple[Any, ...]]) -> None:
        self.story = story
        self._plan = dict(plan)

    async def reached(self, point: str) -> None:
        match self._plan.pop(point, None):
            case ("crash",):
                raise Crash
            case ("fail",):
                raise Retry("away")
            case ("another",):
                if point in AFTER_SENDING:  # before it has sent, its lease does not lapse
                    await self.story.sides.let_time_pass()
                await self.story.deliver({})
            case ("hooks",):
                await self.story.let_hooks_arrive()
            case ("shop", order, stage, number, hook):
                await self.story.edit_in_the_shop(order, stage, number, hook)
            case ("admin", order, cells):
                await self.story.edit_in_studio(order, cells)


class Story:
    """What has happened so far."""

    def __init__(self, sides: TwoSides) -> None:
        self.sides = sides
        self.late: list[Event] = []
        self.sent: dict[str, list[str]] = {order: [] for order in ORDERS}
        """Ids of the changes in the shop that came of our sending."""
        self.edits: dict[str, list[tuple[str, str | None]]] = {order: [] for order in ORDERS}
        """What an admin has made of each order, change by change."""

    async def edit_in_the_shop(self, order: str, stage: str, number: str | None, hook: str) -> None:
        await self._hook(self.sides.shop_sets(order, stage, number), hook)

    async def change_state(self, order: str, state: str, hook: str) -> None:
        self.sides.catch_up()
        await self._hook(self.sides.shop.edit("order", order, state=state), hook)

    async def _hook(self, event: Event, hook: str) -> None:
        if hook == "arrives":
            await self.sides.tell(event)
        elif hook == "late":
            self.late.append(event)

    async def let_hooks_arrive(self) -> None:
        """Let the late hooks come, the latest first, and all of them twice."""
        arriving, self.late = self.late[::-1], []
        await self.sides.tell(*arriving, *arriving)

    async def edit_in_studio(self, order: str, cells: dict[str, Any]) -> None:
        """Save cells of an order's delivery, as far as the rules let an admin."""
        for cell, value in cells.items():
            before = await self.sides.here(order)
            with refused():
                if cell == "stage" and STAGES.index(value) < STAGES.index(before[0]):
                    query = "select correct_order_delivery_status($1, $2::delivery_stage, 'by mistake')"
                    await self.sides.admin.run(query, f"CODE{order}", value)
                else:
                    await self.sides.admin_sets(order, **{cell: value})
            if (after := await self.sides.here(order)) != before:
                self.edits[order].append(after)

    async def deliver(self, plan: dict[str, tuple[Any, ...]]) -> Counts | None:
        """Send what is due, and let the plan happen meanwhile; None if the sender did not get to its end."""
        way = Way(self, plan)
        self.sides.catch_up()
        sender = Deliver(
            WatchedDatabase(self.sides.mirror.database, way), {"vendure": WatchedClient(self.sides.shop, way)}
        )
        try:
            return await sender.run()
        except Retry:
            return None
        except BaseException as error:
            if not _is_crash(error):
                raise
            return None

    async def come_to_rest(self, side: str) -> None:
        """Let the shop's orders all stand again, and everything be told, until nothing is to be told any more."""
        for order in ORDERS:
            await self.change_state(order, "PaymentSettled", "arrives")
        for _ in range(8):
            await self.sides.poll()
            for conflict in await self.sides.conflicts():
                await self.sides.admin.edit(CONFLICTS, conflict["id"], resolution=side)
            await self.sides.let_time_pass()
            await self.deliver({})
            if not await self._waiting():
                return
        raise AssertionError("it does not come to rest")

    async def _waiting(self) -> int:
        ((waiting,),) = await self.sides.admin.run(WAITING)
        return int(waiting)

    async def check(self) -> None:
        """See that both sides are equal, that nothing more happens, and that the history has each change once."""
        before = [await self.sides.admin.run(EVENTS, order) for order in ORDERS]
        await self.let_hooks_arrive()
        await self.sides.poll()
        assert await self.deliver({}) == Counts()
        assert [await self.sides.admin.run(EVENTS, order) for order in ORDERS] == before
        assert await self.sides.conflicts() == []
        assert await self.sides.differences() == []
        for order in ORDERS:
            assert await self.sides.here(order) == self.sides.there(order)
            await self._check_history(order)

    async def _check_history(self, order: str) -> None:
        events = await self.sides.admin.run(EVENTS, order)
        linked = await self.sides.mirror.column(LINKED, order)
        changes = [change["id"] for change in self.sides.shop.documents["order"][order].get("deliveryStageChanges", [])]
        own = [event for event in events if event["note"] is None or event["note"] == "by mistake"]
        of_shop = [event["source_id"] for event in own if event["actor"] == "engine:vendure"]
        of_admins = [(event["stage"], event["tracking_number"]) for event in own if event["actor"] == "studio"]
        assert Counter(of_shop + linked) == Counter(changes)
        assert len(linked) >= len(self.sent[order])
        assert of_admins == self.edits[order]
        assert of_shop == [change for change in changes if change in of_shop]
        if events:
            assert (events[-1]["stage"], events[-1]["tracking_number"]) == await self.sides.here(order)


@contextmanager
def refused() -> Iterator[None]:
    """Let the rules refuse an admin: a cancelled order does not move."""
    try:
        yield
    except asyncpg.CheckViolationError as error:
        if "is cancelled" not in str(error):
            raise


def _is_crash(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_crash(each) for each in error.exceptions)
    return isinstance(error, Crash)


class Machine(RuleBasedStateMachine):
    """Makes up stories."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    opened: ClassVar[TwoSides]

    def do(self, happening: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(happening)

    @initialize(
        policy=st.sampled_from(["last_write_wins", "engine_wins", "ask"]), side=st.sampled_from(["engine", "mirror"])
    )
    def begin(self, policy: str, side: str) -> None:
        self.side = side
        self.story = Story(TwoSides(self.opened.mirror, self.opened.admin))
        self.do(self.opened.mirror.connection.execute(EMPTY))
        self.do(self.story.sides.set_policy(policy))
        self.do(self.story.sides.place(*ORDERS))

    # A sender has little to do unless there is something that an admin has set: so that is most of what happens.
    @rule(first=admin_edits, second=admin_edits)
    def an_admin_edits_in_studio(self, first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
        self.do(self.story.edit_in_studio(*first[1:]))
        self.do(self.story.edit_in_studio(*second[1:]))

    @rule(edit=shop_edits)
    def somebody_edits_in_the_shop(self, edit: tuple[Any, ...]) -> None:
        self.do(self.story.edit_in_the_shop(*edit[1:]))

    @rule(edit=admin_edits, plan=plans)
    def a_sender_sends(self, edit: tuple[Any, ...], plan: dict[str, tuple[Any, ...]]) -> None:
        self.do(self.story.edit_in_studio(*edit[1:]))
        self.do(self.story.deliver(plan))

    @rule(other=others)
    def something_else_happens(self, other: tuple[Any, ...]) -> None:
        match other:
            case ("state", order, state, hook):
                self.do(self.story.change_state(order, state, hook))
            case ("hooks",):
                self.do(self.story.let_hooks_arrive())
            case ("poll",):
                self.do(self.story.sides.poll())
            case ("time",):
                self.do(self.story.sides.let_time_pass())

    @precondition(lambda self: self.do(self.story.sides.conflicts()))
    @rule(side=st.sampled_from(["engine", "mirror"]))
    def an_admin_chooses_a_side(self, side: str) -> None:
        (conflict, *_) = self.do(self.story.sides.conflicts())
        self.do(self.story.sides.admin.edit(CONFLICTS, conflict["id"], resolution=side))

    def teardown(self) -> None:
        if hasattr(self, "story"):
            self.do(self.story.come_to_rest(self.side))
            self.do(self.story.check())


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that stands still between two steps of a story."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


# A timeout in the middle of a story is taken for what the story comes to: a thorough run may tell and shrink for long.
@pytest.mark.timeout(3 * settings().max_examples)
def test_both_sides_come_to_rest_and_are_equal(
    database: str, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync.deliver, "SENDERS", 1)  # so that a story happens in one order

    async def opened(stack: AsyncExitStack) -> TwoSides:
        connection = await asyncpg.connect(database)
        stack.push_async_callback(connection.close)
        door = await stack.enter_async_context(connect(database))
        return await stack.enter_async_context(open_two_sides(await Mirror.over(door, connection), database))

    stack = AsyncExitStack()
    machine = type("OpenedMachine", (Machine,), {"loop": loop, "opened": loop.run_until_complete(opened(stack))})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=settings().max_examples // 4,
                stateful_step_count=20,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        loop.run_until_complete(stack.aclose())
