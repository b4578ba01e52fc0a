-- Where pg_cron was there before the migration, it asks for the scheduled work every minute.

begin;
set local client_min_messages = warning;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select plan(2);

select results_eq(
    'select schedule, command, username::text from cron.job where jobname = ''commerce-mirror''',
    'values (''* * * * *'', ''select mirror.run_schedule()'', ''postgres'')', 'pg_cron runs the schedule, as postgres'
);
select lives_ok((select command from cron.job where jobname = 'commerce-mirror'), 'what it runs works');

select * from finish();
rollback;
