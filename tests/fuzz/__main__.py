"""`python -m tests.fuzz [--count N] [--seed S]`: so many spoilt deliveries at an API on a Postgres of the run's own.

Ends with 1 and names what is wrong. The same seed sends the same requests.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections import Counter

import structlog

from sync.migrate import migrate
from tests.flow.serving import SECRETS_VARIABLE, process
from tests.fuzz.run import NO_LIMITS, Findings, fuzz
from tests.hooks import SECRET
from tests.postgres import FORGETFUL, quick_folder, running_server


def main() -> None:
    """Send, look, and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="requests; 100,000 unless told otherwise")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    os.environ.update({SECRETS_VARIABLE: SECRET, **NO_LIMITS})
    with quick_folder() as folder, running_server(folder) as server:
        server.run(*FORGETFUL)
        database = server.create()
        asyncio.run(migrate(server.owner(database), superuser_dsn=server.superuser(database)))
        with (folder / "api.log").open("w+") as log:  # a line for each that is refused
            findings = asyncio.run(_fuzz(server.owner(database), arguments.count, arguments.seed, log.fileno()))
            log.seek(0)
            errors = [line for line in log if '"level": "error"' in line or not line.startswith("{")]
    show(findings)
    if findings.faults or errors:
        sys.exit("\n".join([*findings.faults, "".join(errors[:50])]))


async def _fuzz(dsn: str, count: int, seed: int, log: int) -> Findings:
    async with process(dsn, log=log) as (_, client):
        return await fuzz(str(client.base_url), dsn, count=count, seed=seed)


def show(findings: Findings) -> None:
    """Print what was answered to what, and what became of what was stored."""
    kinds: dict[str, Counter[int]] = {}
    for (kind, status), count in findings.answers.items():
        kinds.setdefault(kind, Counter())[status] += count
    lines = [f"{findings.answers.total():,} answers in {findings.seconds:.0f} s"]
    lines += [
        f"  {kind:24}" + "  ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))
        for kind, statuses in sorted(kinds.items())
    ]
    lines.append("  ".join(f"{state}: {count:,}" for state, count in sorted(findings.states.items())))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
