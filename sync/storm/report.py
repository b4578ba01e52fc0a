"""What `mirror storm` prints: what was thrown at the mirror, what came of it, what differed, and the verdict."""

from rich.console import Console
from rich.table import Table

from sync.storm.verdict import Verdict

DIFFERENCES_SHOWN = 20


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Print a verdict."""
    console.print(_thrown(verdict))
    console.print(_came_of_it(verdict))
    for offence in verdict.offences:
        console.print(f"[red]wrong[/] {offence}", soft_wrap=True)
    for difference in verdict.differences[:DIFFERENCES_SHOWN]:
        console.print(f"[red]differs[/] {difference.entity} {difference.source_id}: {', '.join(difference.fields)}")
    if len(verdict.differences) > DIFFERENCES_SHOWN:
        console.print(f"… and {len(verdict.differences) - DIFFERENCES_SHOWN:,} more")
    equal = verdict.entities - len(verdict.differences)
    word, colour = ("Converged", "green") if verdict.converged else ("Not converged", "red")
    console.print(
        f"[bold {colour}]{word}:[/] {equal:,} of {verdict.entities:,} entities equal the shop's, "
        f"{verdict.rest_seconds:.1f} s after a storm of {verdict.seconds:.0f} s."
    )


def _thrown(verdict: Verdict) -> Table:
    table = Table(title="Thrown at the mirror", title_justify="left")
    table.add_column("what")
    table.add_column("times", justify="right")
    table.add_row("changes in the shop", f"{verdict.sent.changes:,}")
    for name, times in verdict.thrown.items():
        if times:
            table.add_row(name, f"{times:,}")
    return table


def _came_of_it(verdict: Verdict) -> Table:
    sent = verdict.sent
    table = Table(title="What came of it", title_justify="left")
    table.add_column("what")
    table.add_column("count", justify="right")
    for name, count in (
        ("requests with hooks", sent.requests),
        ("of them answered late or not at all, and sent again", sent.unavailable),
        ("events accepted", sent.accepted),
        ("events known already", sent.duplicates),
        *((f"events {state}", events) for state, events in verdict.inbox.items()),
    ):
        table.add_row(name, f"{count:,}")
    return table
