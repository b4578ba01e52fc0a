-- Who changed what is noted, for good; what comes round is done.

begin;
\ir helpers.psql
select plan(12);

set local application_name = 'supabase/dashboard-query-editor';
insert into public.import_batches (name) values ('Spring');
select results_eq(
    'select actor, action, table_name from mirror.audit_log', 'values (''studio'', ''insert'', ''import_batches'')',
    'an admin''s new batch is noted'
);
select tests.edit('import_batches', (select id from public.import_batches), 'name', 'Autumn');
select results_eq(
    'select old_values, new_values from mirror.audit_log where action = ''update''',
    'values (''{"name": "Spring"}''::jsonb, ''{"name": "Autumn"}''::jsonb)', '… and what they changed, and only that'
);
select tests.register('1', p_consents => true);
select is(
    (select actor from mirror.audit_log where table_name = 'customers'), 'engine:vendure', 'a consent that the engine tells, too'
);
select tests.place('A');
select public.update_order_delivery_status('A', 'SOURCING');
select is(
    (select new_values ->> 'stage' from mirror.audit_log where table_name = 'order_delivery_status' and action = 'update'),
    'SOURCING', 'and a delivery''s stage'
);
select throws_like('update mirror.audit_log set actor = ''nobody''', '%not changed or removed%', 'the audit log is not changed');
select throws_like('delete from mirror.audit_log', '%not changed or removed%', '… nor shortened');
select throws_like('truncate mirror.audit_log', '%not changed or removed%', '… nor emptied');

select set_has(
    'select job from mirror.schedule', 'values (''cleanup_expired_otps''), (''refresh_delivery_norms'')', 'what comes round'
);
select set_eq(
    'select job from mirror.run_schedule() where error is null', 'select job from mirror.schedule', '… is done when it is due'
);
select is_empty('select * from mirror.run_schedule()', '… and then it is not due');
insert into mirror.schedule (job, command, every) values ('broken', 'select 1 / 0', '1 hour');
select results_eq('select * from mirror.run_schedule()', 'values (''broken'', ''division by zero'')', 'a failure is told');
select is((select last_error from mirror.schedule where job = 'broken'), 'division by zero', '… and kept');

select * from finish();
rollback;
