"""What the script of actions works with: a shop's two APIs, its catalogue, and what happened so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.catalogue import log_in, variants_by_sku
from tests.e2e.databases import fetch
from tests.e2e.graphql import Session
from tests.e2e.people import Person
from tests.e2e.shop import Shop

PASSWORD = "kandy-2026-lake"


@dataclass
class World:
    """The shop, an admin's session, and a memory of orders, customers and visitors by name."""

    shop: Shop
    admin: Session
    variants: dict[str, str]
    orders: dict[str, str] = field(default_factory=dict)
    customers: dict[str, str] = field(default_factory=dict)
    visitors: dict[str, Session] = field(default_factory=dict)
    sessions: ExitStack = field(default_factory=ExitStack)

    def visitor(self, *, channel: str | None = None, currency: str | None = None) -> Session:
        """A browser that has never been to the shop."""
        session = Session(self.shop.shop_api, channel=channel, currency=currency)
        return self.sessions.enter_context(session)

    def token(self, column: str, email: str) -> str:
        """The token that a shop sends in an e-mail; the test shop sends none."""
        found = fetch(
            self.shop.dsn,
            f'select m."{column}" as token from authentication_method m join "user" u on u.id = m."userId" '
            f'where u.identifier = $1 and m."{column}" is not null order by m.id desc limit 1',
            email,
        )
        return str(found[0]["token"])

    def register(self, person: Person) -> Session:
        """Register an account and verify it; the session returned is logged in."""
        visitor = self.visitor()
        visitor.do(
            "registerCustomerAccount(input: RegisterCustomerInput!)",
            on="Success",
            fields="success",
            input=person.as_customer() | {"password": PASSWORD},
        )
        self.verify(visitor, person)
        return visitor

    def verify(self, visitor: Session, person: Person) -> None:
        token = self.token("verificationToken", person.email)
        visitor.do("verifyCustomerAccount(token: String!)", on="CurrentUser", token=token)

    def log_in(self, visitor: Session, email: str) -> None:
        visitor.do("login(username: String!, password: String!)", on="CurrentUser", username=email, password=PASSWORD)

    def customer_id(self, email: str) -> str:
        """The id of the customer who has this e-mail address now."""
        found = self.admin.query(
            "query($who: CustomerFilterParameter!) { customers(options: {filter: $who}) { items { id } } }",
            who={"emailAddress": {"eq": email}},
        )
        return str(found["items"][0]["id"])

    def order(self, name: str) -> dict[str, Any]:
        """An order as the admin sees it now: state, lines, payments and fulfilments."""
        order: dict[str, Any] = self.admin.query(
            """query($id: ID!) { order(id: $id) { id code state totalWithTax
                lines { id quantity productVariant { sku } }
                payments { id amount state refunds { id state } }
                fulfillments { id state createdAt } } }""",
            id=self.orders[name],
        )
        return order

    def line(self, name: str, sku: str) -> str:
        """The id of the order's line with this SKU."""
        return str(next(x["id"] for x in self.order(name)["lines"] if x["productVariant"]["sku"] == sku))


@contextmanager
def open_world(shop: Shop) -> Iterator[World]:
    """A world in which nothing has happened yet."""
    with log_in(shop) as admin:
        world = World(shop, admin, variants_by_sku(admin))
        with world.sessions:
            yield world


Action = Callable[[World], None]
