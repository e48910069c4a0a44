"""Every fault an agent must survive, over a real socket through the real worker: what our rules make of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from codeforge_ls.llm.failures import classify, retry_after
from codeforge_ls.llm.scripted import ScriptedServer
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.llm import TurnDone, TurnFailed, TurnRetry

pytestmark = pytest.mark.asyncio(loop_scope="session")
Play = Callable[..., Awaitable[list[Any]]]  # the fixture of conftest.py
OK: JsonObject = {"say": "ok"}


def chunk(delta: JsonObject, finish: str | None = None) -> JsonObject:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call(arguments: object = '{"path":"a"}', **fields: object) -> JsonObject:
    function = {"name": fields.pop("name", "Read"), "arguments": arguments}
    return {"index": 0, "id": "call_1", "type": "function", **fields, "function": function}


def calls(*deltas: JsonObject, finish: str = "tool_calls") -> JsonObject:
    """A turn whose stream has one chunk for each of these tool-call deltas."""
    return {"chunks": [*(chunk({"tool_calls": [delta]}) for delta in deltas), chunk({}, finish)]}


@dataclass(frozen=True)
class Case:
    """Turns the server plays; what must come of it: retries by kind, then a failure or the fields of a turn."""

    name: str
    turns: list[JsonObject]
    retries: list[str] = field(default_factory=list)
    failed: str = ""
    text: str = ""
    arguments: list[str] | None = None
    finish: str = "stop"
    complete: bool = True
    says: str = ""


def fails(name: str, kind: str, says: str = "") -> Case:
    return Case(name, [{"fault": name, "times": 0}], failed=kind, says=says)


def retried(name: str, kind: str) -> Case:
    return Case(name, [{"fault": name}, OK], retries=[kind], text="ok")


CASES = [
    # 1-9: what comes in place of an answer
    retried("rate_limit", "rate_limit"),
    fails("quota", "quota", "no quota left"),
    fails("auth", "auth", "OPENAI_API_KEY"),
    fails("not_found", "not_found", "llm.api_base"),
    retried("error_500", "server"),
    retried("unavailable", "server"),
    retried("overloaded", "server"),
    retried("refuse", "network"),
    # 10-16: what breaks in the middle
    Case("no_finish", [{"fault": "no_finish"}], text="half an ans", complete=False, finish=""),
    Case("cut_tool", [{"fault": "cut_tool"}], complete=False, finish="", arguments=[]),
    retried("reset", "network"),
    retried("cut", "incomplete"),
    retried("error_in_stream", "incomplete"),
    retried("garbage", "incomplete"),
    Case("empty body", [{"fault": "empty_body"}], complete=False, finish=""),
    Case("null choices", [{"chunks": [{"choices": None}]}], complete=False, finish=""),
    Case("no choices", [{"chunks": []}], complete=False, finish=""),
    # 17-22: whole answers that are not what was asked for
    Case("empty", [{"chunks": [chunk({"content": ""}), chunk({}, "stop")]}]),
    Case("null content", [{"chunks": [chunk({"content": None}, "stop")]}]),
    Case("length", [{"say": "cut off in the mid", "finish": "length"}], text="cut off in the mid", finish="length"),
    Case("length in arguments", [calls(call('{"path":"a.t'), finish="length")], arguments=[], finish="length"),
    Case("length after whole arguments", [calls(call(), finish="length")], arguments=[], finish="length"),
    Case("filter", [{"chunks": [chunk({"content": ""}, "content_filter")]}], failed="refused"),
    fails("policy", "refused"),
    Case(
        "refusal",
        [{"chunks": [chunk({"role": "assistant", "refusal": "I can't help with that."}), chunk({}, "stop")]}],
        failed="refused",
        says="I can't help with that.",
    ),
    fails("context", "context"),
    # 23-33: tool calls
    Case("malformed arguments", [calls(call('{"path": "a'))], arguments=['{"path": "a'], finish="tool_calls"),
    Case("no arguments", [calls(call(""))], arguments=["{}"], finish="tool_calls"),
    Case("null arguments", [calls(call(None))], arguments=["{}"], finish="tool_calls"),
    Case("object arguments", [calls(call({"path": "a"}))], arguments=['{"path": "a"}'], finish="tool_calls"),
    Case("unknown tool", [calls(call("{}", name="launch"))], arguments=["{}"], finish="tool_calls"),
    Case("null tool name", [calls(call(name=None))], retries=["empty"], failed="empty"),
    Case("announced, none came", [{"say": "calling", "finish": "tool_calls"}], retries=["empty"], failed="empty"),
    Case("null id", [calls(call(id=None))], arguments=['{"path":"a"}'], finish="tool_calls"),
    Case("empty id", [calls(call(id=""))], arguments=['{"path":"a"}'], finish="tool_calls"),
    Case("same id", [calls(call("{}"), call('{"a":1}', index=1))], arguments=["{}", '{"a":1}'], finish="tool_calls"),
    Case("same index", [calls(call("{}"), call('{"a":1}', id="b"))], arguments=["{}", '{"a":1}'], finish="tool_calls"),
    Case("same index, id", [calls(call("{}"), call('{"a":1}'))], arguments=["{}", '{"a":1}'], finish="tool_calls"),
    Case(
        "head repeated in every piece",
        [calls(call('{"pa'), call('th":"a"'), call("}"))],
        arguments=['{"path":"a"}'],
        finish="tool_calls",
    ),
    Case(
        "two calls woven together",
        [
            calls(
                call('{"a', id="x"),
                call('{"b', id="y", index=1),
                {"index": 0, "function": {"arguments": '":1}'}},
                {"index": 1, "function": {"arguments": '":2}'}},
            )
        ],
        arguments=['{"a":1}', '{"b":2}'],
        finish="tool_calls",
    ),
    Case("stop with calls", [calls(call(), finish="stop")], arguments=['{"path":"a"}']),
    Case("unknown finish", [{"say": "ok", "finish": "banana"}], text="ok", finish="banana"),
    # 34-43: text
    Case("call as text", [{"say": "<tool_call>{}</tool_call>"}], text="<tool_call>{}</tool_call>"),
    Case(
        "reasoning",
        [{"chunks": [chunk({"reasoning_content": "hm"}), chunk({"content": "ok"}), chunk({}, "stop")]}],
        text="ok",
    ),
    retried("bad_utf8", "incomplete"),
    Case("lone surrogate", [{"chunks": [chunk({"content": "x\ud83d"}), chunk({}, "stop")]}], text="x\ufffd"),
    Case(
        "pair in two pieces",
        [{"chunks": [chunk({"content": "x\ud83d"}), chunk({"content": "\ude00y"}), chunk({}, "stop")]}],
        text="x\U0001f600y",
    ),
    Case("controls", [{"chunks": [chunk({"content": "a\x00b\x1b[31m\t\n"}, "stop")]}], text="a\ufffdb\ufffd[31m\t\n"),
    Case("NUL in arguments", [calls(call('{"a":"\x00\udc00"}'), finish="stop")], arguments=['{"a":"\ufffd\ufffd"}']),
    Case("wrong role", [{"chunks": [chunk({"role": "user", "content": "hm"}, "stop")]}], text="hm"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_fault(case: Case, play: Play) -> None:
    with ScriptedServer(case.turns) as server:
        events = await play(server)
        requests = len(server.requests)
    *before, end = events
    assert all(isinstance(event, TurnRetry) for event in before)
    assert [event.kind for event in before] == case.retries
    assert requests == len(case.retries) + 1 == end.attempts
    if case.failed:
        assert isinstance(end, TurnFailed), end
        assert end.kind == case.failed
        assert case.says in end.message
        return
    assert isinstance(end, TurnDone), end
    assert (end.complete, end.finish_reason, end.text) == (case.complete, case.finish, case.text)
    assert [call.arguments for call in end.tool_calls] == (case.arguments or [])
    ids = [call.id for call in end.tool_calls]
    assert all(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("usage", "model", "expected"),
    [
        ({}, "openai/gpt-4o-mini", ("estimated", "computed")),
        ({"prompt_tokens": -5, "completion_tokens": 3}, "openai/gpt-4o-mini", ("unknown", "unknown")),
        ({"prompt_tokens": 9, "completion_tokens": 3, "cost": 0.5}, "openai/unpriced", ("provider", "usage")),
        ({"prompt_tokens": 9, "completion_tokens": 3, "cost": 0}, "openai/unpriced", ("provider", "unknown")),
        ({"prompt_tokens": 9, "completion_tokens": 3, "cost": 0}, "openai/gpt-4o", ("provider", "computed")),
        (
            {"prompt_tokens": 9, "completion_tokens": 3, "cost": -1},
            "openai/unpriced",
            ("provider", "unknown"),
        ),
        ({"prompt_tokens": 0, "completion_tokens": 0}, "openai/gpt-4o", ("unknown", "unknown")),
    ],
)
async def test_usage(usage: JsonObject, model: str, expected: tuple[str, str], play: Play) -> None:
    with ScriptedServer([{"say": "ok", "usage": usage}]) as server:
        (done,) = await play(server, model=model)
    assert (done.usage.source, done.usage.cost_source) == expected
    assert (done.usage.cost_nano_usd is None) == (expected[1] == "unknown")
    assert done.usage.tokens_in >= 0
    if usage.get("cost") == 0.5:
        assert done.usage.cost_nano_usd == 500_000_000


async def test_huge_answers_are_cut(play: Play) -> None:
    with ScriptedServer([{"say": " ".join(map(str, range(820_000)))}]) as server:
        (text,) = await play(server)
    with ScriptedServer([{"tool": "Read", "arguments": json.dumps({"path": "y" * 2_100_000})}]) as server:
        (arguments,) = await play(server)
    with ScriptedServer([{"tool": "Read", "arguments": json.dumps({"path": "y" * 1_900_000})}]) as server:
        (large,) = await play(server)
    assert (text.complete, text.finish_reason, len(text.text)) == (False, "too_large", 5_000_000)
    assert (arguments.complete, arguments.finish_reason, arguments.tool_calls) == (False, "too_large", ())
    assert large.complete
    assert len(large.tool_calls[0].arguments) > 1_900_000


async def test_nobody_there_and_wrong_names(play: Play) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    *retries, failed = await play(address)
    assert [retry.kind for retry in retries] == ["network"] * 3
    assert (failed.kind, failed.status, failed.attempts) == ("network", None, 4)
    (unnamed,) = await play(address, model="qwen2.5-coder")
    assert unnamed.kind == "configuration"
    assert "provider/name" in unnamed.message
    (keyless,) = await play(address, api_base=None)
    assert (keyless.kind, keyless.attempts) == ("auth", 1)
    assert "OPENAI_API_KEY" in keyless.message


class _ProviderError(Exception):
    """An error as the client libraries raise it."""

    def __init__(self, text: str, status: int | None, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status_code = status
        self.litellm_response_headers = headers or {}


@pytest.mark.parametrize(
    ("text", "status", "kind"),
    [
        ("No connected db.", 400, "auth"),
        ("APIConnectionError: No module named 'mcp'", 500, "configuration"),
        ("You exceeded your current quota, please check your plan and billing details", 429, "quota"),
        ('RESOURCE_EXHAUSTED You exceeded your current quota {"retryDelay": "21s"}', 429, "rate_limit"),
        ("prompt is too long: 210000 tokens > 200000 maximum", 400, "context"),
        ("payment required", 402, "quota"),
        ("something new", 418, "bad_request"),
        ("something new", 599, "server"),
        ("something new", None, "server"),
    ],
)
async def test_classification(text: str, status: int | None, kind: str) -> None:
    failed = classify(_ProviderError(text, status), {})
    assert failed.kind == kind


async def test_keys_are_cut_out_and_waits_are_read() -> None:
    error = _ProviderError(
        "bad key zzz-secret-value and sk-abcdefghijk, Bearer qwerty", 401, {"Retry-After": "7"}
    )
    failed = classify(error, {"SOME_API_KEY": "zzz-secret-value", "HOME": "key and"})
    assert failed.retry_after == 7
    assert "[redacted] and [redacted], [redacted]" in failed.message
    assert "zzz" not in failed.message
    assert "File" not in failed.message
    assert "qwerty" not in failed.message
    assert retry_after({"llm_provider-retry-after": "3"}) == 3
    assert retry_after({"retry-after-ms": "250", "retry-after": "1"}) == 0.25
    assert retry_after({"retry-after": "Mon, 01 Jan 2001 00:00:00 GMT"}) == 0
    assert retry_after({"retry-after": "soon"}) is None
