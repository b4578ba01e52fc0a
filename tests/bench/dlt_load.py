"""`python -m tests.bench.dlt_load DSN FILE SCHEMA [same-rows]`: the documents of a file into Postgres by dlt.

They are merged by their ids. Tuned as its documentation advises: rows go by COPY (csv), nested objects stay JSON,
workers and buffers are larger than by default. Of lists it takes apart an order's lines and a customer's addresses;
with `same-rows` all that the mirror makes rows of. It keeps no versions, no keys between tables, no statistics. Prints
the seconds.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

TUNING = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "CRITICAL",
    "DATA_WRITER__BUFFER_MAX_ITEMS": "20000",
    "NORMALIZE__WORKERS": "2",
    "NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS": "20000",
    "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "10000",
    "LOAD__WORKERS": "8",
}


def load(dsn: str, file: Path, schema: str, *, same_rows: bool) -> float:
    """Load customers and orders; return the seconds that it took."""
    nested = [name for name in NESTED if not (same_rows and name in ROWS_OF_THE_MIRROR)]
    os.environ |= TUNING
    import dlt  # noqa: PLC0415 - it reads its settings from the environment

    merge: Any = {"disposition": "merge", "strategy": "upsert"}
    resource: Callable[[Any], Any] = dlt.resource(primary_key="id", write_disposition=merge)

    @resource
    def customers() -> Iterator[list[dict[str, Any]]]:
        yield from _documents(file, "customer.changed")

    @resource
    def orders() -> Iterator[list[dict[str, Any]]]:
        yield from _documents(file, "order.changed")

    for table, names in ((customers, ["user", "groups", "customFields"]), (orders, nested)):
        table.apply_hints(columns={name: {"data_type": "json"} for name in names})
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "bench", pipelines_dir=folder, destination=dlt.destinations.postgres(dsn), dataset_name=schema
        )
        started = time.perf_counter()
        pipeline.run([customers(), orders()], loader_file_format="csv")
        return time.perf_counter() - started


NESTED = (
    "customer",
    "shippingAddress",
    "billingAddress",
    "payments",
    "fulfillments",
    "discounts",
    "shippingLines",
    "couponCodes",
    "customFields",
    "deliveryStageChanges",
    "history",
    "aggregateOrder",
)
ROWS_OF_THE_MIRROR = {"payments", "fulfillments", "history"}
"""Lists within an order that have a table here, besides its lines."""


def _documents(file: Path, event_type: str) -> Iterator[list[dict[str, Any]]]:
    decoder = msgspec.json.Decoder(list[dict[str, Any]])
    for line in file.read_bytes().splitlines():
        yield [event["data"] for event in decoder.decode(line) if event["type"] == event_type]


if __name__ == "__main__":
    seconds = load(sys.argv[1], Path(sys.argv[2]), sys.argv[3], same_rows="same-rows" in sys.argv[4:])
    sys.stdout.write(f"{seconds:.3f}\n")
