"""What Supabase's advisors (splinter) remark even at the level INFO is what `docs/access.md` explains."""

from __future__ import annotations

import json
from pathlib import Path

from sync.migrate import migrate
from tests.database.access import RELATIONS
from tests.e2e.supabase_cli import copy_project, supabase

LINT = ("db", "advisors", "--type", "all", "--level", "info", "--fail-on", "none")
ALWAYS_IN_A_NEW_DATABASE = "unused_index"


async def test_the_advisors_remark_only_that_machinery_has_no_policy(platform_database: str, tmp_path: Path) -> None:
    await migrate(platform_database)
    printed = supabase(copy_project(tmp_path), platform_database, *LINT)
    remarks = json.loads(printed[printed.index("[") : printed.rindex("]") + 1])
    found = {
        (remark["name"], f"{remark['metadata']['schema']}.{remark['metadata']['name']}")
        for remark in remarks
        if remark["name"] != ALWAYS_IN_A_NEW_DATABASE
    }
    assert found == {
        ("rls_enabled_no_policy", name)
        for name, access in RELATIONS.items()
        if access.own is None and not access.is_view
    }
