"""Anthropic's and Gemini's own stream formats through the worker: where they say that an answer is finished."""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.llm import Message, ToolRequest

pytestmark = pytest.mark.asyncio(loop_scope="session")
Play = Callable[..., Awaitable[list[Any]]]
CLAUDE, GEMINI = "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-pro"


@contextmanager
def replying(events: Sequence[JsonObject]) -> Iterator[tuple[str, list[JsonObject]]]:
    """A server that answers every POST with these events; gives its address and the bodies it received."""
    bodies: list[JsonObject] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for event in events:
                name = f"event: {event['type']}\n" if "type" in event else ""
                self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def claude(*, whole: bool) -> list[JsonObject]:
    tool = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}}
    piece = {"type": "input_json_delta", "partial_json": '{"path": "a"}'}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": []}
    events: list[JsonObject] = [
        {"type": "message_start", "message": {**message, "usage": {"input_tokens": 100, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Look."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": tool},
        {"type": "content_block_delta", "index": 1, "delta": piece},
        {"type": "content_block_stop", "index": 1},
    ]
    end: list[JsonObject] = [
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 50}},
        {"type": "message_stop"},
    ]
    return events + (end if whole else [])


def gemini(*, whole: bool) -> list[JsonObject]:
    def candidate(part: JsonObject, **more: object) -> JsonObject:
        return {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0, **more}]}

    usage = {"promptTokenCount": 100, "candidatesTokenCount": 50, "totalTokenCount": 150}
    call = {"functionCall": {"name": "Read", "args": {"path": "a"}}}
    last = candidate(call, **({"finishReason": "STOP"} if whole else {}))
    return [candidate({"text": "Look."}), {**last, "usageMetadata": usage}]


@pytest.mark.parametrize(("model", "answer"), [(CLAUDE, claude), (GEMINI, gemini)], ids=["claude", "gemini"])
async def test_an_answer_counts_only_with_its_end(
    model: str, answer: Callable[..., list[JsonObject]], play: Play
) -> None:
    with replying(answer(whole=True)) as (address, _):
        (done,) = await play(address, model=model)
    assert (done.complete, done.text, done.finish_reason) == (True, "Look.", "tool_calls")
    assert [json.loads(call.arguments) for call in done.tool_calls] == [{"path": "a"}]
    assert (done.usage.tokens_in, done.usage.tokens_out, done.usage.source) == (100, 50, "provider")
    assert done.usage.cost_source == "computed"
    assert done.usage.cost_nano_usd > 0
    with replying(answer(whole=False)) as (address, _):
        *_, cut = await play(address, model=model)
    assert not getattr(cut, "complete", False)
    assert not getattr(cut, "tool_calls", ())


@pytest.mark.parametrize(("model", "answer"), [(CLAUDE, claude), (GEMINI, gemini)], ids=["claude", "gemini"])
async def test_a_malformed_call_in_the_history_does_no_harm(
    model: str, answer: Callable[..., list[JsonObject]], play: Play
) -> None:
    call = ToolRequest(id="call_1", name="Read", arguments='{"path": "a')
    history = (
        Message(role="system", content="You fix."),
        Message(role="user", content="Fix it."),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", tool_call_id="call_1", content="arguments are not JSON"),
    )
    with replying(answer(whole=True)) as (address, bodies):
        (done,) = await play(address, model=model, messages=history)
    assert done.complete
    assert "malformed_arguments" in json.dumps(bodies)
