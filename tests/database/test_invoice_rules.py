"""Which invoices the guard lets into the books, as what, and why not."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sync.records import Invoice
from tests.database.studio import studio
from tests.lexoffice import Books, invoice, share
from tests.mirror import Mirror

JUDGE = """
    select j.verdict::text, j.reason, j.payload
    from public.invoices i, mirror.judge_invoice(i) j where i.source_id = $1
"""
CATEGORY = "mirror.lexoffice_settings.untaxed_category_id"
GOODS = "8f8664a8-fd86-11e1-a21f-0800200c9a66"
UNTAXED = "93d24c20-ea84-424e-a731-5e1b78d1e6a9"


@pytest.fixture
async def books(mirror: Mirror) -> Books:
    return await Books.open(mirror.database, mirror.connection)


async def judged(books: Books, told: Invoice) -> tuple[str, str | None, dict[str, Any]]:
    """Return what the guard says of an invoice that nobody has told of before."""
    known = await books.connection.fetchval("select count(*) from public.invoices")
    told = msgspec.structs.replace(told, source_id=f"in_{known + 1}", number=told.number and f"RE-{known + 1}")
    await books.issue(told)
    verdict, reason, payload = await books.connection.fetchrow(JUDGE, told.source_id)  # type: ignore[misc]
    return verdict, reason, json.loads(payload or "{}", parse_float=Decimal)


def of(total: str, tax: str, *shares: Any, **fields: Any) -> Invoice:
    return invoice(total=Decimal(total), tax=Decimal(tax), tax_breakdown=list(shares), **fields)


REFUSED = {
    "no number": (invoice(number=None), "it has no number"),
    "not in euros": (invoice(currency="LKR"), "it is in LKR, and Lexware Office keeps its books in EUR"),
    "negative": (
        of("-119", "-19", share("19", "-100", "-19")), "its total is negative: book it there as a credit note"
    ),
    "less than a cent": (of("119.001", "19", share("19", "100.001", "19")), "it holds amounts of less than a cent"),
    "another rate": (
        of("120", "20", share("20", "100", "20")),
        "it has tax at 20 %, which mirror.lexoffice_settings.tax_rates does not list",
    ),
    "not at its rate": (of("119", "19", share("7", "100", "19")), "19 of tax on 100 is at no rate that is booked"),
    "at no rate": (of("113", "13", share(None, "100", "13")), "13 of tax on 100 is at no rate that is booked"),
    "taxes that do not add up": (
        of("119", "18", share("19", "100", "19.00")), "its taxes make 19.00, and it holds 18 of tax"
    ),
    "parts beyond the total": (
        of("100", "19", share("19", "100", "19")), "its parts make 119, and its total is 100"
    ),
    "a part without tax": (
        of("150", "19", share("19", "100", "19")),
        f"its taxed parts make 119, its total is 150, and {CATEGORY} does not say how the rest is booked",
    ),
    "no tax at all": (of("100", "0"), f"it names no tax, and {CATEGORY} does not say how that is booked"),
    "two unknown amounts": (
        of("226", "26", share("19", None, "19"), share("7", None, "7")), "it does not say which amount each tax is on"
    ),
    "not issued": (invoice(issued_at=None), "it does not say when it was issued"),
}  # fmt: skip


async def test_the_guard_refuses_what_cannot_be_booked_and_says_why(books: Books) -> None:
    said = {name: await judged(books, told) for name, (told, _) in REFUSED.items()}
    assert said == {name: ("refuse", reason, {}) for name, (_, reason) in REFUSED.items()}


ITEMS = {
    "one rate": (of("119", "19", share("19", "100", "19")), [(19, "119.00", "19.00", GOODS)]),
    "a rate that is not told": (of("119", "19", share(None, "100", "19")), [(19, "119.00", "19.00", GOODS)]),
    "an amount that is not told": (of("107", "7", share("7", None, "7")), [(7, "107.00", "7.00", GOODS)]),
    "nothing but the tax": (of("119", "19"), [(19, "119.00", "19.00", GOODS)]),
    "lines rounded apart": (
        of("3.57", "0.57", *(share("19", "1.00", "0.19") for _ in range(3))), [(19, "3.57", "0.57", GOODS)]
    ),
    "a few cents off": (of("119.03", "19.03", share("19.0", "100", "19.03")), [(19, "119.03", "19.03", GOODS)]),
    "explicitly at zero": (
        of("219", "19", share("19", "100", "19"), share("0", "100", "0")),
        [(19, "119.00", "19.00", GOODS), (0, "100.00", "0.00", GOODS)],
    ),
}  # fmt: skip


async def test_what_is_booked_adds_up_exactly(books: Books) -> None:
    for name, (told, items) in ITEMS.items():
        verdict, reason, payload = await judged(books, told)
        assert (verdict, reason) == ("book", None), name
        positions = payload["voucherItems"]
        assert [
            (p["taxRatePercent"], str(p["amount"]), str(p["taxAmount"]), p["categoryId"]) for p in positions
        ] == items, name
        assert sum(Decimal(p["amount"]) for p in positions) == payload["totalGrossAmount"] == told.total, name
        assert sum(Decimal(p["taxAmount"]) for p in positions) == payload["totalTaxAmount"] == told.tax, name


async def test_with_a_category_for_it_the_untaxed_rest_is_booked(books: Books) -> None:
    await books.connection.execute("update mirror.lexoffice_settings set untaxed_category_id = $1", UNTAXED)
    _, _, payload = await judged(books, of("150", "19", share("19", "100", "19")))
    items = [(item["amount"], item["categoryId"]) for item in payload["voucherItems"]]
    assert items == [(Decimal("119.00"), GOODS), (Decimal("31.00"), UNTAXED)]


async def test_a_small_business_books_without_vat(books: Books) -> None:
    await books.connection.execute("update mirror.lexoffice_settings set is_small_business = true")
    verdict, _, payload = await judged(books, of("100", "0"))
    (item,) = payload["voucherItems"]
    assert (verdict, item["taxRatePercent"], item["categoryId"]) == ("book", 0, "f5c7fee8-f184-4e7a-ab04-8f7e7ad6c207")
    assert await judged(books, invoice()) == (
        "refuse", "it has VAT, and mirror.lexoffice_settings says that the shop is a small business", {}
    )  # fmt: skip


async def test_a_breakdown_that_was_spoilt_by_hand_harms_nobody_else(books: Books) -> None:
    await books.issue(invoice("in_1"), invoice("in_2"))
    await books.connection.execute(
        """update public.invoices set tax_breakdown = '[{"tax": "much"}]' where source_id = 'in_1'"""
    )
    assert (await books.push().run()).sent == 1
    assert (await books.log("in_1"))["reason"] == "its tax_breakdown cannot be read"


async def test_two_invoices_with_one_number_are_not_both_booked(books: Books) -> None:
    await books.issue(invoice("in_1", number="7"), invoice("in_2", number="7"))
    counts = await books.push().run()
    assert (counts.sent, counts.refused) == (1, 1)
    assert books.fake.numbers() == ["7"]


async def test_the_log_can_be_edited_only_where_an_admin_has_a_say(books: Books, database: str) -> None:
    await books.issue(invoice())
    await books.push().run()
    log_id = await books.log_id()
    async with studio(database) as admin:
        for cells, message in (
            ({"voucher_id": "x"}, "Of lexoffice_sync_logs only status can be edited."),
            ({"status": "skipped"}, "Invoice RE-in_1 is sent in Lexware Office and cannot become skipped."),
        ):
            with pytest.raises(Exception, match=message):
                await admin.edit("public.lexoffice_sync_logs", log_id, **cells)
        with pytest.raises(Exception, match="cannot be deleted"):
            await admin.delete("public.lexoffice_sync_logs", log_id)
        books.fake.vouchers.clear()
        await admin.edit("public.lexoffice_sync_logs", log_id, status="pending")
    assert (await books.push().run()).sent == 1
    assert books.fake.numbers() == ["RE-in_1"]
    noted = await books.connection.fetchval(
        "select actor from mirror.audit_log where table_name = 'lexoffice_sync_logs'"
    )
    assert noted == "studio"


async def test_another_stores_invoices_are_not_booked_unless_somebody_says_so(books: Books) -> None:
    await books.connection.execute(
        "insert into public.stores (slug, name, currency, phone_region, timezone, locale) "
        "values ('two', 'Two', 'EUR', 'DE', 'Europe/Berlin', 'de')"
    )
    active = await books.connection.fetch(
        "select s.slug, t.is_active from mirror.lexoffice_settings t join public.stores s on s.id = t.store_id "
        "order by s.slug"
    )
    assert [tuple(row) for row in active] == [("default", True), ("two", False)]
