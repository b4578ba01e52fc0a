"""What is loaded only by whoever needs it."""

from __future__ import annotations

import subprocess
import sys

LOADED = "import sys, sync.cli, api.server; print(*sorted({'supabase', 'postgrest', 'pydantic'} & set(sys.modules)))"


def test_the_supabase_client_costs_nothing_where_there_is_a_database_url() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
