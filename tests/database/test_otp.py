"""SMS codes in the database: limits that hold however many ask at once, and lock nobody out who holds the phone."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from sync.database import Database, Row, connect
from tests.factory import customer_changed, customer_deleted
from tests.mirror import Mirror

PHONE = "94771234567"
HASH = "$2b$10$abcdefghijklmnopqrstuv"
PROCESSES = 6
AT_ONCE = 24


class Codes:
    """Asks for codes and enters them, as several processes do; whether a code is right is for the test to say."""

    def __init__(self, databases: list[Database], connection: asyncpg.Connection) -> None:
        self._databases = itertools.cycle(databases)
        self._sessions = itertools.count(1)
        self.connection = connection

    async def request(self, phone: str = PHONE, **changed: Any) -> tuple[str, Row]:
        """Ask for a code; return the session's id and the answer. The hash is kept, as if the code were sent."""
        session = f"session {next(self._sessions)}"
        arguments = {
            "p_store_slug": "default", "p_phone": phone, "p_country": "LK", "p_purpose": "login",
            "p_session_id": session, "p_requester": "203.0.113.7", "p_segments": 1, "p_segment_price": Decimal(1),
        }  # fmt: skip
        database = next(self._databases)
        (answer,) = await database.rows("request_otp", **(arguments | changed))
        if answer["outcome"] == "send":
            await database.call("keep_otp", p_code_id=answer["code_id"], p_otp_hash=HASH)
        return session, answer

    async def sent(self, phone: str = PHONE, **changed: Any) -> str:
        """Ask for a code that is sent; return the session's id."""
        session, answer = await self.request(phone, **changed)
        assert (answer["outcome"], answer["reason"]) == ("send", None)
        return session

    async def settle(self, answer: Row, outcome: str, cost: str) -> bool:
        settled: bool = await next(self._databases).call(
            "settle_sms", p_delivery_id=answer["delivery_id"], p_outcome=outcome, p_driver="test", p_cost=Decimal(cost),
            p_reason=None,
        )  # fmt: skip
        return settled

    async def attempt(self, session: str) -> tuple[str, int | None]:
        """Begin an attempt at a session's code."""
        (answer,) = await next(self._databases).rows("try_otp", p_session_id=session)
        return answer["outcome"], answer["attempts_left"]

    async def attempts(self, session: str, count: int) -> list[tuple[str, int | None]]:
        return [await self.attempt(session) for _ in range(count)]

    async def verify(self, session: str) -> list[Row]:
        return await next(self._databases).rows("verify_otp", p_session_id=session)

    async def cool_down(self) -> None:
        """Let a minute pass for whoever was sent a code."""
        await self.connection.execute("update public.otp_sessions set sent_at = sent_at - interval '60 seconds'")

    async def set(self, **settings: Any) -> None:
        columns = ", ".join(f"{name} = ${number}" for number, name in enumerate(settings, 1))
        await self.connection.execute(f"update mirror.otp_settings set {columns}", *settings.values())


@pytest.fixture
async def codes(database: str, connection: asyncpg.Connection) -> AsyncIterator[Codes]:
    """Six processes with connections of their own."""
    async with contexts(database) as databases:
        yield Codes(databases, connection)


class contexts:  # noqa: N801 - reads like one
    def __init__(self, dsn: str) -> None:
        self._open = [connect(dsn, connections=4) for _ in range(PROCESSES)]

    async def __aenter__(self) -> list[Database]:
        return [await each.__aenter__() for each in self._open]

    async def __aexit__(self, *_: object) -> None:
        for each in self._open:
            await each.__aexit__(None, None, None)


# Asking


async def test_a_code_holds_for_five_minutes_and_the_next_may_be_asked_for_after_one(codes: Codes) -> None:
    _, answer = await codes.request()
    assert (answer["outcome"], answer["expires_seconds"], answer["wait_seconds"]) == ("send", 300, 60)


async def test_no_code_session_or_address_is_in_the_database(codes: Codes) -> None:
    session, _ = await codes.request(p_requester="203.0.113.7")
    for table in ("public.otp_sessions", "mirror.otp_usage", "mirror.sms_deliveries"):
        rows = str(await codes.connection.fetch(f"select t::text from {table} as t"))
        assert session not in rows
        assert "203.0.113" not in rows
        assert (PHONE in rows) == (table == "public.otp_sessions")


async def test_whoever_asks_again_within_the_cool_down_joins_the_code_that_was_sent(codes: Codes) -> None:
    first, sent = await codes.request()
    second, joined = await codes.request(p_requester="198.51.100.1")
    assert (joined["outcome"], joined["code_id"]) == ("joined", sent["code_id"])
    assert 0 < joined["wait_seconds"] <= 60
    assert 290 <= joined["expires_seconds"] <= 300
    assert [row["phone"] for row in await codes.verify(second)] == [PHONE]
    assert await codes.verify(first) == []
    assert await codes.attempt(first) == ("expired", None)


async def test_only_so_many_wait_for_one_code(codes: Codes) -> None:
    answers = [(await codes.request())[1] for _ in range(3)]
    assert [(answer["outcome"], answer["reason"]) for answer in answers] == [
        ("send", None), ("joined", None), ("refused", "cool-down"),
    ]  # fmt: skip
    assert 0 < answers[2]["wait_seconds"] <= 60


async def test_a_code_for_something_else_is_not_joined(codes: Codes) -> None:
    await codes.set(purposes=["login", "checkout"])
    await codes.sent()
    _, other = await codes.request(p_purpose="checkout")
    assert (other["outcome"], other["reason"]) == ("refused", "cool-down")


async def test_one_code_is_sent_however_many_ask_for_it_at_once(codes: Codes) -> None:
    answers = await asyncio.gather(*(codes.request() for _ in range(AT_ONCE)))
    assert Counter(answer["outcome"] for _, answer in answers) == {"send": 1, "joined": 1, "refused": AT_ONCE - 2}
    for session, answer in answers:
        assert (await codes.attempt(session))[0] == ("expired" if answer["outcome"] == "refused" else "try")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"p_store_slug": "nowhere"}, "store"),
        ({"p_purpose": "sweepstake"}, "purpose"),
        ({"p_country": "GB"}, "country"),
        ({"p_country": ""}, "country"),
    ],
)
async def test_what_a_store_does_not_send_codes_for_is_refused(
    codes: Codes, changed: dict[str, Any], reason: str
) -> None:
    assert (await codes.request(**changed))[1]["reason"] == reason
    assert await codes.connection.fetchval("select count(*) from public.otp_sessions") == 0


async def test_a_store_may_choose_its_countries(codes: Codes) -> None:
    await codes.set(countries=["IN"])
    assert (await codes.request())[1]["reason"] == "country"
    assert (await codes.request("919812345678", p_country="IN"))[1]["outcome"] == "send"


async def test_a_new_store_has_limits_of_its_own(codes: Codes) -> None:
    await codes.connection.execute("""
        insert into public.stores (slug, name, currency, phone_region, timezone, locale)
        values ('second', 'Second shop', 'INR', 'IN', 'Asia/Kolkata', 'en')
    """)
    await codes.sent()
    assert (await codes.request(p_store_slug="second"))[1]["reason"] == "country"
    assert (await codes.request("919812345678", p_country="IN", p_store_slug="second"))[1]["outcome"] == "send"


# Caps

CAPS: dict[str, dict[str, Any]] = {
    "phone hour": {"phone_hourly": 3},
    "phone day": {"phone_daily": 3},
    "requester hour": {"requester_hourly": 3},
    "requester day": {"requester_daily": 3},
    "prefix day": {"prefix_daily": 3},
    "store day": {"store_daily": 3},
    "budget day": {"daily_budget": Decimal(3)},
}


@pytest.mark.parametrize("limit", CAPS)
async def test_a_cap_holds_and_says_until_when(codes: Codes, limit: str) -> None:
    await codes.set(**CAPS[limit])
    for number in range(3):
        await codes.sent(phone_for(limit, number))
        await codes.cool_down()
    _, refused = await codes.request(phone_for(limit, 3))
    assert (refused["outcome"], refused["reason"]) == ("refused", limit)
    lasts = 3600 if limit.endswith("hour") else 24 * 3600
    assert lasts - 60 < refused["wait_seconds"] <= lasts
    await codes.connection.execute("update mirror.otp_usage set ends_at = now()")
    await codes.sent(phone_for(limit, 3))


@pytest.mark.parametrize("limit", [limit for limit in CAPS if not limit.startswith("phone")])
async def test_a_cap_holds_however_many_ask_at_once(codes: Codes, limit: str) -> None:
    await codes.set(**CAPS[limit])
    answers = await asyncio.gather(*(codes.request(phone_for(limit, number)) for number in range(AT_ONCE)))
    assert Counter(answer["outcome"] for _, answer in answers) == {"send": 3, "refused": AT_ONCE - 3}
    assert {answer["reason"] for _, answer in answers} == {None, limit}
    used = await codes.connection.fetchval("select max(used) from mirror.otp_usage where scope = $1", limit)
    assert used == 3, "what was refused is not counted"


def phone_for(limit: str, number: int) -> str:
    """Numbers of one prefix, or of one each; or the same number always, where that is what is counted."""
    if limit.startswith("phone"):
        return PHONE
    return f"9477123{number:04}" if limit.startswith("prefix") else f"94771{number:02}1234"


async def test_a_cap_of_one_number_is_not_another_s(codes: Codes) -> None:
    await codes.set(phone_daily=1)
    await codes.sent()
    await codes.sent("94771234568")


async def test_segments_and_their_price_use_up_the_budget_and_what_was_not_spent_comes_back(codes: Codes) -> None:
    await codes.set(daily_budget=Decimal(10))
    price = {"p_segments": 2, "p_segment_price": Decimal("2.50")}
    _, first = await codes.request(phone_for("store", 1), **price)
    _, second = await codes.request(phone_for("store", 2), **price)
    assert (await codes.request(phone_for("store", 3), **price))[1]["reason"] == "budget day"
    assert await codes.settle(first, "sent", "5.00")
    assert (await codes.request(phone_for("store", 3), **price))[1]["reason"] == "budget day"
    assert await codes.settle(second, "failed", "0")
    assert not await codes.settle(second, "failed", "0")
    assert (await codes.request(phone_for("store", 3), **price))[1]["outcome"] == "send"


async def test_what_was_sent_is_noted(codes: Codes) -> None:
    _, answer = await codes.request(p_segments=2)
    await codes.settle(answer, "sent", "1.28")
    row = await codes.connection.fetchrow("select * from mirror.sms_deliveries")
    assert row is not None
    assert (row["outcome"], row["driver"], row["segments"], row["cost"]) == ("sent", "test", 2, Decimal("1.28"))
    assert (row["purpose"], row["code_id"]) == ("login", answer["code_id"])


async def test_whoever_got_no_text_may_ask_again_at_once(codes: Codes) -> None:
    session, answer = await codes.request()
    await codes.settle(answer, "failed", "0")
    assert await codes.attempt(session) == ("expired", None)
    await codes.sent()


# The breaker


async def test_numbers_whose_neighbours_hardly_ever_enter_a_code_get_none(codes: Codes) -> None:
    await codes.set(breaker_after=5, breaker_share=Decimal("0.25"))
    sessions = [await codes.sent(f"9477123{number:04}") for number in range(5)]
    _, refused = await codes.request("94771230005")
    assert (refused["reason"], refused["outcome"]) == ("breaker", "refused")
    await codes.sent("94771240005")
    for session in sessions[:2]:
        await codes.attempt(session)
        assert await codes.verify(session)
    await codes.sent("94771230005")


# Entering


async def test_five_attempts_and_no_more(codes: Codes) -> None:
    session = await codes.sent()
    assert await codes.attempts(session, 6) == [("try", left) for left in (4, 3, 2, 1, 0)] + [("locked", 0)]


async def test_never_more_than_five_attempts_however_many_come_at_once(codes: Codes) -> None:
    session = await codes.sent()
    outcomes = await asyncio.gather(*(codes.attempt(session) for _ in range(60)))
    assert Counter(outcome for outcome, _ in outcomes) == {"try": 5, "locked": 55}
    assert {left for outcome, left in outcomes if outcome == "try"} == {0, 1, 2, 3, 4}


async def test_a_resend_brings_no_new_attempts_but_those_that_are_assured(codes: Codes) -> None:
    await codes.attempts(await codes.sent(), 3)
    await codes.cool_down()
    assert await codes.attempts(await codes.sent(), 3) == [("try", 1), ("try", 0), ("locked", 0)]
    await codes.cool_down()
    assert await codes.attempts(await codes.sent(), 3) == [("try", 1), ("try", 0), ("locked", 0)]


async def test_an_hour_of_guessing_from_everywhere_is_a_handful_of_guesses(codes: Codes) -> None:
    tried = 0
    for number in range(40):
        session, _ = await codes.request(p_requester=f"198.51.100.{number}")
        outcomes = await asyncio.gather(*(codes.attempt(session) for _ in range(10)))
        tried += sum(outcome == "try" for outcome, _ in outcomes)
        await codes.cool_down() if number % 3 == 2 else None
    assert tried <= 5 + 2 * 2 * 5, "five, and two each for two sessions of each of five codes"


async def test_nobody_can_use_up_the_attempts_of_a_session_that_they_do_not_hold(codes: Codes) -> None:
    attacker = await codes.sent(p_requester="198.51.100.1")
    await codes.attempts(attacker, 5)
    assert await codes.attempt(attacker) == ("locked", 0)
    owner, joined = await codes.request()
    assert joined["outcome"] == "joined"
    assert await codes.attempt(owner) == ("try", 1)
    assert await codes.verify(owner)


async def test_attempts_at_one_purpose_are_not_those_of_another(codes: Codes) -> None:
    await codes.set(purposes=["login", "checkout"])
    await codes.attempts(await codes.sent(), 5)
    await codes.cool_down()
    assert await codes.attempt(await codes.sent(p_purpose="checkout")) == ("try", 4)


async def test_the_right_code_clears_the_attempts(codes: Codes) -> None:
    session = await codes.sent()
    await codes.attempts(session, 5)
    assert await codes.verify(session)
    await codes.cool_down()
    assert await codes.attempt(await codes.sent()) == ("try", 4)


async def test_a_code_is_used_once_however_many_enter_it_at_once(codes: Codes) -> None:
    sessions = [await codes.sent(), (await codes.request())[0]]
    proofs = await asyncio.gather(*(codes.verify(sessions[number % 2]) for number in range(AT_ONCE)))
    assert sum(map(len, proofs)) == 1
    assert {(await codes.attempt(session))[0] for session in sessions} == {"expired"}


async def test_an_expired_session_takes_no_code(codes: Codes) -> None:
    session = await codes.sent()
    await codes.connection.execute("update public.otp_sessions set expires_at = now()")
    assert await codes.attempt(session) == ("expired", None)
    assert await codes.verify(session) == []
    assert await codes.attempt("no session at all") == ("expired", None)


async def test_a_session_takes_no_code_before_its_hash_is_there(codes: Codes) -> None:
    session = await codes.sent()
    await codes.connection.execute("update public.otp_sessions set otp_hash = null")
    assert await codes.attempt(session) == ("expired", None)


async def test_what_is_over_is_cleaned_up(codes: Codes) -> None:
    await codes.sent()
    await codes.connection.execute("update public.otp_sessions set expires_at = now() - interval '1 second'")
    await codes.connection.execute("update mirror.otp_usage set ends_at = now() - interval '1 second'")
    assert await codes.connection.fetchval("select public.cleanup_expired_otps()") == 1
    assert await codes.connection.fetchval("select count(*) from mirror.otp_usage") == 0
    assert await codes.connection.fetchval("select count(*) from mirror.sms_deliveries") == 1


# What a proof does to a customer


async def prove(codes: Codes, phone: str = PHONE) -> int:
    session = await codes.sent(phone)
    await codes.cool_down()
    (proof,) = await codes.verify(session)
    count: int = proof["customers"]
    return count


async def test_a_proof_marks_the_customers_of_the_number_and_nobody_else(codes: Codes, mirror: Mirror) -> None:
    await mirror.take(
        customer_changed("1", 1, phoneNumber="077 123 4567"),
        customer_changed("2", 1, phoneNumber="0771234567"),
        customer_changed("3", 1, phoneNumber="077 123 4568"),
        customer_changed("4", 1, phoneNumber="077 123 4567"),
        customer_deleted("4", 2),
    )
    assert await prove(codes) == 2
    proved = await mirror.column(
        "select phone_verified and phone_proved_at is not null from public.customers order by source_id"
    )
    assert proved == [True, True, False, False]
    assert await prove(codes) == 0, "there is nothing to change"


async def test_a_proof_is_in_the_audit_log(codes: Codes, mirror: Mirror) -> None:
    await mirror.take(customer_changed("1", 1, phoneNumber="077 123 4567"))
    await prove(codes)
    entry = await codes.connection.fetchrow("select * from mirror.audit_log where table_name = 'customers'")
    assert entry is not None
    assert entry["actor"] == "otp"
    assert "true" in entry["new_values"]


async def test_a_proof_in_one_store_says_nothing_in_another(codes: Codes, mirror: Mirror) -> None:
    await mirror.take(customer_changed("1", 1, phoneNumber="077 123 4567"))
    await codes.connection.execute("""
        with second as (
            insert into public.stores (slug, name, currency, phone_region, timezone, locale)
            values ('second', 'Second shop', 'LKR', 'LK', 'Asia/Colombo', 'en') returning id
        )
        update public.customers set store_id = second.id from second
    """)
    assert await prove(codes) == 0
    assert not (await mirror.customer("1"))["phone_verified"]


async def test_the_engine_cannot_take_back_what_it_knows_nothing_of(codes: Codes, mirror: Mirror) -> None:
    await mirror.take(customer_changed("1", 1, phoneNumber="077 123 4567"))
    await prove(codes)
    await mirror.take(customer_changed("1", 2, phoneNumber="+94771234567", firstName="Kamal"))
    customer = await mirror.customer("1")
    assert (customer["first_name"], customer["phone_verified"]) == ("Kamal", True)


async def test_another_number_is_not_proved(codes: Codes, mirror: Mirror) -> None:
    await mirror.take(customer_changed("1", 1, phoneNumber="077 123 4567"))
    await prove(codes)
    await mirror.take(customer_changed("1", 2, phoneNumber="077 765 4321"))
    customer = await mirror.customer("1")
    assert (customer["phone_verified"], customer["phone_proved_at"]) == (False, None)
    await mirror.take(customer_changed("1", 3, phoneNumber="077 123 4567"))
    assert not (await mirror.customer("1"))["phone_verified"], "nor is the first one again"


async def test_a_number_that_is_changed_by_hand_is_not_proved(codes: Codes, mirror: Mirror) -> None:
    await mirror.take(customer_changed("1", 1, phoneNumber="077 123 4567"))
    await prove(codes)
    await codes.connection.execute("update public.customers set phone_number = '94777654321'")
    customer = await mirror.customer("1")
    assert (customer["phone_verified"], customer["phone_proved_at"]) == (False, None)


async def test_an_admin_can_take_a_proof_back(codes: Codes, mirror: Mirror) -> None:
    await mirror.take(customer_changed("1", 1, phoneNumber="077 123 4567"))
    await prove(codes)
    await codes.connection.execute("update public.customers set phone_verified = false")
    await mirror.take(customer_changed("1", 2, phoneNumber="077 123 4567"))
    customer = await mirror.customer("1")
    assert (customer["phone_verified"], customer["phone_proved_at"]) == (False, None)


async def test_a_proof_is_no_edit_by_hand_and_taking_it_back_is_one(codes: Codes, mirror: Mirror) -> None:
    await mirror.take(
        customer_changed("1", 1, phoneNumber="077 123 4567"),
        customer_changed("2", 1, phoneNumber="077 123 4567", customFields={"phoneVerified": True}),
    )
    edits = "select columns from mirror.hand_edits order by source_id"
    assert await prove(codes) == 2
    assert await mirror.column(edits) == []
    await codes.connection.execute("update public.customers set phone_verified = false")
    noted = await mirror.column(edits)
    assert [{"phone_proved_at", "phone_verified"} <= set(columns) for columns in noted] == [True, True]


# Texts for Supabase Auth


async def ask_for_text(codes: Codes, message_id: str, **changed: Any) -> Row:
    arguments = {
        "p_store_slug": "default", "p_phone": PHONE, "p_country": "LK", "p_message_id": message_id, "p_segments": 1,
        "p_segment_price": Decimal(1),
    }  # fmt: skip
    (answer,) = await next(codes._databases).rows("request_sms", **(arguments | changed))
    return answer


async def test_a_text_for_supabase_counts_against_the_same_caps(codes: Codes) -> None:
    await codes.set(phone_hourly=2)
    await codes.sent()
    assert (await ask_for_text(codes, "a"))["outcome"] == "send"
    refused = await ask_for_text(codes, "b")
    assert (refused["outcome"], refused["reason"], refused["delivery_id"]) == ("refused", "phone hour", None)
    assert (await ask_for_text(codes, "c", p_country="GB"))["reason"] == "country"
    assert (await ask_for_text(codes, "c", p_store_slug="nowhere"))["reason"] == "store"


async def test_the_same_hook_is_one_text_however_often_it_comes(codes: Codes) -> None:
    outcomes = [answer["outcome"] for answer in await asyncio.gather(*(ask_for_text(codes, "a") for _ in range(12)))]
    assert Counter(outcomes) == {"send": 1, "duplicate": 11}
