"""What `mirror backfill` and `mirror reconcile` show: a bar while they read, then what was found, and the receipts.

Where nobody looks at a terminal, a line every few seconds stands for the bar.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from sync.backfill import Backfilled
from sync.reconcile import Reconciled
from sync.records import ENTITIES, Entity
from sync.runs import Difference, Ending, Found, Receipt, Summary

LINE_SECONDS = 5.0
DIFFERING_SHOWN = 50

NAMES: dict[Entity, str] = {entity: f"{entity}s" for entity in ENTITIES}

CAUSES = {
    "edited": "changed by hand",
    "pending": "its hook has come, and waits",
    "late": "its hook came a moment later",
    "dead": "its hook is dead",
    "skipped": "its hook was skipped",
    "unknown": "it is from before contents were compared",
    "remapped": "another version of the mapping wrote it, or the shop was set otherwise then",
    "renamed": "a product, method, group or country in it has another name",
    "unsent": "no hook has told of it",
}


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "-/s", style="progress.data.speed")


class Bar(AbstractContextManager["Bar"]):
    """Shows how far a run is. A `sync.passes.Progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description:13}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[Entity, TaskID] = {}
        self._total = self._before = self._done = 0
        self._began = self._told = time.monotonic()

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def waits(self, kind: str) -> None:
        """Say that another process has a run in hand; if it died, its claim lapses."""
        self._say(f"Another process has a {kind} in hand: waiting for it to end. If it died, that takes 20 seconds.")

    def begin(self, entity: Entity, total: int, done: int) -> None:
        if entity in self._tasks:
            self._say(f"{NAMES[entity]}: reading once more from {done:,} on, for what did not agree")
            self._bar.remove_task(self._tasks[entity])
        elif done:
            self._say(f"{NAMES[entity]}: going on after {done:,}")
        self._tasks[entity] = self._bar.add_task(NAMES[entity], total=max(total, done), completed=done)
        self._total, self._before, self._done, self._began = total, done, 0, time.monotonic()

    def wrote(self, receipt: Receipt) -> None:
        self._bar.advance(self._tasks[receipt.entity], receipt.counted)
        self._done += receipt.counted
        if not self._console.is_terminal and time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            rate = self._done / (self._told - self._began)
            self._say(f"{NAMES[receipt.entity]}: {self._before + self._done:,} of {self._total:,}, {rate:,.0f}/s")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False)


def print_backfilled(console: Console, filled: Backfilled) -> None:
    """Print what a backfill came to, and exactly what is not here as the engine has it."""
    _print_totals(console, filled.summaries)
    for entity, differing in filled.differing.items():
        _print_differing(console, entity, differing)
    _print_ending(console, filled.ending, "Complete: every receipt agrees with the engine.")


def print_reconciled(console: Console, reconciled: Reconciled, *, fix: bool) -> None:
    """Print the drift, how it came about, and, after healing, what is left of it."""
    _print_drift(console, reconciled.summaries)
    for entity, found in reconciled.found.items():
        for each in found:
            console.print(f"  {entity} {each.source_id}: {each.state}; {_cause(each)}", highlight=False)
    if fix:
        for entity, differing in reconciled.differing.items():
            _print_differing(console, entity, differing)
    waiting = 0 if fix else sum(summary.on_its_way for summary in reconciled.summaries)
    but = f", but for {waiting:,} of which the hook is on its way" if waiting else ""
    _print_ending(console, reconciled.ending, f"Complete: the mirror equals the engine{but}.")


def _print_totals(console: Console, summaries: Sequence[Summary]) -> None:
    table = Table("", title="Receipts", title_justify="left")
    for name in ("the engine counts", "it listed", "removed meanwhile", "differ"):
        table.add_column(name, justify="right")
    for summary in summaries:
        numbers = (summary.counted, summary.seen, summary.removed, summary.differing)
        table.add_row(NAMES[summary.entity], *(f"{number:,}" for number in numbers))
    console.print(table)


def _print_drift(console: Console, summaries: Sequence[Summary]) -> None:
    table = Table("", title="Drift", title_justify="left")
    for name in ("the engine counts", "missing", "stale", "gone", "on its way", "no hook sent", "differ still"):
        table.add_column(name, justify="right")
    for s in summaries:
        numbers = (s.counted, s.missing, s.stale, s.gone, s.on_its_way, s.never_sent, s.differing)
        table.add_row(NAMES[s.entity], *(f"{number:,}" for number in numbers))
    console.print(table)


def _print_differing(console: Console, entity: Entity, differing: Sequence[Difference]) -> None:
    for each in differing[:DIFFERING_SHOWN]:
        console.print(f"  [red]differs[/] {entity} {each.source_id}: {each.reason}", highlight=False)
    if len(differing) > DIFFERING_SHOWN:
        console.print("  … and more: mirror.sync_receipts.differing has them all.")


def _print_ending(console: Console, ending: Ending, complete: str) -> None:
    if ending.state == "complete":
        console.print(f"[bold green]{complete}[/]")
    else:
        console.print(f"[bold red]{ending.state.capitalize()}: {ending.reason}.[/]", highlight=False)


def _cause(found: Found) -> str:
    cause = CAUSES.get(found.cause or "", found.cause or "unknown")
    return f"{cause} ({found.detail})" if found.detail else cause
