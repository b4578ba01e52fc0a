-- What the silence alarm knows of an integration. Learned from the inbox and kept, for the inbox forgets.

create table mirror.hook_gaps (
    integration_id uuid not null references mirror.integrations (id),
    day date not null,
    hooks bigint not null,
    longest interval not null,
    primary key (integration_id, day)
);

comment on table mirror.hook_gaps is 'How many events came on each day (UTC), and the longest wait for one that came on it.';

create table mirror.hook_pulse (
    integration_id uuid primary key references mirror.integrations (id),
    last_id uuid not null,
    last_at timestamptz not null
);

comment on table mirror.hook_pulse is 'How far the inbox was looked through for gaps: the last event of each integration there.';
