"""Turns through the real backend, its real worker with litellm, and a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from codeforge_ls.llm.backend import LitellmBackend, require_model
from codeforge_ls.llm.script import Script
from codeforge_ls.llm.scripted import ScriptedServer
from codeforge_ls.model.base import JsonValue
from codeforge_ls.model.errors import InvalidInput, Unavailable
from codeforge_ls.model.llm import (
    Message,
    ModelRequest,
    TextDelta,
    ToolRequest,
    TurnDone,
    TurnFailed,
    TurnRetry,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")
MakeRequest = Callable[..., ModelRequest]


async def test_text_streams_in_pieces_with_usage_and_cost(
    backend: LitellmBackend, make_request: MakeRequest
) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 200, "prompt_tokens_details": {"cached_tokens": 400}}
    said = "The bug is in the third line, as far as I can see from here. " * 3
    with ScriptedServer([{"say": said, "usage": usage}]) as server:
        events = [event async for event in backend.stream(make_request(server, temperature=0.0))]
        free = [event async for event in backend.stream(make_request(server, model="openai/qwen2.5-coder"))]
        sent = server.requests[0]
    deltas, done = events[:-1], events[-1]
    assert len(deltas) > 3
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == said
    assert isinstance(done, TurnDone)
    assert (done.text, done.complete, done.finish_reason, done.attempts) == (said, True, "stop", 1)
    assert (done.usage.tokens_in, done.usage.tokens_out, done.usage.cached_tokens) == (1000, 200, 400)
    # gpt-4o-mini: 600 * 0.15 + 400 * 0.075 + 200 * 0.60 USD per million
    assert (done.usage.cost_nano_usd, done.usage.cost_source, done.usage.source) == (
        240_000,
        "computed",
        "provider",
    )
    assert sent["temperature"] == 0.0
    assert sent["stream_options"] == {"include_usage": True}
    unpriced = free[-1]
    assert isinstance(unpriced, TurnDone)
    assert (unpriced.usage.cost_nano_usd, unpriced.usage.cost_source) == (None, "unknown")
    assert unpriced.usage.tokens_in == 1000
    assert "litellm" not in sys.modules
    assert "openai" not in sys.modules


async def test_a_script_with_tool_calls_is_played_through(
    backend: LitellmBackend, make_request: MakeRequest
) -> None:
    script = [
        {"say": "Let me look.", "tool": "Read", "arguments": {"path": "a.py"}},
        {
            "tools": [
                {"tool": "Read", "arguments": {"path": "b.py"}},
                {"tool": "Read", "arguments": {"path": "c.py"}},
            ]
        },
        {"tool": "Read", "arguments": {"path": "{{last_result|see (\\S+)}}"}},
        {"say": "Fixed."},
    ]
    messages: list[Message] = [Message(role="user", content="Fix it.")]
    seen: list[list[str]] = []
    with ScriptedServer(script) as server:
        for _ in range(4):
            request = make_request(server, messages=tuple(messages))
            done = [event async for event in backend.stream(request)][-1]
            assert isinstance(done, TurnDone)
            assert done.complete
            seen.append([json.loads(call.arguments)["path"] for call in done.tool_calls])
            messages.append(Message(role="assistant", content=done.text, tool_calls=done.tool_calls))
            messages += [
                Message(role="tool", tool_call_id=call.id, content="see d.py") for call in done.tool_calls
            ]
        last = server.requests[-1]["messages"]
    assert seen == [["a.py"], ["b.py", "c.py"], ["d.py"], []]
    assert messages[-1].content == "Fixed."
    ids = [call.id for message in messages for call in message.tool_calls]
    assert len(set(ids)) == len(ids) == 4
    assert isinstance(last, list)
    assert [message["role"] for message in last if isinstance(message, dict)] == [
        "user", "assistant", "tool", "assistant", "tool", "tool", "assistant", "tool",
    ]  # fmt: skip


async def test_rate_limit_is_waited_for_and_shown(backend: LitellmBackend, make_request: MakeRequest) -> None:
    script = [{"fault": "rate_limit", "retry_after": 0.4}, {"fault": "error_500"}, {"say": "ok"}]
    with ScriptedServer(script) as server:
        began = time.monotonic()
        events = [event async for event in backend.stream(make_request(server))]
        took = time.monotonic() - began
        count = len(server.requests)
        patient = ScriptedServer([{"fault": "rate_limit", "retry_after": 900, "times": 0}])
        with patient:
            refused = [event async for event in backend.stream(make_request(patient))]
    retries = [event for event in events if isinstance(event, TurnRetry)]
    assert [(retry.attempt, retry.kind) for retry in retries] == [(1, "rate_limit"), (2, "server")]
    assert retries[0].delay >= 0.4
    assert took >= 0.4
    done = events[-1]
    assert isinstance(done, TurnDone)
    assert (done.text, done.attempts, count) == ("ok", 3, 3)
    (failed,) = refused
    assert isinstance(failed, TurnFailed)
    assert (failed.kind, failed.status, failed.retry_after, failed.attempts) == ("rate_limit", 429, 900, 1)


async def test_deadlines_end_a_call_that_never_would(
    backend: LitellmBackend, make_request: MakeRequest
) -> None:
    async def failure(fault: str, **deadlines: float) -> tuple[TurnFailed, float, int]:
        with ScriptedServer([{"fault": fault, "times": 0}]) as server:
            began = time.monotonic()
            events = [event async for event in backend.stream(make_request(server, **deadlines))]
            took = time.monotonic() - began
            assert server.wait_for_disconnect(2)
            assert isinstance(events[-1], TurnFailed)
            return events[-1], took, len(server.requests)

    hang, keep_alive, drip = await asyncio.gather(
        failure("hang", first_token_timeout=0.5),
        failure("keepalive", first_token_timeout=0.5),
        failure("drip", total_timeout=1.2),
    )
    for failed, took, requests in (hang, keep_alive):
        assert failed.kind == "timeout"
        assert "No token" in failed.message
        assert failed.retryable
        assert requests == 2  # tried once more, not three times
        assert took < 4
    failed, took, requests = drip
    assert (failed.kind, requests) == ("timeout", 1)
    assert "not finished after" in failed.message
    assert 1.0 <= took < 3


async def test_cancelling_closes_the_connection_at_once(
    backend: LitellmBackend, make_request: MakeRequest
) -> None:
    with ScriptedServer([{"fault": "hang", "times": 0}]) as server:
        task = asyncio.create_task(anext(backend.stream(make_request(server))))
        await _until(lambda: len(server.requests) == 1)
        began = time.monotonic()
        task.cancel()
        gone = await asyncio.to_thread(server.wait_for_disconnect, 2)
        assert gone
        assert time.monotonic() - began < 0.3  # 0.1 s is the promise; the machine may be busy
        with pytest.raises(asyncio.CancelledError):
            await task
    with ScriptedServer([{"fault": "drip", "times": 0}]) as server:
        async with aclosing(backend.stream(make_request(server))) as events:
            assert isinstance(await anext(events), TextDelta)
        assert await asyncio.to_thread(server.wait_for_disconnect, 2)
    assert backend.health()["in_flight"] == 0


async def test_killed_worker_is_replaced_during_the_call(
    backend: LitellmBackend, make_request: MakeRequest
) -> None:
    with ScriptedServer([{"fault": "hang"}, {"say": "ok"}]) as server:
        events = []
        task = asyncio.create_task(_collect(backend, make_request(server, first_token_timeout=20.0), events))
        await _until(lambda: len(server.requests) == 1)
        assert backend.worker_pid
        os.kill(backend.worker_pid, signal.SIGKILL)
        await asyncio.wait_for(task, 40)
        retry, done = events[0], events[-1]
        assert isinstance(retry, TurnRetry)
        assert retry.kind == "worker"
        assert isinstance(done, TurnDone)
        assert (done.text, done.attempts) == ("ok", 2)
        worker = backend.health()["worker"]
        assert isinstance(worker, dict)
        assert (worker["state"], worker["restarts"]) == ("running", 1)


async def test_breaker_opens_and_lets_one_probe_through(
    backend: LitellmBackend, make_request: MakeRequest
) -> None:
    def circuit() -> JsonValue:
        circuits = backend.health()["circuits"]
        assert isinstance(circuits, dict)
        state = circuits[server.base_url.split("/")[2]]
        assert isinstance(state, dict)
        return [state["state"], state["failures"]]

    with ScriptedServer([{"fault": "error_500", "times": 5}, {"say": "back", "delay": 0.1}]) as server:
        request = make_request(server)
        first = [event async for event in backend.stream(request)]
        assert [type(event) for event in first] == [TurnRetry, TurnRetry, TurnRetry, TurnFailed]
        assert circuit() == ["closed", 4]
        (fifth,) = [event async for event in backend.stream(request)]
        assert isinstance(fifth, TurnFailed)
        assert (fifth.kind, fifth.status) == ("server", 500)
        (rejected,) = [event async for event in backend.stream(request)]
        assert isinstance(rejected, TurnFailed)
        assert (rejected.kind, rejected.attempts) == ("circuit_open", 0)
        assert rejected.retry_after
        assert circuit() == ["open", 5]
        assert len(server.requests) == 5
        await asyncio.sleep(0.6)
        assert circuit() == ["half_open", 5]
        probe = asyncio.create_task(_collect(backend, request, cancelled := []))
        await _until(lambda: len(server.requests) == 6)
        probe.cancel()  # a probe that was given up says nothing; the next caller is the probe
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert not any(isinstance(event, TurnDone) for event in cancelled)
        ends: list[list[object]] = [[], [], []]
        await asyncio.gather(*(_collect(backend, request, end) for end in ends))
        assert sorted(type(end[-1]).__name__ for end in ends) == ["TurnDone", "TurnFailed", "TurnFailed"]
        assert len(server.requests) == 7
        assert circuit() == ["closed", 0]


async def test_a_conversation_out_of_order_is_not_sent(
    backend: LitellmBackend, make_request: MakeRequest
) -> None:
    call = ToolRequest(id="c1", name="Read", arguments="{}")
    bad: list[tuple[Message, ...]] = [
        (),
        (Message(role="user", content="a"), Message(role="tool", tool_call_id="x", content="r")),
        (Message(role="assistant", tool_calls=(call,)), Message(role="user", content="a")),
        (Message(role="assistant", tool_calls=(call, call)),),
        (Message(role="user", content="a"), Message(role="assistant", tool_calls=(call,))),
    ]
    with ScriptedServer([{"say": "ok"}]) as server:
        for messages in bad:
            (failed,) = [event async for event in backend.stream(make_request(server, messages=messages))]
            assert isinstance(failed, TurnFailed)
            assert (failed.kind, failed.retryable) == ("bad_request", False)
        assert server.requests == []


async def test_without_a_model_the_error_says_how_to_set_one() -> None:
    for nothing in (None, "", "  "):
        with pytest.raises(Unavailable) as raised:
            require_model(nothing)
        for word in (
            "CODEFORGE_LLM_MODEL",
            "config.yaml",
            "llm.api_base",
            "openai/qwen2.5-coder",
            "127.0.0.1:8080/v1",
        ):
            assert word in raised.value.text
    assert require_model(" openai/x ") == "openai/x"


async def test_the_command_prints_its_address_and_ends_on_a_signal(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(
        json.dumps([{"task": "fix", "turns": [{"say": "fixed"}]}, {"task": "", "turns": [{"say": "?"}]}])
    )
    command = [sys.executable, "-m", "codeforge_ls.llm.scripted", "--script", str(script)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        assert line.startswith("http://127.0.0.1:")
        assert line.endswith("/v1")
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0
    script.write_text("[{}]")
    broken = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, errors = await asyncio.wait_for(broken.communicate(), 20)
    assert broken.returncode == 1
    assert b"not valid" in errors


async def test_a_script_tells_its_place_from_the_conversation() -> None:
    def conversation(task: str, results: int, last: str = "r") -> list[dict[str, object]]:
        turns: list[dict[str, object]] = [{"role": "user", "content": task}]
        for number in range(results):
            call = {"id": f"c{number}", "function": {"name": "Read", "arguments": "{}"}}
            turns.append({"role": "assistant", "tool_calls": [call]})
            turns.append({"role": "tool", "tool_call_id": f"c{number}", "content": last})
        return turns

    script = Script(
        [
            {"task": "loop", "turns": [{"tool": "Read", "repeat": 3}]},
            {
                "task": "",
                "turns": [
                    {"when": "DENIED", "say": "I stop."},
                    {"fault": "rate_limit", "times": 2},
                    {"tool": "Read", "arguments": {"path": "{{task}}"}},
                    {"say": "End."},
                ],
            },
        ]
    )
    ask = script.answer
    assert [bool(ask(conversation("loop", n)).calls) for n in range(5)] == [True, True, True, False, False]
    both = [ask(conversation(name, 0)).fault for name in ("a", "b", "a", "b", "a", "b")]
    assert both == ["rate_limit"] * 4 + [None, None]  # counted for each conversation
    assert ask(conversation("a", 0)).calls[0].arguments == {"path": "a"}
    assert ask(conversation("a", 1)).say == "End."
    assert ask(conversation("a", 1, "DENIED by policy")).say == "I stop."
    for wrong in (
        {},
        [{}],
        [{"fault": "nonsense"}],
        [{"say": "a", "extra": 1}],
        [{"when": "(", "say": "a"}],
        "x",
    ):
        with pytest.raises(InvalidInput):
            Script(wrong)


async def _collect(backend: LitellmBackend, request: ModelRequest, events: list[object]) -> None:
    async for event in backend.stream(request):
        events.append(event)  # noqa: PERF401 - the caller looks on while it fills


async def _until(condition: Callable[[], bool], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
