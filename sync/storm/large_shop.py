"""A shop with as many orders as you like that holds none of them: a document is made from its number when asked for.

The documents are rendered from a few templates, ready but for numbers, so that a mirror that reads them is the slower
side. Nothing changes in this shop.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from sync.records import Entity
from sync.storm import documents
from sync.storm.documents import Document

ORDERS_PER_CUSTOMER = 5
BEGAN = datetime(2024, 1, 1, tzinfo=UTC)
TEMPLATES = 16
"""Different orders; each number has one of them."""

_NUMBER, _CUSTOMER, _PHONE = 9_111_111_111, 9_222_222_222, "9477@@@@@@@"
"""Stand for an order's number, its customer's, and their phone, while a template is made."""


class _Template(msgspec.Struct, frozen=True):
    """A document's JSON with places for the numbers."""

    text: bytes
    digest: str

    def rendered(self, number: int, customer: int) -> bytes:
        return self.text % {b"n": number, b"c": customer}

    def hash(self, number: int) -> str:
        """Return the hash of the document with this number, without rendering it."""
        return f"{self.digest[:16]}{number:016x}"


class LargeShop:
    """Orders 1 to `orders`, and a customer for every five of them."""

    def __init__(self, orders: int) -> None:
        self._counts: dict[Entity, int] = {"order": orders, "customer": -(-orders // ORDERS_PER_CUSTOMER)}
        choice = random.Random(1)  # noqa: S311 - no secret
        self._orders = [_template(_order(choice)) for _ in range(TEMPLATES)]
        self._customer = _template(_customer())

    def now(self) -> datetime:
        """Return the time by the shop's clock."""
        return datetime.now(UTC)

    def count(self, entity: Entity, since: datetime | None) -> int:
        """Return how many there are; nothing changes here, so `since` the beginning it is all of them or none."""
        return self._counts[entity] if since is None or since <= BEGAN else 0

    def page(
        self, entity: Entity, position: str | None, since: datetime | None, limit: int
    ) -> Iterator[tuple[str, str]]:
        """Yield id and hash of the entities after a position, in the order of their ids."""
        first = int(position or 0) + 1
        for number in range(first, min(first + limit, self.count(entity, since) + 1)):
            yield str(number), self._template(entity, number).hash(number)

    def event(self, entity: Entity, source_id: str) -> bytes:
        """Return what a hook would say of an entity now: JSON."""
        read_at = documents.written(self.now())
        if not source_id.isdecimal() or not 1 <= int(source_id) <= self._counts[entity]:
            gone = {
                "id": f"{entity}-{source_id}",
                "type": f"{entity}.deleted",
                "entityId": source_id,
                "readAt": read_at,
            }
            return msgspec.json.encode({**gone, "hash": None, "data": None})
        number, template = int(source_id), self._template(entity, int(source_id))
        customer = -(-number // ORDERS_PER_CUSTOMER) if entity == "order" else number
        head = b'{"id":"%s-%d","type":"%s.changed","entityId":"%d","readAt":"%s","hash":"%s","data":' % (
            entity.encode(), number, entity.encode(), number, read_at.encode(), template.hash(number).encode(),
        )  # fmt: skip
        return head + template.rendered(number, customer) + b"}"

    def set_delivery(self, source_id: str, stage: str | None, tracking_number: str | None) -> bool:
        """Return whether an order was told its delivery: never, for nothing changes here."""
        return False

    def _template(self, entity: Entity, number: int) -> _Template:
        return self._orders[number % TEMPLATES] if entity == "order" else self._customer


def _template(document: Document) -> _Template:
    text = documents.encode(document).replace(b"%", b"%%")
    for stand_in, place in ((_NUMBER, b"%(n)d"), (_CUSTOMER, b"%(c)d"), (_PHONE, b"9477%(c)07d")):
        text = text.replace(str(stand_in).encode(), place)
    return _Template(text, documents.digest(text))


def _customer() -> Document:
    shopper = documents.customer(
        str(_CUSTOMER), BEGAN, first_name="Nimal", last_name="Perera", email=f"customer-{_CUSTOMER}@example.com"
    )
    shopper["phoneNumber"] = _PHONE
    shopper["addresses"] = [
        documents.address_book_entry(f"{_CUSTOMER}-{n}", "Nimal Perera", f"{n} Temple Lane", "Colombo 05", _PHONE)
        for n in range(2)
    ]
    shopper["addresses"][0].update(defaultShippingAddress=True, defaultBillingAddress=True)
    return shopper


def _order(choice: random.Random) -> Document:
    placed = BEGAN + timedelta(minutes=choice.randrange(-500_000, 0))
    document = documents.order(str(_NUMBER), f"LARGE{_NUMBER}", placed, _customer(), _lines(choice))
    document["billingAddress"] = document["shippingAddress"]
    paid = documents.payment(f"{_NUMBER}", document["totalWithTax"], placed)
    document.update(state="PaymentSettled", payments=[{**paid, "state": "Settled"}])
    if choice.random() < 0.5:
        _deliver(document, placed, choice)
    return document


def _lines(choice: random.Random) -> Sequence[Document]:
    return [
        documents.line(f"{_NUMBER}-{n}", choice.randrange(40), choice.randint(1, 3), choice.randrange(1000, 9000) * 100)
        for n in range(choice.randint(1, 3))
    ]


def _deliver(document: Document, placed: datetime, choice: random.Random) -> None:
    stages = ("SOURCING", "ARRIVED", "DISPATCHED", "DELIVERED")[: choice.randint(1, 4)]
    number = "SLP-200011" if len(stages) > 2 else None
    document["customFields"] = {"deliveryStage": stages[-1], "trackingNumber": number}
    document["deliveryStageChanges"] = [
        {
            "id": f"{_NUMBER}-{day}",
            "stage": stage,
            "trackingNumber": number if day > 2 else None,
            "changedAt": documents.written(placed + timedelta(days=day)),
        }
        for day, stage in enumerate(stages, 1)
    ]
