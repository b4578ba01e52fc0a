-- How long what failed waits for its next attempt. A schedule is data: it is read at each failure, so an edit counts at once.

create type mirror.retried_work as enum ('event', 'command');
comment on type mirror.retried_work is
'event: of the inbox, waiting for the database. command: of the outbox, waiting for the engine.';

create table mirror.retry_schedule (
    id uuid primary key default mirror.uuid_v7(),
    work mirror.retried_work not null,
    attempt integer not null,
    wait interval,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (work, attempt)
);

comment on table mirror.retry_schedule is
'How long an event or a command that failed for now waits before it is tried again. A row holds for its attempt and for those '
'that follow, up to the next row.';
comment on column mirror.retry_schedule.attempt is 'How many attempts were made.';
comment on column mirror.retry_schedule.wait is
'Before the next attempt. Empty, for commands only: there is none, the command is dead.';

create trigger touch_updated_at before update on mirror.retry_schedule
for each row execute function mirror.touch_updated_at();

insert into mirror.retry_schedule (work, attempt, wait) values
('event', 1, '200 milliseconds'),
('event', 2, '1 second'),
('event', 3, '5 seconds'),
('event', 4, '30 seconds'),
('event', 5, '2 minutes'),
('event', 6, '10 minutes'),
('command', 1, '1 second'),
('command', 2, '5 seconds'),
('command', 3, '30 seconds'),
('command', 4, '2 minutes'),
('command', 5, '10 minutes'),
('command', 6, '1 hour'),
('command', 30, null);
