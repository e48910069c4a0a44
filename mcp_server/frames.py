"""JSON lines of one MCP connection: a cap on their length, and an answer to each that is no message."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from mcp.types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    JSONRPCMessage,
    JSONRPCNotification,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

MAX_LINE = 4 << 20  # bytes of one message
CHUNK = 1 << 16
EARLY = 1000  # bytes of a message too long in which its id is looked for

# The id of a message too long to be parsed, where it stands before anything nested.
EARLY_ID = re.compile(
    rb'\s*\{\s*(?:"(?:jsonrpc|method)"\s*:\s*"[^"\\]{0,100}"\s*,\s*)*"id"\s*:\s*(-?\d{1,18}|"[^"\\]{0,200}")'
)


async def messages(reader: asyncio.StreamReader, begun: bytes = b"") -> AsyncIterator[JSONRPCMessage | bytes]:
    """What the client says, line by line: each message, or the answer to what is none. ``begun`` was read before.

    Of a line over ``MAX_LINE`` only the beginning is kept, for its id; the rest is skipped as it comes.
    """
    kept, seen, skipping = bytearray(), 0, False
    while data := begun or await reader.read(CHUNK):
        kept += data
        begun = b""
        while (end := kept.find(b"\n", seen)) >= 0:
            line = bytes(kept[:end])
            del kept[: end + 1]
            seen = 0
            if skipping:
                skipping = False
            elif len(line) > MAX_LINE:
                yield _too_long(line[:EARLY])
            elif line.strip():
                yield parse(line)
        if not skipping and len(kept) > MAX_LINE:
            skipping = True
            yield _too_long(bytes(kept[:EARLY]))
        if skipping:
            kept.clear()
        seen = len(kept)
    if kept.strip():
        yield parse(bytes(kept))


def _too_long(start: bytes) -> bytes:
    log.warning("skipped a message of more than %d bytes", MAX_LINE)
    found = EARLY_ID.match(start)
    return _error(
        json.loads(found[1]) if found else None,
        INVALID_REQUEST,
        f"The message is longer than {MAX_LINE} bytes and was skipped; send smaller edits.",
    )


def parse(line: bytes) -> JSONRPCMessage | bytes:
    """The message, or the error that answers what is none."""
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError:
        return _refusal(line)
    # With an id that is none, the SDK would take a request for a notification and leave its sender waiting.
    if isinstance(message, JSONRPCNotification) and b'"id"' in line and "id" in json.loads(line):
        return _refusal(line)
    return message


def _refusal(line: bytes) -> bytes:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return _error(None, PARSE_ERROR, "The line is not JSON in UTF-8.")
    if isinstance(raw, list):
        return _error(None, INVALID_REQUEST, "Batches are not supported: send one message a line.")
    if not isinstance(raw, dict):
        return _error(None, INVALID_REQUEST, "A message is a JSON object.")
    given = raw.get("id")
    known = given if isinstance(given, int | str) and not isinstance(given, bool) else None
    return _error(known, INVALID_REQUEST, "This is no valid JSON-RPC 2.0 message in well-formed Unicode.")


def write(message: JSONRPCMessage) -> bytes:
    """One message as a line. Lone surrogates, which JSON in UTF-8 cannot hold, become question marks."""
    try:
        return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
    except (ValueError, UnicodeEncodeError):
        whole = message.model_dump(mode="python", by_alias=True, exclude_unset=True)
        return json.dumps(whole, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _error(request_id: int | str | None, code: int, message: str) -> bytes:
    answer = {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}
    return json.dumps(answer).encode() + b"\n"
