"""How the scripted model fails: each fault as a real server shows it, down to the socket."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from typing import Protocol

from codeforge_ls.llm.script import Fault, ScriptedTurn
from codeforge_ls.model.base import JsonObject

LONGEST = 60.0  # seconds; no fault goes on for ever
PULSE = 0.2  # seconds between the signs of life of a drip or keep-alive

_HALF_CALL: tuple[JsonObject, ...] = (
    {"id": "call_cut", "index": 0, "type": "function", "function": {"name": "Read", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"path": "a.txt"}'}},  # whole by chance, and still not to be run
)
_STATUS: dict[Fault, tuple[int, JsonObject]] = {
    Fault.RATE_LIMIT: (429, {"message": "Rate limit reached", "type": "rate_limit_error"}),
    Fault.QUOTA: (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
    Fault.AUTH: (401, {"message": "Incorrect API key provided", "code": "invalid_api_key"}),
    Fault.NOT_FOUND: (404, {"message": "The model does not exist", "code": "model_not_found"}),
    Fault.ERROR_500: (500, {"message": "boom", "type": "server_error"}),
    Fault.OVERLOADED: (529, {"message": "Overloaded", "type": "overloaded_error"}),
    Fault.CONTEXT: (
        400,
        {
            "message": "This model's maximum context length is 8192 tokens. You sent 9001.",
            "code": "context_length_exceeded",
        },
    ),
    Fault.POLICY: (
        400,
        {"message": "The prompt triggered the content management policy.", "code": "content_filter"},
    ),
}


class Wire(Protocol):
    """What a fault needs of the connection."""

    connection: socket.socket
    close_connection: bool

    def send_json(self, status: int, body: JsonObject, headers: Iterable[tuple[str, str]] = ()) -> None:
        """A whole answer."""

    def send_bytes(self, status: int, data: bytes, headers: Iterable[tuple[str, str]]) -> None:
        """A whole answer of any kind."""

    def open_stream(self) -> None:
        """The head of a stream."""

    def send_event(self, event: JsonObject | bytes) -> None:
        """One event."""

    def end_stream(self, *, done: bool = True) -> None:
        """The end of a stream."""

    def rest(self, seconds: float) -> bool:
        """Wait; False if the client hung up."""
        ...


def play_fault(wire: Wire, fault: Fault, turn: ScriptedTurn) -> None:
    """Fail in this way."""
    if fault in _STATUS:
        status, error = _STATUS[fault]
        wait = [("retry-after", f"{turn.retry_after:g}")] if fault is Fault.RATE_LIMIT else []
        return wire.send_json(status, {"error": error}, wait)
    wire.close_connection = True
    match fault:
        case Fault.UNAVAILABLE:
            wire.send_bytes(503, b"<html>busy</html>", [("content-type", "text/html")])
        case Fault.EMPTY_BODY:
            wire.send_bytes(200, b"", [("content-type", "text/event-stream")])
        case Fault.HANG:
            wire.rest(LONGEST)
        case Fault.REFUSE:
            pass  # the connection closes without a byte
        case Fault.RESET:
            _start(wire, [{"content": "half an ans"}])
            wire.rest(0.05)
            _reset(wire.connection)
        case Fault.DRIP:
            _pulses(wire, _chunk({"content": "."}))
        case Fault.KEEPALIVE:
            _pulses(wire, b": ping\n\n")
        case _:
            _break_stream(wire, fault)
    return None


def _break_stream(wire: Wire, fault: Fault) -> None:
    """Faults in the middle of a stream that began well."""
    if fault is Fault.CUT_TOOL:
        _start(wire, [{"tool_calls": [delta]} for delta in _HALF_CALL])
        return wire.end_stream(done=False)
    _start(wire, [{"content": "half an ans"}])
    match fault:
        case Fault.NO_FINISH:
            return wire.end_stream()
        case Fault.GARBAGE:
            wire.send_event(b"data: {not json\n\n")
        case Fault.BAD_UTF8:
            wire.send_event(b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n')
        case Fault.ERROR_IN_STREAM:
            wire.send_event({"error": {"message": "upstream died", "type": "server_error", "code": 500}})
        case _:  # CUT: the body is never terminated
            return None
    return wire.end_stream()


def _start(wire: Wire, deltas: Iterable[JsonObject]) -> None:
    wire.open_stream()
    for delta in deltas:
        wire.send_event(_chunk(delta))


def _chunk(delta: JsonObject) -> JsonObject:
    return {
        "id": "chatcmpl-fault",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "scripted",
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }


def _pulses(wire: Wire, event: JsonObject | bytes) -> None:
    wire.open_stream()
    for _ in range(int(LONGEST / PULSE)):
        wire.send_event(event)
        if not wire.rest(PULSE):
            return


def _reset(connection: socket.socket) -> None:
    """Close with RST in place of FIN; detached, because the handler's files would keep it open."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())
