create table mirror.schedule (
    id uuid primary key default mirror.uuid_v7(),
    job text not null unique,
    command text not null,
    every interval not null check (every >= '1 minute'),
    last_run_at timestamptz,
    last_error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table mirror.schedule is
'Work that comes round: done by the daemon, whichever instance, or by pg_cron where it exists.';
comment on column mirror.schedule.command is
'The SQL statement that does it. It runs with the rights of postgres, so that service_role may not change it.';
comment on column mirror.schedule.last_error is 'Why the last run failed; empty when it did not.';

create trigger touch_updated_at before update on mirror.schedule
for each row execute function mirror.touch_updated_at();

insert into mirror.schedule (job, command, every) values
('cleanup_expired_otps', 'select public.cleanup_expired_otps()', '10 minutes'),
('refresh_delivery_norms', 'select mirror.refresh_delivery_norms()', '1 hour'),
('refresh_expected_steps', 'select mirror.refresh_expected_steps()', '1 hour'),
('fold_delivery_rollups', 'select mirror.fold_delivery_rollups()', '10 minutes'),
('prune', 'select mirror.prune()', '1 minute'),
('learn_hook_gaps', 'select mirror.learn_hook_gaps()', '10 minutes'),
('prune_runs', 'select mirror.prune_runs()', '1 hour'),
('prune_request_counts', 'select mirror.prune_request_counts()', '10 minutes');
