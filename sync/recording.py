"""The recorded hooks of a real Vendure server, and the documents its Admin API gave at the end.

Made by `task capture:vendure`; `tests/recorded/vendure/README.md` says how. What the demo replays and the tests
permute.
"""

from pathlib import Path

import msgspec

from sync.compare import Documents


class Hook(msgspec.Struct, frozen=True):
    """A request that the plugin made: its id and its body, word for word."""

    id: str
    body: str


class Recording(msgspec.Struct, frozen=True):
    """Hooks in the order in which they came, and what the engine had in the end."""

    hooks: list[Hook]
    documents: Documents


def load_recording() -> Recording:
    """Read the recording that comes with the mirror."""
    folder = _folder()
    lines = (folder / "hooks.jsonl").read_bytes().splitlines()
    return Recording(
        hooks=[msgspec.json.decode(line, type=Hook) for line in lines],
        documents=msgspec.json.decode((folder / "documents.json").read_bytes(), type=Documents),
    )


def _folder() -> Path:
    """Return the folder: inside the installed package, or in the tests of a checkout."""
    packaged = Path(__file__).parent / "_recorded"
    return packaged if packaged.exists() else Path(__file__).parent.parent / "tests" / "recorded" / "vendure"
