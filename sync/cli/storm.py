"""The command that tries the mirror."""

import time
from typing import Any

import click
import msgspec
from rich.console import Console

from sync import interrupts
from sync.cli.command import Failed, command, console
from sync.settings import Settings
from sync.storm.faults import LEVELS
from sync.storm.report import print_verdict
from sync.storm.storm import Weather, run_storm


@command
@click.option("--seconds", type=click.FloatRange(1), default=30, show_default=True, help="How long it blows.")
@click.option("--rate", type=click.FloatRange(0.1), default=50, show_default=True, help="Changes in the shop a second.")
@click.option(
    "--faults", type=click.Choice(list(LEVELS)), default="heavy", show_default=True, help="How much goes wrong."
)
@click.option("--seed", type=int, help="Of what happens; one of its own each time if not given.")
@click.option("--admin-edits", is_flag=True, help="Admins set stages and tracking numbers in the mirror meanwhile.")
@click.option(
    "--kill-every", type=click.FloatRange(0.5), metavar="SECONDS", help="Kill processes and Postgres so often."
)
@click.option("--json", "as_json", is_flag=True, help="For programs: the verdict.")
def storm(settings: Settings, as_json: bool, faults: str, seed: int | None, **weather: Any) -> None:
    """Let a simulated shop and all that can go wrong loose on a mirror, and see whether it equals the shop.

    Starts an embedded Postgres, the API and two daemons of its own. Hooks get lost, doubled, late, stale, cut and
    forged; the shop's Admin API is busy, broken and gone. Then the mirror comes to rest, and every customer and order
    is compared. Exit code 0 only if nothing differs, nothing is lost and nothing counts twice.
    """
    interrupts.treat_sigterm_as_interrupt()
    chosen = time.time_ns() % 1_000_000 if seed is None else seed
    loud = Console(stderr=True) if as_json else console
    verdict = run_storm(settings, Weather(faults=LEVELS[faults], seed=chosen, **weather), loud)
    if as_json:
        click.echo(msgspec.json.encode(verdict))
    else:
        print_verdict(console, verdict)
    if not verdict.converged:
        raise Failed(f"The mirror does not equal the shop. The same storm again: --seed {chosen}")
