"""Finished invoices are booked in Lexware Office: once, whatever dies; as they are, or not at all; not too fast."""

from __future__ import annotations

import asyncio
import io
from contextlib import suppress
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest
from rich.console import Console

from api.watch import render
from sync.daemon import Daemon
from sync.database import connect
from sync.lexoffice.api import Lexoffice
from sync.lexoffice.push import Push
from sync.lexoffice.pushes import Counts
from sync.report import print_status
from sync.settings import Address, load_settings
from sync.status import read_status
from tests.factory import order_changed
from tests.flow.daemons import daemon
from tests.flow.serving import until
from tests.lexoffice import Books, breaks, fails, invoice, refusal, serving_lexoffice, share
from tests.mirror import Mirror
from tests.rest.gateway import both_doors


@pytest.fixture
async def books(mirror: Mirror) -> Books:
    return await Books.open(mirror.database, mirror.connection)


@both_doors
async def test_a_finished_invoice_becomes_a_voucher_in_exact_amounts(books: Books) -> None:
    await books.issue(invoice())
    assert await books.push().run() == Counts(sent=1)
    (voucher,) = books.fake.vouchers
    sent = books.fake.requests[1].content.decode()
    assert '"totalGrossAmount": 119.00' in sent
    assert '"taxAmount": 19.00' in sent
    expected = {
        "type": "salesinvoice", "voucherNumber": "RE-in_1", "voucherDate": "2026-11-19", "dueDate": "2026-11-19",
        "taxType": "gross", "useCollectiveContact": True, "remark": "Erika Mustermann, Stripe in_1",
    }  # fmt: skip
    assert {name: voucher[name] for name in expected} == expected
    log = await books.log()
    assert (log["status"], log["voucher_id"], log["attempts"], log["reason"]) == ("sent", voucher["id"], 1, None)
    assert log["requested_at"] is None
    assert len(log["payload_hash"]) == 64
    assert voucher["id"] in log["response"]
    assert await books.push().run() == Counts()
    assert len(books.fake.requests) == 2


async def test_mixed_rates_become_a_position_each(books: Books) -> None:
    breakdown = [
        share("19", "50.00", "9.50"),
        share("7", "100.00", "7.00"),
        share("19", "50.00", "9.50"),
        share("0", "100.00", "0"),
    ]
    await books.issue(invoice(total=Decimal("326.00"), tax=Decimal("26.00"), tax_breakdown=breakdown))
    await books.push().run()
    (voucher,) = books.fake.vouchers
    assert [(i["taxRatePercent"], i["amount"], i["taxAmount"]) for i in voucher["voucherItems"]] == [
        (19, 119.0, 19.0), (7, 107.0, 7.0), (0, 100.0, 0.0)
    ]  # fmt: skip


async def test_what_is_not_finished_is_not_booked(books: Books) -> None:
    await books.issue(invoice("in_1", status="draft", number=None), invoice("in_2", status="void"))
    assert await books.push().run() == Counts()
    assert (await books.log("in_1"), await books.log("in_2")) == ({}, {})


async def test_only_invoices_since_the_first_day_are_booked_unless_an_earlier_one_is_said(books: Books) -> None:
    await books.connection.execute("update mirror.lexoffice_settings set books_since = null")
    await books.issue(invoice())
    assert await books.push().run() == Counts()
    since = await books.connection.fetchval("select books_since from mirror.lexoffice_settings")
    assert since == await books.connection.fetchval("select (now() at time zone 'Europe/Berlin')::date")
    await books.connection.execute("update mirror.lexoffice_settings set books_since = '2026-11-19'")
    assert await books.push().run() == Counts(sent=1)


async def test_a_voucher_that_is_there_already_is_not_created_again(books: Books) -> None:
    await books.issue(invoice())
    await books.push().run()
    await books.forget()
    assert await books.push().run() == Counts(sent=1)
    assert books.fake.numbers() == ["RE-in_1"]


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """Lets a process die before or after one of what it asks of the database or of Lexware Office."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.count = 0

    def moment(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise Killed

    def over(self, inner: Any, *names: str) -> Any:
        class Over:
            def __getattr__(_, name: str) -> Any:  # noqa: N805
                call = getattr(inner, name)

                async def mortal(*args: Any, **kwargs: Any) -> Any:
                    self.moment()
                    answer = await call(*args, **kwargs)
                    self.moment()
                    return answer

                return mortal if name in names else call

        return Over()

    async def push(self, books: Books) -> None:
        database = self.over(books.database, "call", "rows")
        lexoffice = self.over(books.fake.client(), "find", "create")
        with suppress(Killed):
            await Push(database, lexoffice).run()


@both_doors
async def test_no_death_at_any_moment_creates_a_second_voucher(books: Books) -> None:
    alive = Mortal(None)
    await books.issue(invoice("in_0"))
    await alive.push(books)
    moments = alive.count
    assert moments >= 12
    for first in range(1, moments + 1):
        await books.issue(invoice(f"in_{first}"))
        await Mortal(first).push(books)
        await books.time_passes()
        for second in range(1, 5):
            await Mortal(second * 2 + first % 2).push(books)
            await books.time_passes()
        await books.push().run()
        assert books.fake.numbers().count(f"RE-in_{first}") == 1, f"died at moment {first}"
        assert (await books.log(f"in_{first}"))["status"] == "sent"


async def test_two_deaths_around_the_creation_create_no_second_voucher(books: Books) -> None:
    for first in range(8, 13):
        for second in range(1, 13):
            name = f"in_{first}_{second}"
            await books.issue(invoice(name))
            await Mortal(first).push(books)
            await books.time_passes()
            await Mortal(second).push(books)
            await books.time_passes()
            await books.push().run()
            assert books.fake.numbers().count(f"RE-{name}") == 1
            assert (await books.log(name))["status"] == "sent"


async def test_nobody_looks_before_what_was_asked_for_must_have_ended(books: Books) -> None:
    await books.issue(invoice())
    books.fake.next += [books.fake.answer, fails(504)]
    assert await books.push().run() == Counts(retried=1)
    await books.lease_lapses()
    assert await books.push().run() == Counts()
    await books.time_passes()
    assert await books.push().run() == Counts(sent=1)


async def test_a_sender_that_comes_late_does_not_ask(books: Books) -> None:
    await books.issue(invoice())
    asked, lexoffice = asyncio.Event(), books.fake.client()

    class Slow(Lexoffice):
        async def find(self, number: str) -> Any:
            found = await lexoffice.find(number)
            asked.set()
            await taken_over.wait()
            return found

    taken_over = asyncio.Event()
    late = asyncio.create_task(Push(books.database, Slow(httpx.AsyncClient())).run())
    await asked.wait()
    await books.time_passes()
    assert await books.push().run() == Counts(sent=1)
    taken_over.set()
    await late
    assert books.fake.numbers() == ["RE-in_1"]
    assert (await books.log())["status"] == "sent"


async def test_what_was_not_answered_is_looked_for(books: Books) -> None:
    def lost(request: httpx.Request) -> httpx.Response:
        books.fake.answer(request)
        raise httpx.RemoteProtocolError("broken")

    for number, answer in enumerate((fails(500), fails(504), breaks(httpx.ReadError), lost)):
        name = f"in_{number}"
        await books.issue(invoice(name))
        books.fake.next += [books.fake.answer, answer]
        assert await books.push().run() == Counts(retried=1)
        log = await books.log(name)
        assert log["requested_at"] is not None
        assert log["reason"].startswith(("Lexware Office answered", "The line"))
        assert books.fake.numbers().count(f"RE-{name}") == (answer is lost)
        await books.time_passes()
        assert await books.push().run() == Counts(sent=1)
        assert books.fake.numbers().count(f"RE-{name}") == 1
        assert (await books.log(name))["retry_count"] == 1


async def test_too_many_requests_slow_everybody_down_and_count_no_attempt(books: Books) -> None:
    await books.issue(invoice("in_1"), invoice("in_2"))
    books.fake.next += [books.fake.answer, fails(429)]
    assert await books.push().run() == Counts(retried=2)
    assert len(books.fake.requests) == 2
    wait = await books.connection.fetchval("select next_at - clock_timestamp() > '1 second' from mirror.lexoffice_pace")
    assert wait
    assert (await books.log("in_1"))["requested_at"] is None
    assert (await books.log("in_2"))["attempts"] == 0
    await books.connection.execute("update mirror.lexoffice_pace set next_at = now()")
    await books.time_passes()
    assert await books.push().run() == Counts(sent=2)
    assert await books.connection.fetchval("select strikes from mirror.lexoffice_pace") == 0


async def test_a_key_that_is_not_right_is_nobodys_fault(books: Books) -> None:
    await books.issue(invoice("in_1"), invoice("in_2"))
    books.fake.next += [fails(401)]
    assert await books.push().run() == Counts(retried=2)
    assert len(books.fake.requests) == 1
    log = await books.log("in_1")
    assert (log["status"], log["attempts"]) == ("pending", 0)
    assert "Lexware Office" in log["reason"]


async def test_what_lexware_office_refuses_says_why_and_is_tried_again_by_hand(books: Books) -> None:
    await books.issue(invoice())
    books.fake.next += [books.fake.answer, lambda _: refusal("voucherItems[0].categoryId", "invalid_value")]
    assert await books.push().run() == Counts(refused=1)
    log = await books.log()
    assert log["reason"] == "Lexware Office answered 406: voucherItems[0].categoryId: invalid_value"
    assert "invalid_value" in log["response"]
    assert await books.push().run() == Counts()
    assert await books.connection.fetchval("select public.push_invoices()") == 1
    assert await books.push().run() == Counts(sent=1)


async def test_other_settings_have_what_was_refused_sent_again(books: Books) -> None:
    await books.issue(invoice())
    books.fake.next += [books.fake.answer, lambda _: refusal("voucherItems[0].categoryId", "invalid_value")]
    await books.push().run()
    await books.connection.execute(
        "update mirror.lexoffice_settings set category_id = '8f8664a0-fd86-11e1-a21f-0800200c9a66'"
    )
    assert await books.push().run() == Counts(sent=1)


async def test_a_voucher_of_another_amount_is_left_to_a_person(books: Books) -> None:
    await books.issue(invoice())
    other = {
        "id": "v",
        "type": "salesinvoice",
        "voucherNumber": "RE-in_1",
        "totalGrossAmount": 100,
        "totalTaxAmount": "0",
    }
    books.fake.vouchers.append(other)
    assert await books.push().run() == Counts(refused=1)
    assert "of 100 with 0 of tax, and the invoice is of 119.00 with 19.00" in (await books.log())["reason"]
    books.fake.vouchers.append(other)
    await books.connection.execute("select public.push_invoices()")
    await books.push().run()
    assert "has 2 sales invoices with the number RE-in_1" in (await books.log())["reason"]
    assert len(books.fake.vouchers) == 2


async def test_a_purchase_with_the_same_number_is_another_thing(books: Books) -> None:
    await books.issue(invoice())
    books.fake.vouchers.append(
        {"id": "v", "type": "purchaseinvoice", "voucherNumber": "RE-in_1", "totalGrossAmount": 1, "totalTaxAmount": 0}
    )
    assert await books.push().run() == Counts(sent=1)


async def test_an_invoice_that_is_voided_after_it_was_booked_is_to_be_corrected(books: Books) -> None:
    await books.issue(invoice())
    await books.push().run()
    await books.issue(invoice(version=1, status="void"))
    log = await books.log()
    assert (log["status"], log["reason"]) == (
        "to_correct", "it was voided after it was booked: void the voucher in Lexware Office"
    )  # fmt: skip
    await books.connection.execute("update public.lexoffice_sync_logs set status = 'sent'")
    assert (await books.log())["reason"].startswith("corrected, says ")
    assert await books.push().run() == Counts()


async def test_what_is_booked_is_to_be_corrected_only_if_its_amounts_change(books: Books) -> None:
    await books.issue(invoice())
    await books.push().run()
    await books.issue(invoice(version=1, status="uncollectible", tax_breakdown=[share(None, "100.00", "19.00")]))
    assert (await books.log())["status"] == "sent"
    await books.issue(invoice(version=2, total=Decimal("120.00")))
    log = await books.log()
    assert (log["status"], log["reason"]) == (
        "to_correct", "it has another number, date or amounts than were booked"
    )  # fmt: skip


async def test_an_invoice_that_is_voided_while_it_is_booked_is_to_be_corrected(books: Books) -> None:
    await books.issue(invoice())

    def voided(request: httpx.Request) -> httpx.Response:
        books.fake.answer(request)
        raise httpx.ReadTimeout("too late")

    books.fake.next += [books.fake.answer, voided]
    await books.push().run()
    await books.issue(invoice(version=1, status="void"))
    await books.time_passes()
    await books.push().run()
    assert (await books.log())["status"] == "to_correct"
    assert len(books.fake.vouchers) == 1


async def test_an_invoice_that_is_voided_before_it_is_booked_is_left_out(books: Books) -> None:
    await books.issue(invoice())
    await books.issue(invoice(version=1, status="void"))
    assert await books.push().run() == Counts(skipped=1)
    assert books.fake.requests == []


async def test_a_voided_invoice_that_may_be_there_is_looked_for_and_not_created(books: Books) -> None:
    await books.issue(invoice())
    books.fake.next += [books.fake.answer, fails(500)]
    await books.push().run()
    await books.issue(invoice(version=1, status="void"))
    await books.time_passes()
    await books.push().run()
    assert await books.push().run() == Counts(skipped=1)
    assert books.fake.vouchers == []


async def test_an_invoice_waits_for_its_order_and_is_refused_if_it_differs(books: Books, mirror: Mirror) -> None:
    await books.issue(invoice(order_code="CODE1"))
    assert await books.push().run() == Counts(retried=1)
    assert (await books.log())["reason"] == "its order CODE1 is not here yet"
    order = {"currencyCode": "EUR", "total": 10000, "subTotal": 10000}
    await mirror.take(order_changed("1", 1, **order, totalWithTax=12900, subTotalWithTax=12900))
    assert await books.push().run() == Counts(refused=1)
    assert (await books.log())["reason"] == "its total is 119.00, and that of order CODE1 is 129.00"
    reasons = await books.connection.fetch("select order_code, reason from public.orders_needing_attention")
    assert ("CODE1", "not booked") in [tuple(row) for row in reasons]
    assert books.fake.requests == []
    await mirror.take(order_changed("1", 2, **order, totalWithTax=11900, subTotalWithTax=11900))
    assert await books.push().run() == Counts(sent=1)
    assert books.fake.vouchers[0]["remark"] == "Bestellung CODE1, Erika Mustermann, Stripe in_1"


async def test_two_senders_together_keep_to_two_requests_a_second(address: Address, books: Books) -> None:
    await books.connection.execute("update mirror.lexoffice_pace set spacing = default")
    await books.issue(*(invoice(f"in_{number}") for number in range(4)))
    async with connect(address) as other:
        senders = [Push(each, books.fake.client(), slice_size=2) for each in (books.database, other)]
        counts = await asyncio.gather(*(sender.run() for sender in senders))
    assert sum(each.sent for each in counts) == 4
    assert all(each.sent for each in counts)
    arrivals = books.fake.arrivals
    assert len(arrivals) == 8
    most = max(sum(0 <= other - one < 1 for other in arrivals) for one in arrivals)
    assert most <= 2


async def test_told_to_stop_a_sender_gives_back_what_it_has_not_begun(books: Books) -> None:
    await books.issue(invoice("in_1"), invoice("in_2"))
    stop = asyncio.Event()

    def last(request: httpx.Request) -> httpx.Response:
        stop.set()
        return books.fake.answer(request)

    books.fake.next += [books.fake.answer, last]
    assert await books.push().run(stop) == Counts(sent=1, retried=1)
    assert await books.push().run() == Counts(sent=1)


async def test_status_tells_of_the_books(books: Books) -> None:
    assert (await read_status(books.database)).books == []
    await books.issue(invoice("in_1"), invoice("in_2", currency="USD"), invoice("in_3", total=Decimal(0)))
    await books.push().run()
    (told,) = (await read_status(books.database)).books
    assert (told.store, told.sent, told.refused, told.skipped, told.waiting) == ("default", 1, 1, 1, 0)
    assert told.last_refusal == "invoice RE-in_2: it is in USD, and Lexware Office keeps its books in EUR"
    text = render(await read_status(books.database)).decode()
    assert 'mirror_books{state="refused",store="default"} 1.0' in text
    console = Console(width=200, record=True, file=io.StringIO())
    print_status(console, await read_status(books.database))
    said = console.export_text()
    assert "Lexware Office, default: 1 invoices booked, 1 left out." in said
    assert "1 refused, 0 to be corrected; see lexoffice_sync_logs. The last: invoice RE-in_2: it is in USD" in said


async def test_a_daemon_that_is_killed_while_it_creates_leaves_one_voucher(address: Address, books: Books) -> None:
    is_created = asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        books.fake.answer(request)
        is_created.set()
        await asyncio.sleep(60)
        raise AssertionError("nobody waits for this")

    async def is_settled() -> bool:
        return str((await books.log())["status"]) == "sent"

    books.fake.next += [books.fake.answer, hang]
    async with serving_lexoffice(books.fake) as url:
        variables = {"LEXOFFICE_API_KEY": "a-key", "LEXOFFICE_API_URL": url}
        async with daemon(address, **variables) as killed:
            await books.issue(invoice())
            await asyncio.wait_for(is_created.wait(), 20)
            killed.kill()
            await killed.wait()
        assert (await books.log())["requested_at"] is not None
        await books.time_passes()
        async with daemon(address, **variables) as living:
            await until(is_settled)
            living.terminate()
            assert await asyncio.wait_for(living.wait(), 20) == 0
    assert books.fake.numbers() == ["RE-in_1"]
    assert books.fake.requests[0].headers["authorization"] == "Bearer a-key"


async def test_a_daemon_without_a_key_books_nothing(books: Books) -> None:
    settings = msgspec.structs.replace(load_settings(), poll_seconds=0.05)
    await books.issue(invoice())
    stop = asyncio.Event()
    running = asyncio.create_task(Daemon(books.database, settings).run(stop))
    await asyncio.sleep(0.5)
    assert (await books.log())["attempts"] == 0
    stop.set()
    await running
