"""What Stripe sends: one event in each hook, and of it only the envelope is looked at here.

An event is a snapshot (`event`: the object as it was) or thin (`v2.core.event`: only which object it is about). Either
is kept word for word, but for characters that Postgres cannot hold (`sync/storable.py`).
"""

from typing import Annotated

import msgspec

from sync.engines.base import Event
from sync.errors import Reject
from sync.storable import storable

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _Subject(msgspec.Struct):
    """What an event is about. A preview of an invoice to come has no id."""

    id: Text | None = None


class _Data(msgspec.Struct):
    object: _Subject


class _Snapshot(msgspec.Struct, tag="event", tag_field="object"):
    id: Text
    type: Text
    created: int
    data: _Data

    @property
    def subject(self) -> str | None:
        return self.data.object.id


class _Thin(msgspec.Struct, tag="v2.core.event", tag_field="object"):
    id: Text
    type: Text
    created: str
    related_object: _Subject | None = None

    @property
    def subject(self) -> str | None:
        return self.related_object.id if self.related_object else None


_events = msgspec.json.Decoder(_Snapshot | _Thin)


def read(body: bytes) -> list[Event]:
    """Return the event of a hook; raise Reject with what is wrong and where."""
    try:
        kept = storable(body)
        event = _events.decode(kept)
    except msgspec.ValidationError as error:
        raise Reject(_located(str(error))) from None
    except RecursionError:
        raise Reject("The body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Reject(f"The body is not JSON in UTF-8: {error}.") from None
    for name, text in (("id", event.id), ("type", event.type), ("the object's id", event.subject)):
        if text is not None and (not text.isprintable() or "\ufffd" in text):
            raise Reject(f"{name}: Expected printable characters only")
    return [Event(event.id, event.type, event.subject, msgspec.Raw(kept))]


def _located(message: str) -> str:
    """Put msgspec's "what - at `$.where`" the other way round: "data.object.id: what"."""
    what, _, path = message.partition(" - at `$")
    return f"{path.removesuffix('`').lstrip('.') or 'The body'}: {what}"
