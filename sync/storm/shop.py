"""A Vendure shop in memory in which anything happens: what the storm's mirror has to equal in the end.

`step` does one of the things that people do in a shop, chosen by weight; the same seed does the same things. Every
change is noted, as the plugin notes it, by a call of `on_change`.
"""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sync.records import DELIVERY_STAGES, Entity
from sync.storm import documents
from sync.storm.documents import Document, written

FIRST_NAMES = ("Nimal", "Kumari", "Tamara", "Ruwan", "Ayesha", "Dilshan", "Malini", "Sunil", "வாணி", "සුනිල්")
LAST_NAMES = ("Perera", "De Silva", "Jayasuriya", "Fernando", "Bandara", "O'Brien", "Rajapaksa")
STREETS = ("Temple Lane", "Galle Road", "Lake Road", "King Street")
CITIES = ("Colombo 05", "Galle", "Kandy", "Jaffna")
GROUPS = ("wholesale", "newsletter", "team captains")
PATCHES = ("league", "cup", "captain")
COUPONS = ("WELCOME", "CUP2026", "TEAM10")
MOST_LINES = 4

ACTIONS = {
    "register": 10,
    "reuse_email": 2,
    "edit_profile": 8,
    "change_email": 2,
    "edit_addresses": 6,
    "change_groups": 2,
    "delete_customer": 2,
    "place_order": 26,
    "edit_lines": 8,
    "print_on_line": 3,
    "pay": 12,
    "refund": 4,
    "settle_refund": 4,
    "fulfil": 5,
    "cancel": 2,
    "deliver": 14,
    "delete_order": 1,
}
"""What people do, and how often: names of methods and their weights."""


class Shop:
    """The documents of a shop, changed step by step."""

    def __init__(self, seed: object = 0) -> None:
        self.documents: dict[Entity, dict[str, Document]] = {"customer": {}, "order": {}}
        self.on_change: Callable[[Entity, str], None] = lambda *_: None
        self._choice = random.Random(f"{seed} shop")  # noqa: S311 - no secret
        self._actions: list[Callable[[], None]] = [getattr(self, f"_{name}") for name in ACTIONS]
        self._weights = list(ACTIONS.values())
        self._numbers = 0
        self._used_emails: list[str] = []
        self._time = datetime.now(UTC)

    def step(self) -> None:
        """Do one thing; an action that finds nothing to act on is a registration instead."""
        (action,) = self._choice.choices(self._actions, self._weights)
        try:
            action()
        except LookupError:
            self._register()

    # What the Admin API asks, and the plugin.

    def now(self) -> datetime:
        """Return the time by the shop's clock, which never shows the same twice."""
        self._time = max(datetime.now(UTC), self._time + timedelta(microseconds=1))
        return self._time

    def count(self, entity: Entity, since: datetime | None) -> int:
        """Return how many there are; with `since`, how many were touched since then."""
        return len(self._ids(entity, since))

    def page(
        self, entity: Entity, position: str | None, since: datetime | None, limit: int
    ) -> Iterator[tuple[str, str]]:
        """Yield id and hash of the entities after a position, in the order of their ids."""
        ids = sorted(self._ids(entity, since), key=int)
        following = (source_id for source_id in ids if position is None or int(source_id) > int(position))
        for source_id in islice(following, limit):
            yield source_id, documents.digest(self.read(entity, source_id) or b"")

    def read(self, entity: Entity, source_id: str) -> bytes | None:
        """Return a document as it is now: JSON; None if it is gone."""
        document = self.documents[entity].get(source_id)
        return documents.encode(document) if document else None

    def event(self, entity: Entity, source_id: str) -> bytes:
        """Return what a hook would say of an entity now: JSON."""
        read_at = written(self.now())
        return documents.event(f"asked-{read_at}", entity, source_id, read_at, self.read(entity, source_id))

    def set_delivery(self, source_id: str, stage: str | None, tracking_number: str | None) -> bool:
        """Set an order's stage and tracking number; return whether there is such an order."""
        if source_id not in self.documents["order"]:
            return False
        self._set_delivery(source_id, stage, tracking_number)
        return True

    # Customers.

    def _register(self) -> None:
        first_name, last_name = self._choice.choice(FIRST_NAMES), self._choice.choice(LAST_NAMES)
        number = self._number()
        self._add_customer(number, first_name, last_name, f"shopper{number}@example.com")

    def _reuse_email(self) -> None:
        """Somebody registers with an address that was another's: a guest's, or that of a deleted account."""
        email = self._choice.choice(self._used_emails)
        self._add_customer(self._number(), self._choice.choice(FIRST_NAMES), self._choice.choice(LAST_NAMES), email)

    def _add_customer(self, number: str, first_name: str, last_name: str, email: str) -> None:
        new = documents.customer(number, self.now(), first_name=first_name, last_name=last_name, email=email)
        if self._choice.random() < 0.7:
            new["user"] = {"id": number, "identifier": email, "verified": self._choice.random() < 0.5}
        if self._choice.random() < 0.5:
            new["phoneNumber"] = self._phone()
        self._used_emails.append(email)
        self._save("customer", new)

    def _edit_profile(self) -> None:
        customer = self._some("customer")
        fields = {**customer["customFields"], "marketingConsent": self._choice.random() < 0.5}
        changes = {"lastName": self._choice.choice(LAST_NAMES), "phoneNumber": self._phone(), "customFields": fields}
        self._save("customer", {**customer, **changes})

    def _change_email(self) -> None:
        customer = self._some("customer")
        email = f"moved{self._number()}@example.com"
        user = customer["user"] and {**customer["user"], "identifier": email}
        self._used_emails.append(email)
        self._save("customer", {**customer, "emailAddress": email, "user": user}, moves=False)

    def _edit_addresses(self) -> None:
        """An address is added, and takes over as the default; or one is removed."""
        customer = self._some("customer")
        book = [dict(entry) for entry in customer["addresses"]]
        if len(book) > 2:
            book.pop(self._choice.randrange(len(book)))
        else:
            for entry in book:
                entry.update(defaultShippingAddress=False)
            street, city = self._choice.choice(STREETS), self._choice.choice(CITIES)
            name = f"{customer['firstName']} {customer['lastName']}"
            number = self._choice.randint(1, 99)
            new = documents.address_book_entry(self._number(), name, f"{number} {street}", city, self._phone())
            book.append({**new, "defaultShippingAddress": True, "defaultBillingAddress": not book})
        self._save("customer", {**customer, "addresses": book}, moves=False)

    def _change_groups(self) -> None:
        customer = self._some("customer")
        names = self._choice.sample(GROUPS, self._choice.randint(0, len(GROUPS)))
        groups = [{"id": str(GROUPS.index(name) + 1), "name": name} for name in names]
        self._save("customer", {**customer, "groups": groups}, moves=False)

    def _delete_customer(self) -> None:
        self._remove("customer", self._some("customer")["id"])

    # Orders.

    def _place_order(self) -> None:
        buyer = self._some("customer")
        number = self._number()
        lines = [self._line() for _ in range(self._choice.randint(1, MOST_LINES - 1))]
        self._save("order", documents.order(number, f"STORM{number}", self.now(), buyer, lines))
        self.on_change("customer", buyer["id"])

    def _edit_lines(self) -> None:
        """A line is added, or another quantity wanted; sometimes a coupon comes with it."""
        order = self._some_open_order()
        lines = [dict(line) for line in order["lines"]]
        if len(lines) < MOST_LINES and self._choice.random() < 0.5:
            lines.append(self._line())
        else:
            line = self._choice.choice(lines)
            line.update(documents.line_amounts(line["unitPriceWithTax"], self._choice.randint(0, 5)))
        coupons = self._choice.sample(COUPONS, self._choice.randint(0, 1))
        self._save("order", {**order, "lines": lines, "couponCodes": coupons, **documents.totals(lines)}, moves=False)

    def _print_on_line(self) -> None:
        order = self._some_open_order()
        lines = [dict(line) for line in order["lines"]]
        line = self._choice.choice(lines)
        line["customFields"] = {
            "patchEnabled": True,
            "patchType": self._choice.choice(PATCHES),
            "printName": self._choice.choice(LAST_NAMES).upper(),
            "printNumber": str(self._choice.randint(1, 99)),
            "preOrder": self._choice.random() < 0.3,
        }
        self._save("order", {**order, "lines": lines}, moves=False)

    def _pay(self) -> None:
        order = self._some_open_order()
        paid = documents.payment(self._number(), order["totalWithTax"], self.now())
        state = "Declined" if self._choice.random() < 0.1 else "Settled"
        payments = [*order["payments"], {**paid, "state": state}]
        self._save("order", {**order, "payments": payments, "state": "PaymentSettled"}, moves=False)

    def _refund(self) -> None:
        order = self._some_order(lambda order: any(p["state"] == "Settled" for p in order["payments"]))
        payments = [dict(payment) for payment in order["payments"]]
        payment = self._choice.choice([payment for payment in payments if payment["state"] == "Settled"])
        amount = self._choice.randint(1, payment["amount"])
        payment["refunds"] = [*payment["refunds"], documents.refund(self._number(), amount, self.now())]
        self._save("order", {**order, "payments": payments}, moves=False)

    def _settle_refund(self) -> None:
        order = self._some_order(lambda order: any(_pending_refunds(order)))
        payments = [{**p, "refunds": [{**r, "state": "Settled"} for r in p["refunds"]]} for p in order["payments"]]
        self._save("order", {**order, "payments": payments}, moves=False)

    def _fulfil(self) -> None:
        order = self._some_order(lambda order: order["state"] == "PaymentSettled" and not order["fulfillments"])
        parcel = documents.fulfillment(self._number(), self.now(), order["lines"])
        self._save("order", {**order, "fulfillments": [parcel], "state": "Shipped"}, moves=False)

    def _cancel(self) -> None:
        order = self._some_open_order()
        lines = [{**line, **documents.line_amounts(line["unitPriceWithTax"], 0)} for line in order["lines"]]
        self._save("order", {**order, "state": "Cancelled", "lines": lines, **documents.totals(lines)})

    def _deliver(self) -> None:
        """The shop's own staff set the next stage; from DISPATCHED on with a tracking number."""
        order = self._some_order(lambda order: order["customFields"]["deliveryStage"] != DELIVERY_STAGES[-1])
        stage = DELIVERY_STAGES[_stage_number(order) + 1]
        number = order["customFields"]["trackingNumber"]
        self._set_delivery(order["id"], stage, f"SLP-{self._number()}" if stage == "DISPATCHED" else number)

    def _delete_order(self) -> None:
        self._remove("order", self._some("order")["id"])

    def _set_delivery(self, source_id: str, stage: str | None, tracking_number: str | None) -> None:
        order = self.documents["order"][source_id]
        fields = {"deliveryStage": stage, "trackingNumber": tracking_number}
        changes = order["deliveryStageChanges"]
        if fields != order["customFields"]:
            change = {"id": f"{source_id}-{len(changes) + 1}", "stage": stage, "trackingNumber": tracking_number}
            changes = [*changes, {**change, "changedAt": written(self.now())}]
        self._save("order", {**order, "customFields": fields, "deliveryStageChanges": changes})

    # What all of them do.

    def _save(self, entity: Entity, document: Document, *, moves: bool = True) -> None:
        """Save a document; `updatedAt` moves with some changes only, as it does in Vendure."""
        if moves:
            document = {**document, "updatedAt": written(self.now())}
        self.documents[entity][document["id"]] = document
        self.on_change(entity, document["id"])

    def _remove(self, entity: Entity, source_id: str) -> None:
        del self.documents[entity][source_id]
        self.on_change(entity, source_id)

    def _some(self, entity: Entity) -> Document:
        known = self.documents[entity]
        return known[self._choice.choice(list(known))]

    def _some_order(self, is_fit: Callable[[Document], bool]) -> Document:
        """Return an order that is fit; raise LookupError if there is none."""
        return self._choice.choice([order for order in self.documents["order"].values() if is_fit(order)])

    def _some_open_order(self) -> Document:
        return self._some_order(lambda order: order["state"] not in {"Cancelled", "Shipped"})

    def _line(self) -> Document:
        price = self._choice.randrange(1000, 9000) * 100
        return documents.line(self._number(), self._choice.randrange(40), self._choice.randint(1, 3), price)

    def _phone(self) -> str:
        return f"07{self._choice.randrange(10**8):08}"

    def _number(self) -> str:
        """Return the next id; of everything, so that no two things are mistaken for each other."""
        self._numbers += 1
        return str(self._numbers)

    def _ids(self, entity: Entity, since: datetime | None) -> list[str]:
        known = self.documents[entity].items()
        return [source_id for source_id, document in known if since is None or _touched(document) >= since]


def _touched(document: Document) -> datetime:
    times = (document.get(name) for name in ("createdAt", "updatedAt", "orderPlacedAt"))
    return max(datetime.fromisoformat(time) for time in times if time)


def _pending_refunds(order: Document) -> Iterator[Any]:
    return (refund for payment in order["payments"] for refund in payment["refunds"] if refund["state"] == "Pending")


def _stage_number(order: Document) -> int:
    return DELIVERY_STAGES.index(order["customFields"]["deliveryStage"] or DELIVERY_STAGES[0])
