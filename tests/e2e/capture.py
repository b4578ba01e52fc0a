"""Record the hooks of a real shop: `uv run --group e2e python -m tests.e2e.capture`.

Starts a Vendure server and its worker, runs the script of actions, and writes what the plugin posted and what
the Admin API says at the end to tests/recorded/vendure, where every other test finds it.
"""

from __future__ import annotations

import base64
import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.e2e import catalogue, node
from tests.e2e.agreement import disagreements
from tests.e2e.databases import fetch
from tests.e2e.documents import read_documents
from tests.e2e.receiver import Receiver, Request
from tests.e2e.shop import Shop
from tests.e2e.story import STORY, title
from tests.e2e.world import World, open_world
from tests.postgres import running_server

RECORDED = node.REPOSITORY / "tests" / "recorded" / "vendure"


def main() -> None:
    node.install_shop()
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    with (
        tempfile.TemporaryDirectory(prefix="commerce-mirror-capture-") as folder,
        Receiver(secret) as receiver,
        populated_shop(Path(folder), receiver.endpoint, secret) as world,
    ):
        play(world)
        write(receiver, read_documents(world.shop, world.admin), world)


@contextmanager
def populated_shop(folder: Path, endpoint: str, secret: str) -> Iterator[World]:
    """A shop with its catalogue on a Postgres of its own, server and worker running."""
    with running_server(folder / "postgres") as server:
        shop = Shop(server.owner(server.create()), folder, endpoint, secret)
        try:
            shop.populate()
            shop.start()
            with catalogue.log_in(shop) as admin:
                catalogue.set_up(admin)
            with open_world(shop) as world:
                yield world
        finally:
            shop.stop()


def play(world: World) -> None:
    """Run the script, and let the worker send each action's changes before the next one begins."""
    for number, action in enumerate(STORY, start=1):
        _tell(f"{number:3} of {len(STORY)}  {title(action)}")
        action(world)
        world.shop.wait_until_all_is_sent()


def write(receiver: Receiver, documents: dict[str, Any], world: World) -> None:
    """Write the recording, unless something in it is not as it should be."""
    if errors := world.shop.errors():
        raise RuntimeError("The shop logged errors:\n" + "\n".join(errors))
    if receiver.faults:
        raise RuntimeError("These requests were not signed correctly:\n" + "\n".join(receiver.faults))
    if wrong := disagreements(receiver.requests, documents):
        raise RuntimeError("The newest hooks are not what the Admin API says:\n" + "\n".join(wrong))
    RECORDED.mkdir(parents=True, exist_ok=True)
    (RECORDED / "hooks.jsonl").write_text("".join(request.as_line() for request in receiver.requests))
    (RECORDED / "documents.json").write_text(_pretty(documents))
    (RECORDED / "recording.json").write_text(_pretty(_facts(receiver, documents, world)))
    _tell(f"\nWritten to {RECORDED.relative_to(node.REPOSITORY)}: {summary(receiver.requests, documents)}.")


def _facts(receiver: Receiver, documents: dict[str, Any], world: World) -> dict[str, Any]:
    """What a replay needs (the secret), and what a reader asks (when, with which versions, how much)."""
    package = json.loads((node.SHOP / "node_modules/@vendure/core/package.json").read_text())
    (postgres,) = fetch(world.shop.dsn, "select current_setting('server_version') as version")
    return {
        "secret": receiver.secret,
        "recordedAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "vendure": package["version"],
        "postgres": postgres["version"],
        "actions": [title(action) for action in STORY],
    }


def summary(requests: list[Request], documents: dict[str, Any]) -> str:
    events = [event["id"] for request in requests for event in request.events]
    return (
        f"{len(requests)} requests with {len(events)} events, {len(set(events))} of them different, about "
        f"{len(documents['customers'])} customers, {len(documents['deletedCustomers'])} deleted ones and "
        f"{len(documents['orders'])} orders"
    )


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is a command; its output is for who runs it


def _pretty(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    main()
