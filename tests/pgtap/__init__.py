"""Postgres' own tests, written in SQL: `supabase/tests`, and what needs an extension that a project may lack."""
