"""Who may do what with every table, view and function: the one place where it is written down.

`docs/access.md` is made from this (`uv run task docs:access`), and `test_access_matrix.py` tries all of it. An object
that is missing here fails the build: decide who may use it, and add it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

OPERATIONS = ("select", "insert", "update", "delete")

LINKED_USER = UUID("11111111-1111-4111-8111-111111111111")
OTHER_USER = UUID("22222222-2222-4222-8222-222222222222")
STRANGER = UUID("33333333-3333-4333-8333-333333333333")
PHONE = "94771234567"
EMAIL = "customer1@example.com"
STORE = "{store}"
"""Stands for the id of the default store, which is another one in every database."""


@dataclass(frozen=True)
class Person:
    """Somebody with a token: its role and its other claims, and whose rows (the customer's source_id) it opens."""

    name: str
    role: str
    claims: dict[str, Any] = field(default_factory=dict)
    is_customer: str | None = None


PEOPLE = (
    Person("anon", "anon"),
    Person("the customer, linked", "authenticated", {"sub": str(LINKED_USER)}, "1"),
    Person(
        "the customer, by a proved phone",
        "authenticated",
        {"sub": str(STRANGER), "mirror_store": STORE, "mirror_phone": PHONE},
        "1",
    ),
    Person("another customer", "authenticated", {"sub": str(OTHER_USER)}, "2"),
    Person(
        "a user with the customer's e-mail or phone",
        "authenticated",
        {"sub": str(STRANGER), "email": EMAIL, "phone": PHONE, "user_metadata": {"email_verified": True}},
    ),
    Person(
        "a user with forged user_metadata",
        "authenticated",
        {
            "sub": str(STRANGER),
            "user_metadata": {
                "sub": str(LINKED_USER), "role": "service_role", "email": EMAIL, "phone": PHONE, "phone_verified": True,
                "mirror_store": STORE, "mirror_phone": PHONE,
            },
        },
    ),
    Person("service_role", "service_role"),
)  # fmt: skip


@dataclass(frozen=True)
class Access:
    """What a table or view lets people do.

    `own` is the SQL condition for the rows of customer $1, which customers may read; None where they may read none.
    `own_columns` are the only ones that they may read of them, where those are not all: `select *` is refused.
    `service` is what service_role may do with all rows; `update_columns` narrows its updates. A view has no policy of
    its own: what it shows is under those of its tables.
    """

    service: tuple[str, ...]
    own: str | None = None
    own_columns: tuple[str, ...] = ()
    update_columns: tuple[str, ...] = ()
    is_view: bool = False

    def allows(self, person: Person, operation: str) -> bool:
        if person.role == "service_role":
            return operation in self.service
        return (
            person.role == "authenticated" and self.own is not None and operation == "select" and not self.own_columns
        )


_CUSTOMER = "(select id from public.customers where source_id = $1)"
_ORDERS = f"(select id from public.customer_orders_summary where customer_id in {_CUSTOMER})"
_PAYMENTS = f"(select id from public.payments where customer_id in {_CUSTOMER})"
_PLANS = f"(select plan_id from public.subscriptions where customer_id in {_CUSTOMER})"
_SERVICE_ONLY = Access(service=OPERATIONS)
_SERVICE_VIEW = Access(service=("select",), is_view=True)

RELATIONS = {
    "public.stores": _SERVICE_ONLY,
    "public.customers": Access(OPERATIONS, own=f"id in {_CUSTOMER}"),
    "public.customer_addresses": Access(OPERATIONS, own=f"customer_id in {_CUSTOMER}"),
    "public.customer_orders_summary": Access(OPERATIONS, own=f"id in {_ORDERS}"),
    "public.customer_order_items": Access(OPERATIONS, own=f"order_summary_id in {_ORDERS}"),
    "public.order_delivery_status": Access(OPERATIONS, own=f"order_summary_id in {_ORDERS}"),
    "public.order_delivery_status_events": Access(("select", "insert"), own=f"order_summary_id in {_ORDERS}"),
    "public.order_tracking": Access(("select",), own=f"id in {_ORDERS}", is_view=True),
    "public.orders_needing_attention": _SERVICE_VIEW,
    "public.payments": Access(
        OPERATIONS,
        own=f"id in {_PAYMENTS}",
        own_columns=(
            "id",
            "order_summary_id",
            "customer_id",
            "method",
            "amount",
            "currency",
            "status",
            "amount_refunded",
            "initiated_at",
            "paid_at",
        ),
    ),
    "public.refunds": Access(
        OPERATIONS,
        own=f"payment_id in {_PAYMENTS}",
        own_columns=("id", "payment_id", "order_summary_id", "amount", "currency", "status", "initiated_at"),
    ),
    "public.subscriptions": Access(
        OPERATIONS,
        own=f"customer_id in {_CUSTOMER}",
        own_columns=(
            "id",
            "customer_id",
            "plan_id",
            "status",
            "quantity",
            "started_at",
            "current_period_start",
            "current_period_end",
            "trial_ends_at",
            "cancel_at_period_end",
            "cancel_at",
            "cancelled_at",
            "ended_at",
        ),
    ),
    "public.subscription_plans": Access(
        OPERATIONS,
        own=f"id in {_PLANS}",
        own_columns=("id", "name", "amount", "currency", "billing_interval", "interval_count", "trial_days"),
    ),
    "public.invoices": Access(
        OPERATIONS,
        own=f"customer_id in {_CUSTOMER} and status <> 'draft'",
        own_columns=(
            "id",
            "order_summary_id",
            "customer_id",
            "subscription_id",
            "number",
            "status",
            "currency",
            "sub_total",
            "tax",
            "total",
            "amount_paid",
            "amount_due",
            "tax_breakdown",
            "issued_at",
            "due_at",
            "paid_at",
            "pdf_url",
            "hosted_url",
        ),
    ),
    "public.customer_payments": Access(("select",), own=f"id in {_PAYMENTS}", is_view=True),
    "public.customer_refunds": Access(("select",), own=f"payment_id in {_PAYMENTS}", is_view=True),
    "public.customer_subscriptions": Access(("select",), own=f"customer_id in {_CUSTOMER}", is_view=True),
    "public.customer_invoices": Access(
        ("select",), own=f"customer_id in {_CUSTOMER} and status <> 'draft'", is_view=True
    ),
    "public.fulfillments": _SERVICE_ONLY,
    "public.lexoffice_sync_logs": Access(service=("select", "insert", "update")),
    "public.order_events": _SERVICE_ONLY,
    "public.import_batches": _SERVICE_ONLY,
    "public.order_batch_assignments": _SERVICE_ONLY,
    "public.supplier_purchase_lists": _SERVICE_ONLY,
    "public.otp_sessions": _SERVICE_ONLY,
    "mirror.otp_settings": _SERVICE_ONLY,
    "mirror.otp_usage": _SERVICE_ONLY,
    "mirror.sms_deliveries": _SERVICE_ONLY,
    "mirror.request_counts": _SERVICE_ONLY,
    "mirror.request_salt": _SERVICE_ONLY,
    "mirror.integrations": _SERVICE_ONLY,
    "mirror.webhook_events": _SERVICE_ONLY,
    "mirror.batch_numbers": _SERVICE_ONLY,
    "mirror.delivery_stage_counts": _SERVICE_ONLY,
    "mirror.delivery_durations": _SERVICE_ONLY,
    "mirror.delivery_norms": _SERVICE_ONLY,
    "mirror.expected_steps": _SERVICE_ONLY,
    "mirror.outbox": _SERVICE_ONLY,
    "mirror.sync_conflicts": _SERVICE_ONLY,
    "mirror.sync_cursors": _SERVICE_ONLY,
    "mirror.sync_receipts": _SERVICE_ONLY,
    "mirror.retry_schedule": _SERVICE_ONLY,
    "mirror.retention": _SERVICE_ONLY,
    "mirror.seen_events": _SERVICE_ONLY,
    "mirror.sync_runs": _SERVICE_ONLY,
    "mirror.sync_seen": _SERVICE_ONLY,
    "mirror.drift": _SERVICE_ONLY,
    "mirror.hand_edits": Access(service=("select", "delete")),
    "mirror.hook_gaps": _SERVICE_ONLY,
    "mirror.hook_pulse": _SERVICE_ONLY,
    "mirror.provider_payments": _SERVICE_ONLY,
    "mirror.provider_refunds": _SERVICE_ONLY,
    "mirror.lexoffice_settings": _SERVICE_ONLY,
    "mirror.lexoffice_pace": Access(service=("select", "update")),
    "mirror.disagreeing_orders": _SERVICE_VIEW,
    "mirror.unbooked_orders": _SERVICE_VIEW,
    "mirror.stuck_deliveries": _SERVICE_VIEW,
    "mirror.undelivered_orders": _SERVICE_VIEW,
    "mirror.provider_rows": _SERVICE_VIEW,
    "mirror.audit_log": Access(service=("select",)),
    "mirror.schedule": Access(("select", "update"), update_columns=("last_run_at", "last_error")),
}

# Functions are named without their parameters: all of one name have the same rule.
SERVICE_FUNCTIONS = (
    "public.cleanup_expired_otps",
    "public.correct_order_delivery_status",
    "public.export_supplier_purchase_list",
    "public.generate_batch_number",
    "public.get_batch_statistics",
    "public.get_delivery_statistics",
    "public.mirror_call",
    "public.resend_order_deliveries",
    "public.update_customer_statistics",
    "public.update_order_delivery_status",
    "public.push_invoices",
    "mirror.accept_events",
    "mirror.act_as",
    "mirror.acting_role",
    "mirror.activate_customers",
    "mirror.add_order_events",
    "mirror.analyze_grown",
    "mirror.apply_apart",
    "mirror.apply_events",
    "mirror.apply_records",
    "mirror.batch_pre_orders",
    "mirror.batch_stage",
    "mirror.begin_delivery",
    "mirror.begin_request",
    "mirror.begin_run",
    "mirror.breaker_until",
    "mirror.call_statement",
    "mirror.changed_columns",
    "mirror.choose_side",
    "mirror.claim_commands",
    "mirror.claim_events",
    "mirror.claim_invoices",
    "mirror.compare_slice",
    "mirror.complete_history",
    "mirror.confirm_commands",
    "mirror.count_books",
    "mirror.count_commands",
    "mirror.count_ended",
    "mirror.count_events",
    "mirror.count_inbox",
    "mirror.count_pushes",
    "mirror.count_refunded_outside",
    "mirror.count_rows",
    "mirror.current_actor",
    "mirror.default_store_id",
    "mirror.delete_customers",
    "mirror.delete_money",
    "mirror.delete_orders",
    "mirror.delivery_payload",
    "mirror.delivery_statistics",
    "mirror.delivery_steps",
    "mirror.digest",
    "mirror.disagree",
    "mirror.due_reconcile",
    "mirror.end_commands",
    "mirror.find_causes",
    "mirror.find_customer",
    "mirror.find_gone",
    "mirror.find_order",
    "mirror.finish_run",
    "mirror.fold_delivery_rollups",
    "mirror.follow_assignments",
    "mirror.follow_cancellations",
    "mirror.follow_conflicts",
    "mirror.get_readiness",
    "mirror.get_sms_usage",
    "mirror.fresh_addresses",
    "mirror.get_status",
    "mirror.hand_out_commands",
    "mirror.has_money",
    "mirror.hook_silence",
    "mirror.invoice_hash",
    "mirror.is_about",
    "mirror.is_engine",
    "mirror.is_finished_invoice",
    "mirror.is_undelivered",
    "mirror.join_open_batch",
    "mirror.judge_invoice",
    "mirror.keep_otp",
    "mirror.keep_run",
    "mirror.learn_hook_gaps",
    "mirror.lease_requests",
    "mirror.least_uuid_v7",
    "mirror.leave_run",
    "mirror.link_customers",
    "mirror.link_invoices",
    "mirror.link_subscriptions",
    "mirror.list_alarms",
    "mirror.list_events",
    "mirror.list_integrations",
    "mirror.list_rows",
    "mirror.list_stores",
    "mirror.lock_batches",
    "mirror.lock_commands",
    "mirror.lock_customers",
    "mirror.lock_orders",
    "mirror.lock_provider_payments",
    "mirror.meet_payments",
    "mirror.meet_refunds",
    "mirror.merge_deliveries",
    "mirror.move_batch_orders",
    "mirror.move_cursor",
    "mirror.move_to_batch",
    "mirror.next_batch_number",
    "mirror.note_conflicts",
    "mirror.object_to_order",
    "mirror.object_to_tax",
    "mirror.open_batch",
    "mirror.otp_hash",
    "mirror.otp_session_key",
    "mirror.pair_refunds",
    "mirror.payload_hash",
    "mirror.payment_holders",
    "mirror.payments_alone",
    "mirror.pending_migrations",
    "mirror.percentile_hours",
    "mirror.provider_payments_of",
    "mirror.prune",
    "mirror.prune_events",
    "mirror.prune_request_counts",
    "mirror.prune_runs",
    "mirror.queue_commands",
    "mirror.queue_invoices",
    "mirror.read_clock",
    "mirror.read_cursor",
    "mirror.read_customers",
    "mirror.read_differing",
    "mirror.read_found",
    "mirror.read_orders",
    "mirror.recognize_commands",
    "mirror.reconsider_invoices",
    "mirror.record_delivery",
    "mirror.record_money",
    "mirror.recount_batches",
    "mirror.refresh_customer_statistics",
    "mirror.refresh_delivery_norms",
    "mirror.refresh_expected_steps",
    "mirror.refuse_gone",
    "mirror.remove_untold_money",
    "mirror.replace_addresses",
    "mirror.replace_fulfillments",
    "mirror.replace_order_items",
    "mirror.replace_payments",
    "mirror.replace_refunds",
    "mirror.request_otp",
    "mirror.request_sms",
    "mirror.require_run",
    "mirror.reserve_sms",
    "mirror.retry_events",
    "mirror.retry_wait",
    "mirror.rewind_run",
    "mirror.roll_up_deliveries",
    "mirror.run_again",
    "mirror.run_schedule",
    "mirror.serves_country",
    "mirror.settle_commands",
    "mirror.settle_events",
    "mirror.settle_invoices",
    "mirror.settle_sms",
    "mirror.show_event",
    "mirror.show_provider_payments",
    "mirror.skip_events",
    "mirror.slow_lexoffice",
    "mirror.sms_limits",
    "mirror.source_rows",
    "mirror.stage_times",
    "mirror.sum_refunds",
    "mirror.sum_up",
    "mirror.take_in_hand",
    "mirror.take_turn",
    "mirror.tax_shares",
    "mirror.tell_money",
    "mirror.time_stages",
    "mirror.told_events",
    "mirror.track_orders",
    "mirror.try_otp",
    "mirror.upsert_customers",
    "mirror.upsert_invoices",
    "mirror.upsert_money",
    "mirror.upsert_orders",
    "mirror.upsert_plans",
    "mirror.upsert_provider_payments",
    "mirror.upsert_provider_refunds",
    "mirror.upsert_subscriptions",
    "mirror.uuid_v7",
    "mirror.verify_otp",
    "mirror.verify_slice",
    "mirror.voucher_items",
    "mirror.voucher_payload",
    "mirror.why_correct",
    "mirror.why_order",
    "mirror.write_customers",
    "mirror.write_slice",
)

# What triggers run: nobody calls these, whoever makes the change.
TRIGGER_FUNCTIONS = (
    "mirror.audit",
    "mirror.audit_consent",
    "mirror.audit_event",
    "mirror.follow_batch",
    "mirror.follow_changed_orders",
    "mirror.follow_currency",
    "mirror.follow_delivery",
    "mirror.follow_ended_assignments",
    "mirror.follow_moved_assignments",
    "mirror.follow_new_assignments",
    "mirror.follow_new_orders",
    "mirror.follow_resolution",
    "mirror.forget_provider_state",
    "mirror.give_lexoffice_settings",
    "mirror.forget_seen",
    "mirror.give_otp_settings",
    "mirror.guard_assignment",
    "mirror.guard_batch",
    "mirror.guard_command",
    "mirror.guard_conflict",
    "mirror.guard_delivery",
    "mirror.guard_delivery_end",
    "mirror.guard_event",
    "mirror.guard_integration",
    "mirror.guard_order",
    "mirror.guard_push",
    "mirror.guard_retention",
    "mirror.guard_retry_schedule",
    "mirror.guard_store",
    "mirror.keep_phone_proof",
    "mirror.note_hand_edit",
    "mirror.note_part_edit",
    "mirror.queue_changed_invoices",
    "mirror.queue_since",
    "mirror.recount_customer",
    "mirror.refuse_change",
    "mirror.refuse_emptying",
    "mirror.refuse_view_change",
    "mirror.require_tracking_number",
    "mirror.roll_up_changed_deliveries",
    "mirror.roll_up_ended_deliveries",
    "mirror.roll_up_new_deliveries",
    "mirror.take_turn_first",
    "mirror.tell_watchers",
    "mirror.touch_updated_at",
)
