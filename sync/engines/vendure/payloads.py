"""What the plugin sends: the envelope of a change hook and the events in it, as `docs/vendure-hooks.md` describes them.

`read` looks at the envelope only. The documents inside stay as they came, but for characters that Postgres cannot hold
(`sync/storable.py`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from sync.engines.base import Event
from sync.errors import Reject
from sync.storable import storable

MAX_EVENTS = 1000

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class _Envelope(msgspec.Struct):
    type: Literal["vendure.changes"]
    events: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_EVENTS)]


class _Change(msgspec.Struct, rename="camel"):
    id: Text
    type: Text
    entity_id: Text
    read_at: Instant
    data: msgspec.Raw = msgspec.Raw(b"null")


_envelopes = msgspec.json.Decoder(_Envelope)
_changes = msgspec.json.Decoder(_Change)


def read(body: bytes) -> list[Event]:
    """Return the events of a hook in its order; raise Reject with what is wrong and where."""
    try:
        return events_of(_envelopes.decode(storable(body)).events)
    except msgspec.ValidationError as error:
        raise Reject(_located("", str(error))) from None
    except RecursionError:
        raise Reject("The body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Reject(f"The body is not JSON in UTF-8: {error}.") from None


def events_of(changes: Sequence[msgspec.Raw]) -> list[Event]:
    """Return the events of an envelope, or of an answer of the Admin API; raise Reject."""
    return [_event(position, raw) for position, raw in enumerate(changes)]


def _event(position: int, raw: msgspec.Raw) -> Event:
    where = f"events[{position}]"
    try:
        change = _changes.decode(raw)
    except msgspec.ValidationError as error:
        raise Reject(_located(where, str(error))) from None
    for name, text in (("id", change.id), ("type", change.type), ("entityId", change.entity_id)):
        if not text.isprintable() or "\ufffd" in text:
            raise Reject(f"{where}.{name}: Expected printable characters only")
    return Event(change.id, change.type, change.entity_id, raw)


def _located(where: str, message: str) -> str:
    """Put msgspec's "what - at `$.where`" the other way round: "events[3].where: what"."""
    what, _, path = message.partition(" - at `$")
    return f"{(where + path.removesuffix('`')).lstrip('.') or 'The body'}: {what}"
