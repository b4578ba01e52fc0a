"""`python -m tests.openapi [schemathesis …]`: the API against its own OpenAPI document, by all checks of schemathesis.

The API runs in a process of its own, with all that can be set, over the example shop of supabase/seed.sql on a Postgres
of the run's own. The seed of chance is fixed: the same document and the same code get the same requests.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from api.limits.quotas import DEFAULTS, OFF, variable
from sync.migrate import migrate, supabase_folder
from sync.token_keys import make_token_key
from tests.flow.serving import SECRETS_VARIABLE, process
from tests.hooks import SECRET
from tests.postgres import FORGETFUL, TestServer, quick_folder, running_server

ENVIRONMENT = {
    SECRETS_VARIABLE: SECRET,
    "MIRROR_SEND_SMS_SECRETS": f"v1,{SECRET}",
    "MIRROR_METRICS_TOKEN": "the-token-of-the-tests",
    "MIRROR_TOKEN_KEY": make_token_key(),
    **{variable(name): OFF for name in DEFAULTS},  # or most of what is tried would be answered 429
    **dict.fromkeys(map(variable, DEFAULTS), OFF),  # all is asked from one address
}
CONFIG = Path(__file__).parent / "schemathesis.toml"
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
LONGEST_SECONDS = 150


def main() -> int:
    """Run schemathesis; return its exit code."""
    os.environ.update(ENVIRONMENT)
    with quick_folder() as folder, running_server(folder) as server:
        server.run(*FORGETFUL)
        database = _seeded(server)
        with (folder / "api.log").open("w+") as log:
            code = asyncio.run(_run(server.owner(database), folder, log.fileno(), sys.argv[1:]))
            log.seek(0)
            errors = [line for line in log if '"level": "error"' in line]
    sys.stderr.write("".join(errors[:20]))
    return code or bool(errors)


def _seeded(server: TestServer) -> str:
    """Return a database with the example shop."""
    database = server.create()
    asyncio.run(migrate(server.owner(database), superuser_dsn=server.superuser(database)))
    server.run((supabase_folder() / "seed.sql").read_text(), database=database)
    return database


async def _run(dsn: str, folder: Path, log: int, arguments: list[str]) -> int:
    async with process(dsn, log=log) as (_, client):
        url = f"{client.base_url}/schema/openapi.json"
        command = [str(SCHEMATHESIS), "--config-file", str(CONFIG), "run", url, *arguments]
        testing = await asyncio.create_subprocess_exec(*command, cwd=folder)  # it leaves notes there
        return await asyncio.wait_for(testing.wait(), LONGEST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
