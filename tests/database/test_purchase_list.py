"""The supplier's purchase list: what to buy for a batch, where it comes from, and what changed since it was sent."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.database.shop import Shop, pre_order
from tests.factory import Document

EXPORT = "select * from export_supplier_purchase_list($1) order by variant_sku, print_name nulls first"


def kit(line_id: str, sku: str, quantity: int = 1, **fields: Any) -> Document:
    """Return a pre-ordered line of a kit; `fields` are custom fields, with patch and print."""
    product = {"sku": sku, "name": f"Kit {sku}", "product": {"name": "Kit"}}
    return pre_order(line_id, quantity=quantity, productVariant=product, customFields={"preOrder": True, **fields})


async def export(shop: Shop, batch: UUID) -> list[tuple[Any, ...]]:
    """Export, and return SKU, name printed, quantity, quantity before, and change of each row."""
    columns = ("variant_sku", "print_name", "quantity", "previous_quantity", "change")
    return [tuple(row[column] for column in columns) for row in await shop.admin.run(EXPORT, batch)]


async def test_equal_articles_are_one_row_that_tells_where_it_comes_from(shop: Shop) -> None:
    patched = {"patchEnabled": True, "patchType": "UCL", "printName": "PERERA", "printNumber": "7"}
    await shop.place("1", lines=[kit("a", "M", 2), kit("b", "M", 1, **patched)])
    await shop.place("2", lines=[kit("c", "M", 3), kit("d", "L")])
    (batch,) = await shop.batches()
    rows = await shop.admin.run(EXPORT, batch["id"])
    assert [(r["variant_sku"], r["print_name"], r["quantity"], r["change"]) for r in rows] == [
        ("L", None, 1, "new"), ("M", None, 5, "new"), ("M", "PERERA", 1, "new"),
    ]  # fmt: skip
    assert (rows[2]["patch_enabled"], rows[2]["patch_type"], rows[2]["print_number"]) == (True, "UCL", "7")
    items = await shop.mirror.column(
        "select source_id from public.customer_order_items where id = any($1) order by 1", rows[1]["source_item_ids"]
    )
    assert items == ["a", "c"]
    assert {r["export_number"] for r in rows} == {1}


async def test_cancelled_orders_and_lines_are_not_bought(shop: Shop) -> None:
    await shop.place("1", "2", "3", lines=[kit("a", "M"), kit("b", "L", 0)])
    await shop.cancel("2")
    await shop.remove("3")
    (batch,) = await shop.batches()
    assert await export(shop, batch["id"]) == [("M", None, 1, 0, "new")]


async def test_the_next_export_says_what_changed(shop: Shop) -> None:
    await shop.place("1", lines=[kit("a", "M", 2), kit("b", "L"), kit("c", "S", 4)])
    (batch,) = await shop.batches()
    await export(shop, batch["id"])
    await shop.place("1", lines=[kit("a", "M", 3), kit("c", "S", 4), kit("d", "XL")])
    assert await export(shop, batch["id"]) == [
        ("L", None, 0, 1, "removed"), ("M", None, 3, 2, "changed"),
        ("S", None, 4, 4, "unchanged"), ("XL", None, 1, 0, "new"),
    ]  # fmt: skip
    assert await export(shop, batch["id"]) == [
        ("M", None, 3, 3, "unchanged"), ("S", None, 4, 4, "unchanged"), ("XL", None, 1, 1, "unchanged"),
    ]  # fmt: skip
    await shop.cancel("1")
    assert {row[4] for row in await export(shop, batch["id"])} == {"removed"}
    numbers = await shop.mirror.column("select distinct export_number from public.supplier_purchase_lists order by 1")
    assert numbers == [1, 2, 3, 4]


async def test_an_article_that_was_renamed_is_the_same_article(shop: Shop) -> None:
    await shop.place("1", lines=[kit("a", "M", 2)])
    (batch,) = await shop.batches()
    await export(shop, batch["id"])
    renamed = {"sku": "M", "name": "Home kit, medium", "product": {"name": "Home kit"}}
    await shop.place("2", lines=[pre_order("b", productVariant=renamed)])
    assert await export(shop, batch["id"]) == [("M", None, 3, 2, "changed")]


async def test_what_has_no_sku_is_told_apart_by_its_name(shop: Shop) -> None:
    named = [{"sku": "", "name": name, "product": {"name": "Scarf"}} for name in ("Red", "Red", "Blue")]
    await shop.place("1", lines=[pre_order(str(n), productVariant=variant) for n, variant in enumerate(named)])
    (batch,) = await shop.batches()
    for change in ("new", "unchanged"):
        rows = await shop.admin.run(
            "select * from export_supplier_purchase_list($1) order by variant_name", batch["id"]
        )
        assert [(r["variant_sku"], r["variant_name"], r["quantity"], r["change"]) for r in rows] == [
            (None, "Blue", 1, change), (None, "Red", 2, change),
        ]  # fmt: skip
