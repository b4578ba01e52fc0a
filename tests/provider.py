"""What a payment provider tells, small and right: a test names only what it is about.

Versions are seconds after the tests' ten o'clock.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from sync.database import Database
from sync.records import Deletion, Entity, Invoice, Payment, Plan, Record, Refund, Subscription
from sync.slices import newest_records
from tests.factory import START

CONNECT = """
    insert into mirror.integrations (store_id, slug, engine, secrets_variable)
    select id, 'stripe', 'stripe', 'STRIPE_HOOK_SECRETS' from public.stores where slug = 'default'
    on conflict (slug) do update set slug = excluded.slug
    returning id
"""


class Provider:
    """A payment provider that is connected to the default store."""

    def __init__(self, database: Database, integration: UUID) -> None:
        self._database = database
        self.integration = integration

    @classmethod
    async def over(cls, database: Database, connection: asyncpg.Connection) -> Provider:
        return cls(database, await connection.fetchval(CONNECT))

    async def tell(self, *records: Record) -> Any:
        """Apply records in one slice, the newest of each."""
        documents = newest_records((self.integration, record) for record in records)
        return await self._database.call("apply_records", p_records=documents)


def paid(source_id: str, seconds: float = 1, **fields: Any) -> Payment:
    """Return a payment of 1 000.00 rupees that has succeeded, for nothing in particular."""
    return Payment(
        **{
            **_known(source_id, seconds),
            "order_code": None,
            "order_source_id": None,
            "stripe_customer_id": None,
            "customer_source_id": None,
            "stripe_charge_id": "ch_1",
            "method": "card",
            "amount": Decimal("1000.00"),
            "currency": "LKR",
            "status": "paid",
            "source_status": "succeeded",
            "failure_code": None,
            "failure_reason": None,
            "initiated_at": START,
            "paid_at": START,
            **fields,
        }
    )


def refunded(source_id: str, payment_source_id: str, amount: str, seconds: float = 1, **fields: Any) -> Refund:
    """Return a refund in rupees that has succeeded."""
    return Refund(
        **{
            **_known(source_id, seconds),
            "payment_source_id": payment_source_id,
            "amount": Decimal(amount),
            "currency": "LKR",
            "status": "succeeded",
            "source_status": "succeeded",
            "reason": None,
            "failure_reason": None,
            "initiated_at": START,
            **fields,
        }
    )


def plan(source_id: str, seconds: float = 1, **fields: Any) -> Plan:
    """Return a plan for 10.00 rupees a month."""
    return Plan(
        **{
            **_known(source_id, seconds),
            "stripe_product_id": "prod_1",
            "name": "Kit club",
            "amount": Decimal("10.00"),
            "currency": "LKR",
            "billing_interval": "month",
            "interval_count": 1,
            "trial_days": None,
            "is_active": True,
            **fields,
        }
    )


def subscription(source_id: str, seconds: float = 1, **fields: Any) -> Subscription:
    """Return an active subscription of nobody in particular."""
    nothing = dict.fromkeys(name for name in Subscription.__struct_fields__ if name not in _REQUIRED)
    told = {"status": "active", "cancel_at_period_end": False, "quantity": 1, "started_at": START}
    return Subscription(**{**nothing, **told, **_known(source_id, seconds), **fields})


def invoice(source_id: str, seconds: float = 1, **fields: Any) -> Invoice:
    """Return a paid invoice of 1 000.00 rupees, for nothing in particular."""
    nothing = dict.fromkeys(name for name in Invoice.__struct_fields__ if name not in _REQUIRED)
    amounts = {
        "sub_total": Decimal("847.46"),
        "tax": Decimal("152.54"),
        "total": Decimal("1000.00"),
        "amount_paid": Decimal("1000.00"),
        "amount_due": Decimal("1000.00"),
    }
    told = {"number": f"R-{source_id}", "status": "paid", "currency": "LKR", "tax_breakdown": [], "issued_at": START}
    return Invoice(**{**nothing, **told, **amounts, **_known(source_id, seconds), **fields})


def deleted(entity: Entity, source_id: str, seconds: float) -> Deletion:
    return Deletion(entity=entity, source_id=source_id, source_version=START + timedelta(seconds=seconds))


_REQUIRED = {"source_id", "source_version", "source_order", "source_hash"}


def _known(source_id: str, seconds: float) -> dict[str, Any]:
    return {"source_id": source_id, "source_version": START + timedelta(seconds=seconds)}
