-- How often something was asked, shared by all processes that answer. Each takes a part of a limit at a time, and most requests
-- never get here: mirror.lease_requests.

create table mirror.request_counts (
    scope text not null,
    subject text not null,
    used integer not null,
    ends_at timestamptz not null,
    primary key (scope, subject)
) with (fillfactor = 80);

comment on table mirror.request_counts is
'How much of a rate limit is used up or handed out, and until when that counts. What asks rarely is not here.';
comment on column mirror.request_counts.scope is 'Which limit.';
comment on column mirror.request_counts.subject is
'Whose: the salted hash of a network address, an order''s code, a phone number or an integration.';
comment on column mirror.request_counts.used is 'More than the limit: somebody was refused.';
comment on column mirror.request_counts.ends_at is 'From then on it begins anew.';

create index request_counts_ends_at on mirror.request_counts (ends_at);

create table mirror.request_salt (
    is_only boolean primary key default true check (is_only),
    salt text not null
    default encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex') check (salt <> '')
);

comment on table mirror.request_salt is
'Goes into the hashes of mirror.request_counts, so that they tell nothing elsewhere. One row.';

insert into mirror.request_salt default values;
