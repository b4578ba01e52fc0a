"""`python -m tests.bench [--json FILE] [--quick] [--share S] [--orders N]`: throughput, as ratios to floors, and waits.

Each round measures the mirror and its floors one after the other, on a Postgres of the run's own. A ratio is the median
of its rounds, so that what else the machine does weighs on both sides. Then shops are made: to be backfilled, to
have grown, and to be asked for reports. What is measured: `docs/performance.md`. It ends with 1, and says which, if a
figure does not come to that share of its target (`tests/bench/targets.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path

import msgspec

from sync.migrate import migrate
from tests.bench.codes import measure_codes
from tests.bench.growth import growth_of, measure_growth
from tests.bench.memory import measure_memory
from tests.bench.reports import measure_reports
from tests.bench.rounds import Rates, Size, measure_round
from tests.bench.targets import TARGETS, missed
from tests.postgres import running_server

ROUNDS = 3

RATIOS = {
    "accept_vs_bare_route": ("accept", "bare hook route"),
    "accept_vs_single_insert": ("accept", "one insert a request"),
    "accept_vs_pgbench": ("accept", "accept, by pgbench"),
    "apply_vs_copy": ("apply", "binary COPY"),
    "apply_vs_per_row": ("apply", "upsert a row"),
    "apply_rtt5_vs_per_row": ("apply, 5 ms away", "upsert a row, 5 ms away"),
    "backfill_vs_dlt": ("backfill", "dlt"),
    "backfill_vs_dlt_same_rows": ("backfill", "dlt, same rows"),
    "copy_vs_dlt": ("binary COPY, in orders", "dlt"),
    "track_vs_bare_route": ("track", "bare order route"),
    "track_vs_pgbench": ("track", "track, by pgbench"),
}
WAITS = ("lag_p50_ms", "lag_p99_ms", "track_p50_ms", "track_p99_ms")


class Extent(msgspec.Struct, frozen=True):
    """How much a run measures."""

    round: Size
    grown: tuple[int, int]
    """Orders of the two shops that new orders are applied to."""
    backfilled: int
    """Orders of the shop whose backfill's memory is watched."""
    asked: int
    """Orders of the shop that reports are asked of."""


FULL = Extent(Size(10_000, 2_000, 5_000), (20_000, 2_000_000), 1_000_000, 1_000_000)
QUICK = Extent(Size(2_000, 300, 1_000), (2_000, 20_000), 20_000, 20_000)


class Measured(msgspec.Struct, frozen=True):
    """What a run found."""

    rounds: list[Rates]
    growth: dict[str, list[float]]
    codes: dict[str, float]
    memory: dict[str, float]
    reports: dict[str, float]

    def medians(self) -> Rates:
        return {name: statistics.median(rates[name] for rates in self.rounds) for name in self.rounds[0]}

    def ratios(self) -> dict[str, list[float]]:
        return {
            name: sorted(rates[ours] / rates[floor] for rates in self.rounds) for name, (ours, floor) in RATIOS.items()
        }

    def figures(self) -> dict[str, float]:
        """Return the keys by which a run is compared with others."""
        medians = self.medians()
        return {
            **{name: statistics.median(of_rounds) for name, of_rounds in self.ratios().items()},
            "growth": growth_of(self.growth),
            **{name: medians[name] for name in WAITS},
            **self.codes,
            **self.memory,
            **self.reports,
        }


def main() -> None:
    """Measure, print a table, write the figures where told, and check them."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="write ratios, rates and waits to this file")
    parser.add_argument("--quick", action="store_true", help="a part of the load and small shops; under three minutes")
    parser.add_argument("--share", type=float, help="of the targets to be demanded; 0.5 if quick, else 0: only measure")
    parser.add_argument("--orders", type=int, help="of the shop for reports")
    arguments = parser.parse_args()
    extent = QUICK if arguments.quick else FULL
    if arguments.orders:
        extent = msgspec.structs.replace(extent, asked=arguments.orders)
    measured = measure(extent)
    show(measured)
    if arguments.json:
        of_rounds = {"per_second": measured.medians(), "of_rounds": measured.ratios(), "growth_rates": measured.growth}
        arguments.json.write_text(json.dumps({**measured.figures(), **of_rounds}, indent=1) + "\n")
    share = arguments.share if arguments.share is not None else 0.5 if arguments.quick else 0
    if share and (sentences := missed(measured.figures(), share)):
        sys.exit("\n".join(sentences))


def measure(extent: Extent) -> Measured:
    """Measure everything on one server."""
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as server:
        template = server.create()
        asyncio.run(migrate(server.owner(template), superuser_dsn=server.superuser(template)))
        rounds = []
        for number in range(ROUNDS):
            sys.stderr.write(f"round {number + 1} of {ROUNDS}\n")
            rounds.append(measure_round(server, template, extent.round))
        sys.stderr.write("a flood of codes\n")
        codes = measure_codes(server, template, extent.round.count)
        sys.stderr.write(f"a backfill of {extent.backfilled:,} orders\n")
        memory = measure_memory(server, template, extent.backfilled)
        growth = measure_growth(server, extent.grown, extent.round.count, ROUNDS)
        sys.stderr.write(f"a shop of {extent.asked:,} orders, to be asked\n")
        return Measured(rounds, growth, codes, memory, asyncio.run(measure_reports(server, extent.asked)))


def show(measured: Measured) -> None:
    """Print what was measured."""
    rates = {name: rate for name, rate in measured.medians().items() if not name.startswith(("lag_", "track_"))}
    grown = {name: statistics.median(of_rounds) for name, of_rounds in measured.growth.items()}
    lines = [f"per second, median of {ROUNDS} rounds"]
    lines += [f"  {name:32}{rate:>12,.0f}" for name, rate in {**rates, **grown}.items()]
    lines += ["", "figure (lowest to highest of the rounds), target"]
    of_rounds = measured.ratios()
    for name, figure in measured.figures().items():
        spread = f"({of_rounds[name][0]:.2f} to {of_rounds[name][-1]:.2f})" if name in of_rounds else ""
        lines.append(f"  {name:32}{figure:>12.2f}  {spread:20}{TARGETS.get(name, '')}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
