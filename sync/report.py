"""What `mirror demo` and `mirror status` print: counts in tables, an order to follow, and where to look."""

import httpx
from rich.console import Console
from rich.table import Table

from sync.compare import Comparison, Documents
from sync.engines.vendure.documents import OrderDocument
from sync.records import DELIVERY_STAGES
from sync.replay import Tally
from sync.settings import SettingsError, load_credentials, prefix_of
from sync.status import Books, Commands, Status, Watched

DIFFERENCES_SHOWN = 20


def print_status(console: Console, status: Status) -> None:
    """Print alarms, the inbox, what waits for an engine and why, dead letters, runs and drift, and rows per table."""
    for alarm in status.alarms:
        since = f"{alarm.since:%Y-%m-%d %H:%M} (UTC)"
        console.print(
            f"[bold red]alarm[/] {alarm.integration}: {alarm.alarm} since {since}; {alarm.detail}", highlight=False
        )
    table = Table(title="Inbox", title_justify="left")
    table.add_column("state")
    table.add_column("events", justify="right")
    for state, events in status.inbox.items():
        table.add_row(state, f"{events:,}")
    console.print(table)
    console.print(f"Lag: {status.lag_seconds:.1f} s (age of the oldest pending event)")
    console.print(f"Commands that wait for an engine: {status.outbox_waiting:,}")
    for commands in status.commands:
        _print_commands(console, commands)
    for books in status.books:
        _print_books(console, books)
    _print_dead_letters(console, status)
    for watched in status.integrations:
        _print_integration(console, watched)
    console.print(_tables(status))


def print_outcome(console: Console, tally: Tally, status: Status, comparison: Comparison, *, seconds: float) -> None:
    """Print what came, what became of it, what the tables hold, and whether that is what the engine has."""
    console.print(_hooks(tally, status))
    console.print(_tables(status))
    _print_dead_letters(console, status)
    for difference in comparison.differences[:DIFFERENCES_SHOWN]:
        fields = ", ".join(difference.fields)
        console.print(f"[red]differs[/] {difference.entity} {difference.source_id}: {fields}")
    colour = "red" if comparison.differences else "green"
    console.print(
        f"[bold {colour}]{comparison.equal} of {comparison.entities} entities equal[/] "
        f"to what the engine's Admin API said, {seconds:.1f} s after the first hook."
    )


async def print_tracking(console: Console, address: str, documents: Documents) -> None:
    """Print an order that is on its way, and what the tracking endpoint answers about it."""
    order = max(documents.orders, key=_progress)
    phone = order.shipping_address.phone_number if order.shipping_address else None
    url = f"{address}/orders/{order.code}"
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        request = client.build_request("GET", url, params={"phone": phone or ""})
        answer = await client.send(request)
    answer.raise_for_status()
    console.print(f"\nWhere is order [bold]{order.code}[/]? Its phone is [bold]{phone}[/]:\n  {request.url}")
    console.print_json(answer.text)
    console.print(f"The page on which customers see it:\n  {address}/track?code={order.code}", soft_wrap=True)


def print_where_to_look(console: Console, address: str, psql: str) -> None:
    """Print how to look around while the mirror is up."""
    console.print(f"\nThe API's description:  {address}/schema")
    console.print(f"The tables, in psql:    {psql}", soft_wrap=True)
    console.print("\nCtrl-C ends it.")


def _print_commands(console: Console, commands: Commands) -> None:
    name = commands.integration
    if commands.waiting:
        since = f"{commands.waiting_since:%Y-%m-%d %H:%M} (UTC)"
        console.print(
            f"  {name}: {commands.waiting:,} wait since {since}; {_why(commands)}", highlight=False, markup=False
        )
    if commands.refused:
        console.print(f"  {name}: {commands.refused:,} refused; see orders_needing_attention.", highlight=False)
    if commands.conflicts:
        console.print(
            f"  {name}: {commands.conflicts:,} in conflict; choose a side in mirror.sync_conflicts.", highlight=False
        )


def _why(commands: Commands) -> str:
    """Say why commands wait. The daemon's environment may be another than ours: what was tried tells more."""
    if not commands.is_active:
        return "activate it in mirror.integrations."
    if commands.reason is not None:
        return f"the latest attempt: {commands.reason}"
    try:
        if load_credentials([commands.integration]):
            return "the daemon (`mirror work`) sends them."
    except SettingsError as error:
        return str(error)
    prefix = prefix_of(commands.integration)
    return (
        f"set {prefix}API_URL, and {prefix}API_KEY or {prefix}API_USERNAME with {prefix}API_PASSWORD, "
        "where the daemon runs."
    )


def _print_books(console: Console, books: Books) -> None:
    name = f"Lexware Office, {books.store}"
    console.print(f"{name}: {books.sent:,} invoices booked, {books.skipped:,} left out.", highlight=False)
    if books.waiting:
        since = f"{books.waiting_since:%Y-%m-%d %H:%M} (UTC)"
        why = "the daemon (`mirror work`) books them, with LEXOFFICE_API_KEY." if books.reason is None else books.reason
        console.print(f"  {books.waiting:,} wait since {since}; {why}", highlight=False, markup=False)
    if books.refused or books.to_correct:
        console.print(
            f"  {books.refused:,} refused, {books.to_correct:,} to be corrected; see lexoffice_sync_logs. "
            f"The last: {books.last_refusal}",
            highlight=False,
            markup=False,
        )


def _print_dead_letters(console: Console, status: Status) -> None:
    for letter in status.dead_letters:
        console.print(f"[red]dead[/] {letter.event_type} {letter.event_id}: {letter.reason}")


def _print_integration(console: Console, watched: Watched) -> None:
    if watched.last_hook_at is None:
        console.print(f"{watched.slug}: no hook has come yet.")
    else:
        usual = "still learning" if watched.usual_seconds is None else f"usually within {_span(watched.usual_seconds)}"
        console.print(f"{watched.slug}: last hook {_span(watched.silent_seconds or 0)} ago ({usual})", highlight=False)
    for run in watched.runs:
        what = run.state if run.reason is None else f"{run.state}: {run.reason}"
        console.print(f"  {run.kind} of {run.began_at:%Y-%m-%d %H:%M} (UTC): {what}", highlight=False)
    if not any(run.kind == "backfill" for run in watched.runs):
        console.print(f"  never brought over: `mirror backfill {watched.slug}` does it, and proves that all is here.")
    for each in watched.drift:
        console.print(
            f"  {each.entity}s at the last reconcile: "
            f"{each.missing:,} missing, {each.stale:,} stale, {each.gone:,} gone; "
            f"of {each.never_sent:,} no hook was sent; {each.differing:,} differ still",
            highlight=False,
        )


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _hooks(tally: Tally, status: Status) -> Table:
    table = Table(title="Hooks", title_justify="left")
    table.add_column("outcome")
    table.add_column("count", justify="right")
    table.add_column("")
    for name, count, meaning in (
        ("requests", tally.requests, "posted, out of order"),
        ("rejected", tally.refused, "forged: 401, nothing stored"),
        ("accepted", tally.accepted, "events stored"),
        ("duplicate", tally.duplicates, "events known already"),
        ("applied", status.inbox["applied"], "events in the tables"),
        ("skipped", status.inbox["skipped"], "events not for us"),
        ("dead", status.inbox["dead"], "events that could not be applied"),
    ):
        table.add_row(name, f"{count:,}", meaning)
    return table


def _tables(status: Status) -> Table:
    table = Table(title="Tables", title_justify="left")
    table.add_column("table")
    table.add_column("rows", justify="right")
    for name, rows in status.tables.items():
        table.add_row(name, f"{rows:,}")
    return table


def _progress(order: OrderDocument) -> tuple[bool, int, str]:
    """Rank orders by how much there is to see: one that is dispatched, with a phone."""
    stage = (order.custom_fields or {}).get("deliveryStage")
    has_phone = order.shipping_address is not None and bool(order.shipping_address.phone_number)
    return has_phone, DELIVERY_STAGES.index(stage) if stage in DELIVERY_STAGES else -1, order.code
