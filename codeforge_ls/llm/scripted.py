"""The scripted model: a real OpenAI-compatible HTTP server on loopback that plays a script, faults included.

``python -m codeforge_ls.llm.scripted --script FILE [--port 0]`` prints its base URL as the first line.
"""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from codeforge_ls.llm.script import ASIDE, Script, ScriptedTurn
from codeforge_ls.llm.scripted_embeddings import ScriptedEmbeddings
from codeforge_ls.llm.scripted_faults import play_fault
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import CodeForgeError, InvalidInput

LOOPBACK = "127.0.0.1"
MAX_BODY = 64 << 20
PIECE = 24  # characters of one streamed piece; a tool call comes in several, as from real providers
RECORDED = 1000  # requests kept for inspection


class ScriptedServer:
    """The server in a thread of this process, as a context manager.

    ``script`` is a ``Script`` or the JSON of one. ``requests`` holds the bodies of the last 1000 requests,
    ``authorizations`` what each was authorized with.
    """

    def __init__(
        self, script: Script | JsonValue, port: int = 0, embeddings: ScriptedEmbeddings | None = None
    ) -> None:
        self.embeddings = embeddings or ScriptedEmbeddings()
        self.script = script if isinstance(script, Script) else Script(script)
        self._requests: deque[JsonObject] = deque(maxlen=RECORDED)
        self.authorizations: deque[str] = deque(maxlen=RECORDED)
        self._gone = threading.Semaphore(0)
        self.closing = threading.Event()
        self._http = _Server((LOOPBACK, port), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.05,), name="scripted-model", daemon=True
        )

    @property
    def base_url(self) -> str:
        """What ``llm.api_base`` has to be."""
        return f"http://{LOOPBACK}:{self._http.server_address[1]}/v1"

    @property
    def requests(self) -> list[JsonObject]:
        """The bodies received so far, oldest first."""
        return list(self._requests)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def wait_for_disconnect(self, timeout: float) -> bool:
        """Whether, within ``timeout`` seconds, one more client hung up in the middle of an answer."""
        return self._gone.acquire(timeout=timeout)

    def note_request(self, body: JsonObject, authorization: str) -> None:
        """Remember a request."""
        self._requests.append(body)
        self.authorizations.append(authorization)

    def note_disconnect(self) -> None:
        """Remember that a client hung up."""
        self._gone.release()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    owner: ScriptedServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news; anything else shows as a failed call in the client."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nothing is logged: the output belongs to whoever runs the server."""

    def do_GET(self) -> None:
        """``/v1/models``."""
        self.send_json(200, {"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    def do_POST(self) -> None:
        """``/v1/chat/completions``, streamed or not, and ``/v1/embeddings``."""
        try:
            body = self._body()
            if self.path.partition("?")[0].endswith("/embeddings"):
                return self._embed(body)
            messages = body.get("messages")
            if not self.path.partition("?")[0].endswith("/chat/completions") or not isinstance(
                messages, list
            ):
                return self.send_json(404, {"error": {"message": f"no such endpoint: {self.path}"}})
            self.server.owner.note_request(body, self.headers.get("authorization", ""))
            turn = self.server.owner.script.answer([m for m in messages if isinstance(m, dict)])
            self._play(turn, body)
        except InvalidInput as error:
            self.send_json(400, {"error": {"message": error.message, "type": "invalid_request_error"}})
        except (BrokenPipeError, ConnectionResetError):
            self.server.owner.note_disconnect()
            self.close_connection = True

    def _embed(self, body: JsonObject) -> None:
        embeddings = self.server.owner.embeddings
        self.server.owner.note_request(body, self.headers.get("authorization", ""))
        if embeddings.failing is not None:
            return self.send_json(embeddings.failing, {"error": {"message": "the scripted model is ill"}})
        return self.send_json(200, embeddings.answer(body))

    def _body(self) -> JsonObject:
        size = self.headers.get("content-length", "")
        if not size.isdigit() or int(size) > MAX_BODY:
            raise InvalidInput("a body of known length is needed")
        try:
            body = json.loads(self.rfile.read(int(size)))
        except ValueError as error:
            raise InvalidInput("the body is not JSON") from error
        if not isinstance(body, dict):
            raise InvalidInput("the body is not a JSON object")
        return body

    def _play(self, turn: ScriptedTurn, body: JsonObject) -> None:
        if turn.fault:
            return play_fault(self, turn.fault, turn)
        if not body.get("stream"):
            return self.send_json(200, _whole(turn, body))
        self.open_stream()
        for chunk in _stream(turn, body):
            self.send_event(chunk)
            if turn.delay and not self.rest(turn.delay):
                return None
        return self.end_stream()

    # -- the wire, also for the faults --------------------------------------------------------------------

    def send_json(self, status: int, body: JsonObject, headers: Iterable[tuple[str, str]] = ()) -> None:
        """A whole answer."""
        self.send_bytes(status, json.dumps(body).encode(), [("content-type", "application/json"), *headers])

    def send_bytes(self, status: int, data: bytes, headers: Iterable[tuple[str, str]]) -> None:
        """A whole answer of any kind."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def open_stream(self) -> None:
        """The head of a chunked event stream."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def send_event(self, event: JsonObject | bytes) -> None:
        """One server-sent event; bytes are sent as they are."""
        data = event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end_stream(self, *, done: bool = True) -> None:
        """``[DONE]`` and the end of the body."""
        if done:
            self.send_event(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def rest(self, seconds: float) -> bool:
        """Wait; False, and noted, if the client hung up or the server closes meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.connection.settimeout(min(left, 0.2))
            try:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    self.server.owner.note_disconnect()
                    break
                time.sleep(min(left, 0.05))  # the client sent its next request already; it has to wait
            except TimeoutError:
                pass
            if self.server.owner.closing.is_set():
                break
        else:
            self.connection.settimeout(self.timeout)
            return True
        self.close_connection = True
        return False


def _stream(turn: ScriptedTurn, body: JsonObject) -> Iterator[JsonObject]:
    """The chunks of a turn: text in pieces, each call as a head and argument pieces, finish, usage."""
    head: JsonObject = {
        "id": f"chatcmpl-{secrets.token_hex(6)}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": body.get("model", "scripted"),
    }
    if turn.chunks is not None:
        yield from ({**head, **chunk} for chunk in turn.chunks)
    else:
        yield {**head, "choices": [_choice({"role": "assistant", "content": ""})]}
        for delta in _deltas(turn):
            yield {**head, "choices": [_choice(delta)]}
        yield {**head, "choices": [_choice({}, _finish(turn))]}
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage") and turn.usage != {}:
        yield {**head, "choices": [], "usage": _usage(turn, body)}


def _deltas(turn: ScriptedTurn) -> Iterator[JsonObject]:
    for piece in _pieces(turn.say):
        yield {"content": piece}
    for index, call in enumerate(_calls(turn)):
        function = call["function"]
        assert isinstance(function, dict)  # noqa: S101 - built a few lines below
        yield {"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]}
        for piece in _pieces(str(function["arguments"])):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _calls(turn: ScriptedTurn) -> list[JsonObject]:
    prefix = "call_" if turn.when is None else ASIDE
    return [
        {
            "id": prefix + secrets.token_hex(6),
            "type": "function",
            "function": {"name": call.tool, "arguments": _raw(call.arguments)},
        }
        for call in turn.calls
    ]


def _raw(arguments: JsonValue) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _pieces(text: str) -> Iterator[str]:
    # At most 200 pieces, so that megabytes of text do not become a hundred thousand chunks.
    size = max(PIECE, len(text) // 200)
    return (text[start : start + size] for start in range(0, len(text), size))


def _choice(delta: JsonObject, finish: str | None = None) -> JsonObject:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _finish(turn: ScriptedTurn) -> str:
    return turn.finish or ("tool_calls" if turn.calls else "stop")


def _usage(turn: ScriptedTurn, body: JsonObject) -> JsonObject:
    """Counted at four characters a token, unless the script says otherwise."""
    sent = len(json.dumps(body.get("messages"))) // 4
    answered = (len(turn.say) + sum(len(json.dumps(call.arguments)) for call in turn.calls)) // 4 + 1
    counted: JsonObject = {
        "prompt_tokens": sent,
        "completion_tokens": answered,
        "total_tokens": sent + answered,
    }
    return {**counted, **(turn.usage or {})}


def _whole(turn: ScriptedTurn, body: JsonObject) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": turn.say or None}
    if turn.calls:
        message["tool_calls"] = [*_calls(turn)]
    return {
        "id": f"chatcmpl-{secrets.token_hex(6)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model", "scripted"),
        "choices": [{"index": 0, "message": message, "finish_reason": _finish(turn)}],
        "usage": _usage(turn, body),
    }


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="codeforge_ls.llm.scripted", description=__doc__)
    parser.add_argument("--script", required=True, type=Path, help="JSON list of turns")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with ScriptedServer(Script.load(options.script), options.port) as server:
            sys.stdout.write(f"{server.base_url}\n")
            sys.stdout.flush()
            while not stopped.wait(1):
                pass
    except (CodeForgeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
