-- Types that tables share. Enums give Studio its dropdowns; domains hold a rule in one place.

create type public.commerce_engine as enum ('vendure', 'shopify', 'woocommerce', 'stripe');
comment on type public.commerce_engine is 'The system that a mirrored row was read from.';

create type public.delivery_stage as enum (
    'ORDER_CONFIRMED', 'SOURCING', 'ARRIVED', 'DISPATCHED', 'DELIVERED'
);
comment on type public.delivery_stage is 'The five stages of a delivery, in the order in which they happen.';

create type public.batch_status as enum (
    'collecting', 'orderedFromSupplier', 'inTransit', 'arrived', 'dispatched', 'completed'
);
comment on type public.batch_status is 'Where an import batch is, in the order in which it happens.';

create type public.purchase_change as enum ('new', 'changed', 'unchanged', 'removed');
comment on type public.purchase_change is 'What became of a line of a purchase list since the export before.';

create type public.address_type as enum ('shipping', 'billing', 'both');
comment on type public.address_type is 'What a customer uses an address for.';

create type public.payment_status as enum ('pending', 'authorized', 'paid', 'failed', 'cancelled');
comment on type public.payment_status is
'What became of a payment. authorized: the money is reserved. What was refunded of a paid one is told apart.';

create type public.refund_status as enum ('pending', 'succeeded', 'failed', 'cancelled');
comment on type public.refund_status is 'What became of a refund. Only one that has succeeded gives money back.';

create type public.plan_interval as enum ('day', 'week', 'month', 'year');
comment on type public.plan_interval is 'What a subscription plan''s interval is counted in.';

create type public.subscription_status as enum (
    'incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'canceled', 'unpaid', 'paused'
);
comment on type public.subscription_status is 'The state of a subscription, in Stripe''s words.';

create type public.invoice_status as enum ('draft', 'open', 'paid', 'uncollectible', 'void');
comment on type public.invoice_status is 'The state of an invoice, in Stripe''s words. open: finished, and to be paid.';

create type mirror.event_state as enum ('pending', 'applied', 'skipped', 'dead');
comment on type mirror.event_state is
'pending: to be applied, now or at available_at. applied: in the tables. skipped: nothing for us in it. '
'dead: cannot be applied; reason says why.';

create type mirror.conflict_policy as enum ('last_write_wins', 'engine_wins', 'ask');
comment on type mirror.conflict_policy is
'What counts where shop and mirror have both changed a delivery since they last agreed: the later change, the shop''s, or '
'what an admin chooses in mirror.sync_conflicts.';

create type mirror.conflict_side as enum ('engine', 'mirror');
comment on type mirror.conflict_side is 'Whose values count: the engine''s, or those of the mirror''s admins.';

create domain public.money_amount as numeric
constraint money_amount_is_finite check (value > '-Infinity' and value < 'Infinity')
constraint money_amount_has_at_most_4_decimals check (value = round(value, 4));
comment on domain public.money_amount is 'An exact amount in major units (1.50 is one rupee fifty), at most 4 decimals.';

create domain public.currency_code as text
constraint currency_code_is_iso_4217 check (value ~ '^[A-Z]{3}$');
comment on domain public.currency_code is 'An ISO 4217 code: LKR, JPY, KWD.';

create domain public.phone_digits as text
constraint phone_digits_is_e164_without_plus check (value ~ '^[1-9][0-9]{5,14}$');
comment on domain public.phone_digits is 'A phone number as digits with country code and no plus: 94771234567.';

create domain public.email_address as text
constraint email_address_is_lower_case check (value = lower(value));
comment on domain public.email_address is 'An e-mail address in lower case.';
