"""From draft to stored event: payloads made storable, canonical JSON, and the hash that chains a stream."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from codeforge_ls import redaction
from codeforge_ls.logs import request_id
from codeforge_ls.model.base import JsonObject, JsonValue, new_id
from codeforge_ls.model.errors import InvalidInput, LimitReached
from codeforge_ls.model.events import SCHEMA_VERSION, Event, EventDraft

MAX_TEXT = 1 << 20  # characters of one string in a payload; what is longer is cut and says so
MAX_PAYLOAD = 16 << 20  # bytes of one payload as JSON
MAX_DEPTH = 100
COLUMNS = "position,stream,seq,id,parent,type,payload,actor,request_id,time,schema_version,prev_hash,hash"


@dataclass(frozen=True)
class StoredEvent:
    """A row of the log exactly as it is stored, before upcasting: what hashes are taken of."""

    position: int
    stream: str
    seq: int
    id: str
    parent: str | None
    type: str
    payload: str
    actor: str
    request_id: str | None
    time: float
    schema_version: int
    prev_hash: str
    hash: str


@dataclass(frozen=True)
class Head:
    """The last event of a stream; seq 0 and an empty hash before the first."""

    seq: int = 0
    hash: str = ""


def canonical(value: JsonValue) -> str:
    """The one text of a JSON value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def event_hash(event: StoredEvent) -> str:
    """BLAKE2b-256 in hex over the canonical JSON of everything but position and the hash itself."""
    before: JsonObject = {"actor": event.actor, "id": event.id, "parent": event.parent}
    after: JsonObject = {
        "prev_hash": event.prev_hash,
        "request_id": event.request_id,
        "schema_version": event.schema_version,
        "seq": event.seq,
        "stream": event.stream,
        "time": event.time,
        "type": event.type,
    }
    # The payload is canonical JSON as it is stored, and its key comes between these.
    whole = f'{canonical(before)[:-1]},"payload":{event.payload},{canonical(after)[1:]}'
    return hashlib.blake2b(whole.encode(), digest_size=32).hexdigest()


def seal(draft: EventDraft, head: Head, position: int) -> tuple[StoredEvent, Event]:
    """The draft as the next event of its stream, as it is stored and as it is told.

    Known secrets are hidden. Lone surrogates become U+FFFD, strings over 1 Mi characters are cut with a marker, NaN and
    infinities become text. LimitReached where the payload is still over 16 MiB; InvalidInput where it is no JSON.
    """
    payload = _storable(redaction.hide_all(draft.payload), 0)
    if not isinstance(payload, dict):
        raise InvalidInput("The payload of an event must be an object.", data={"field": "payload"})
    text = canonical(payload)
    if len(text) > MAX_PAYLOAD:
        raise LimitReached(f"The payload of {draft.type} has {len(text)} bytes; {MAX_PAYLOAD} are the limit.")
    unsealed = StoredEvent(
        position=position,
        stream=_text(draft.stream),
        seq=head.seq + 1,
        id=_text(draft.id or new_id("ev")),
        parent=_text(draft.parent) if draft.parent else None,
        type=draft.type.value,
        payload=text,
        actor=_text(redaction.hide(draft.actor)),
        request_id=_text(draft.request_id or request_id.get()) or None,
        time=time.time(),
        schema_version=SCHEMA_VERSION,
        prev_hash=head.hash,
        hash="",
    )
    values = vars(unsealed) | {"hash": event_hash(unsealed)}
    return StoredEvent(**values), Event(**(values | {"payload": payload}))


def broken_links(rows: Iterable[StoredEvent], heads: dict[str, Head]) -> Iterator[str]:
    """Sentences that name what does not fit, for rows by stream and seq. ``heads``: where each must end."""
    last: dict[str, Head] = {}
    for row in rows:
        before = last.get(row.stream, Head())
        name = f"{row.stream} #{row.seq}"
        if row.seq != before.seq + 1:
            yield f"{name}: events between #{before.seq} and this one are missing"
        elif row.prev_hash != before.hash:
            yield f"{name}: does not follow #{before.seq}"
        if not _hash_fits(row):
            yield f"{name}: its content was changed after it was written"
        last[row.stream] = Head(row.seq, row.hash)
    for stream, head in heads.items():
        if last.get(stream) != head:
            yield f"{stream}: must end at #{head.seq}, but ends at #{last.get(stream, Head()).seq}"
    yield from (f"{stream}: is not in the list of streams" for stream in last if stream not in heads)


def _hash_fits(row: StoredEvent) -> bool:
    try:
        return event_hash(row) == row.hash
    except (ValueError, TypeError):
        return False


def _storable(value: JsonValue, depth: int) -> JsonValue:
    if depth > MAX_DEPTH:
        return "[cut: nested too deeply]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {_text(key): _storable(child, depth + 1) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(child, depth + 1) for child in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    raise InvalidInput(
        f"A payload holds a {type(value).__name__}, which is no JSON.", data={"field": "payload"}
    )


def _text(value: str) -> str:
    if len(value) > MAX_TEXT:
        value = f"{value[:MAX_TEXT]} [cut: {len(value) - MAX_TEXT} more characters]"
    # Not "replace": that writes "?", which is a character somebody could have meant.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
