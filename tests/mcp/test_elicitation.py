"""Questions through an agent's own client: which ones, in both eras, and that it cannot make more of them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import ElicitResult

from tests.mcp.shop import BIN, FIX, shop
from tests.mcp.wire import ERAS, NEW, OLD, text

Json = dict[str, Any]
CART = "shop/cart.py"
YES = {"action": "accept", "content": {"decision": "allow once"}}
# Whatever a client can send that is not exactly the word on offer.
NO = [
    {"action": "accept"},
    {"action": "accept", "content": {}},
    {"action": "accept", "content": {"decision": ""}},
    {"action": "accept", "content": {"decision": "ALLOW ONCE"}},
    {"action": "accept", "content": {"decision": "allow always"}},
    {"action": "accept", "content": {"decision": True}},
    {"action": "accept", "content": {"approved": "allow once"}},
    {"action": "accept", "content": {"decision": "deny"}},
    {"action": "decline", "content": {"decision": "allow once"}},
    {"action": "cancel", "content": {"decision": "allow once"}},
    {"action": "accept", "content": ["allow once"]},
    {"nonsense": 1},
]


def log_of(base: Path) -> list[Json]:
    (database,) = (base / "state").rglob("state.db")
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as opened:
        rows = opened.execute("SELECT type, stream, payload FROM events ORDER BY position")
        return [{"type": kind, "stream": stream, "payload": json.loads(text)} for kind, stream, text in rows]


def answers(base: Path) -> list[Json]:
    return [event["payload"] for event in log_of(base) if event["type"] == "approval.answered"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_clients_person_allows_an_edit_and_nothing_else(base: Path, mode: str) -> None:
    asked: list[str] = []

    async def person(_context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        assert params.requested_schema["required"] == ["decision"]
        assert "default" not in str(params.requested_schema)
        return ElicitResult(action="accept", content={"decision": "allow once"})

    async with shop(base) as place:
        options = ["--root", str(place.root), "--set", "daemon.idle_seconds=1"]
        server = StdioServerParameters(command=str(BIN / "codeforge-mcp"), args=options, env=place.env)
        async with Client(server, mode=mode, read_timeout_seconds=40, elicitation_callback=person) as client:
            done = await client.call_tool("apply_edits", {"edits": [FIX]})
            assert done.structured_content
            assert done.structured_content["status"] == "applied", done
            assert "return sum(prices)\n" in (place.root / CART).read_text()
            assert len(asked) == 1
            assert "-        return sum(prices) - 1" in asked[0]
            # What the policy keeps for people at an editor is not asked this way, whatever the client would say.
            back = await client.call_tool(
                "restore_checkpoint", {"checkpoint_id": done.structured_content["checkpoint_id"]}
            )
            assert back.is_error
            assert "nobody is there to ask" in text(back.model_dump(mode="json", by_alias=True))
            assert "return sum(prices)\n" in (place.root / CART).read_text()
            # Beside an editor the editor is asked.
            editor = await place.editor()
            editor.verdict = "Deny"
            more = {"path": CART, "old_text": "class Cart", "new_text": "class Basket"}
            refused = await client.call_tool("apply_edits", {"edits": [more]})
            assert refused.structured_content
            assert refused.structured_content["status"] == "denied"
            assert (len(asked), len(editor.prompts)) == (1, 1)
            await editor.close()
    by = [answer["answered_by"] for answer in answers(base)]
    assert by[0].startswith("elicitation:")
    assert by[1].startswith("no client")
    assert by[2].startswith("editor:")


async def test_only_the_exact_word_counts_in_2025(base: Path) -> None:
    said: list[Json] = []
    async with shop(base) as place:
        agent = await place.agent(OLD, person=lambda _: said[-1])
        for answer in NO:
            said.append(answer)
            result = (await agent.tool("apply_edits", edits=[FIX], timeout=40))["structuredContent"]
            assert result["status"] == "denied", (answer, result)
        assert "return sum(prices) - 1" in (place.root / CART).read_text()
        said.append(YES)
        assert (await agent.tool("apply_edits", edits=[FIX]))["structuredContent"]["status"] == "applied"
    assert sum(answer["state"] == "allowed" for answer in answers(base)) == 1


async def test_in_2026_an_answer_is_for_one_call_of_one_client_once(base: Path) -> None:
    async with shop(base) as place:
        agent = await place.agent(NEW, person=dict)
        other = await place.agent(NEW, name="other-agent", person=dict)

        async def call(who: Any, edits: list[Json], **more: Any) -> Json:
            params = {"name": "apply_edits", "arguments": {"edits": edits}, **more}
            return await who.answer(who.post("tools/call", params), 40)

        async def asked(edits: list[Json]) -> tuple[str, str]:
            result = (await call(agent, edits))["result"]
            assert result["resultType"] == "input_required", result
            (key,) = result["inputRequests"]
            return key, result["requestState"]

        def is_refused(answer: Json) -> bool:
            return "error" in answer or bool(answer["result"].get("isError"))

        for no in NO:
            key, state = await asked([FIX])
            answer = await call(agent, [FIX], inputResponses={key: no}, requestState=state)
            denied = is_refused(answer) or answer["result"]["structuredContent"]["status"] == "denied"
            assert denied, (no, answer)
        # Swap: the answer to one edit for another one; and state that somebody made up.
        key, state = await asked([FIX])
        worse = {"path": CART, "old_text": "class Cart", "new_text": "class Evil"}
        assert is_refused(await call(agent, [worse], inputResponses={key: YES}, requestState=state))
        for forged in (f"{state}x", key, "", "approval-1"):
            assert is_refused(await call(agent, [FIX], inputResponses={key: YES}, requestState=forged))
        # Another client with the same answer.
        assert is_refused(await call(other, [FIX], inputResponses={key: YES}, requestState=state))
        # An answer without a question is no answer, and one under another name neither.
        unasked = await call(agent, [FIX], inputResponses={key: YES})
        assert unasked["result"]["resultType"] == "input_required"
        assert "return sum(prices) - 1" in (place.root / CART).read_text()

        key, state = await asked([FIX])
        done = await call(agent, [FIX], inputResponses={key: YES}, requestState=state)
        assert done["result"]["structuredContent"]["status"] == "applied", done
        fixed = (place.root / CART).read_text()
        assert "return sum(prices)\n" in fixed
        # Replay, with the old bytes back in place.
        (place.root / CART).write_text(fixed.replace("return sum(prices)", "return sum(prices) - 1"))
        assert is_refused(await call(agent, [FIX], inputResponses={key: YES}, requestState=state))
        assert "return sum(prices) - 1" in (place.root / CART).read_text()
        # Stale base: the file changes between question and answer.
        key, state = await asked([FIX])
        theirs = (place.root / CART).read_text().replace("prices", "amounts")
        (place.root / CART).write_text(theirs)
        stale = await call(agent, [FIX], inputResponses={key: YES}, requestState=state)
        assert stale["result"]["structuredContent"]["status"] == "conflict", stale
        assert (place.root / CART).read_text() == theirs
    assert sum(answer["state"] == "allowed" for answer in answers(base)) == 2
    assert sum(event["type"] == "approval.consumed" for event in log_of(base)) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_policy_can_keep_everything_for_editors(base: Path, era: str) -> None:
    async with shop(base) as place:
        folder = place.root / ".codeforge" / "policies"
        folder.mkdir(parents=True)
        # A project tightens; what it adds to the list is not heard.
        rules = "rules: [{specifier: {tool: Read}, decision: allow}]\n"
        for name in ("editor-interactive", "loose"):
            listed = "[]" if name == "editor-interactive" else "[edit, command, restore]"
            (folder / f"{name}.yaml").write_text(f"name: {name}\n{rules}elicitation_may_approve: {listed}\n")
        agent = await place.agent(era, person=lambda _: YES)
        result = await agent.tool("apply_edits", edits=[FIX], timeout=40)
        assert result["structuredContent"]["status"] == "denied", result
        assert "nobody is there to ask" in text(result)
        assert "return sum(prices) - 1" in (place.root / CART).read_text()
