"""The truth to compare with: what the Admin API says of every customer and every placed order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.databases import fetch
from tests.e2e.graphql import Session
from tests.e2e.shop import Shop

DOCUMENTS = Path(__file__).with_name("documents.graphql")
PAGE = 50
PLACED = {"orderPlacedAt": {"isNull": False}}


def read_documents(shop: Shop, admin: Session) -> dict[str, Any]:
    """All customers and placed orders, in the order of their ids; of soft-deleted customers the ids only."""
    deleted = fetch(shop.dsn, 'select id::text from customer where "deletedAt" is not null order by customer.id')
    return {
        "customers": _all(admin, "Customers", {}),
        "deletedCustomers": [row["id"] for row in deleted],
        "orders": _all(admin, "Orders", PLACED),
    }


def _all(admin: Session, operation: str, condition: dict[str, Any]) -> list[dict[str, Any]]:
    """Every page of a list; a list that changes meanwhile is an error, for it would not be the truth."""
    items: list[dict[str, Any]] = []
    while True:
        options = {"skip": len(items), "take": PAGE, "sort": {"id": "ASC"}, "filter": condition}
        page = admin.query(DOCUMENTS.read_text(), operation=operation, options=options)
        items += page["items"]
        if len(items) == page["totalItems"]:
            return items
        if not page["items"]:
            raise RuntimeError(f"The shop says it has {page['totalItems']} {operation}, but gave {len(items)}.")
