"""Two ordinary days: twelve customers, half of them with accounts, order twice each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.e2e.people import REGULARS, Person
from tests.e2e.story.shopping import CARD, CASH, account_order, guest_order
from tests.e2e.world import Action, World

FIRST_DAY = (
    {"KIT-COL-H-S": 1},
    {"KIT-COL-H-M": 1, "KIT-COL-A-M": 1},
    {"KIT-KAN-H-XL": 3},
    {"KIT-GAL-R-M": 1, "PROG-1": 2},
    {"KIT-JAF-G-XL": 1},
    {"PROG-1": 10},
)
SECOND_DAY = (
    {"KIT-GAL-R-L": 2},
    {"KIT-COL-A-L": 1},
    {"KIT-COL-H-XL": 1, "KIT-JAF-G-S": 1, "PROG-1": 1},
    {"KIT-KAN-H-M": 1},
)
WAYS_TO_PAY = ((CARD, "settle"), (CARD, "authorize"), (CASH, "authorize"))


def _orders(person: Person, day: str, lines: dict[str, int], way: tuple[str, str], world: World) -> None:
    name = f"{person.first_name.lower()}'s {day}"
    method, outcome = way
    if visitor := world.visitors.get(person.email):
        account_order(world, name, person, lines, visitor=visitor, method=method, outcome=outcome)
    else:
        guest_order(world, name, person, lines, method=method, outcome=outcome)


def _registers(person: Person, world: World) -> None:
    world.visitors[person.email] = world.register(person)


def _day(name: str, carts: tuple[dict[str, int], ...]) -> Iterator[Action]:
    for number, person in enumerate(REGULARS):
        way = WAYS_TO_PAY[number % len(WAYS_TO_PAY)]
        yield partial(_orders, person, name, carts[number % len(carts)], way)


ACTIONS: tuple[Action, ...] = (
    *(partial(_registers, person) for person in REGULARS[::2]),
    *_day("first", FIRST_DAY),
    *_day("second", SECOND_DAY),
)
