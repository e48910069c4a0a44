"""The first answer of a session, which a fresh daemon gives before the SDK is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_server.handshake import VERSIONS, greeting
from tests.mcp.shop import shop


def opening(number: int | str, **params: Any) -> bytes:
    """An ``initialize``."""
    whole = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": number, "method": "initialize", "params": whole | params}
    return json.dumps(message).encode() + b"\n"


async def test_the_greeting_is_what_the_sdk_says_and_is_said_once(base: Path) -> None:
    """The first client of a daemon is answered before the SDK is there, the next ones by the SDK."""
    line = opening("ä1", capabilities={"roots": {"listChanged": True}, "elicitation": {}})
    call = {"name": "search_code", "arguments": {"query": "total"}}
    rest = (
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/list"},
    )
    async with shop(base) as place:
        first = await place.front_end("codeforge-mcp")
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write(line + b"".join(json.dumps(one).encode() + b"\n" for one in rest))
        answers = [json.loads(said := await first.stdout.readline()) for _ in range(3)]
        assert answers[0]["id"] == "ä1"
        assert sorted(answer["id"] for answer in answers[1:]) == [2, 3]
        assert all("result" in answer for answer in answers), said
        second = await place.front_end("codeforge-mcp")
        assert second.stdin is not None
        assert second.stdout is not None
        second.stdin.write(line)
        assert json.loads(await second.stdout.readline()) == answers[0]
        for number, version in enumerate(VERSIONS):
            line = opening(number, protocolVersion=version)
            client = await place.front_end("codeforge-mcp")
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(line)
            assert await client.stdout.readline() == greeting(line)


@pytest.mark.parametrize(
    "line",
    [
        opening(1, protocolVersion="2026-07-28"),
        opening(1, clientInfo={"name": "half \ud800", "version": "1"}),
        opening(1, capabilities=[]),
        opening(True),
        opening(1)[:-40],
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n',
        b"[]\n",
        b"",
    ],
)
def test_only_a_plain_beginning_is_greeted(line: bytes) -> None:
    assert greeting(line) is None


async def test_a_first_client_that_begins_badly_is_told(base: Path) -> None:
    async with shop(base) as place:
        client = await place.front_end("codeforge-mcp")
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(opening(1, clientInfo=None) + opening(2))
        bad, good = [json.loads(await client.stdout.readline()) for _ in range(2)]
        assert (bad["id"], bad["error"]["code"]) == (1, -32602)
        assert (good["id"], good["result"]["serverInfo"]["name"]) == (2, "codeforge")
