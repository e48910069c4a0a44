"""What a run wants is asked through the client that started it: beside its calls, or by the next of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult

from codeforge_ls.llm.scripted import ScriptedServer
from tests.mcp.http_place import open_door
from tests.mcp.shop import BIN, FIX, Shop, shop
from tests.mcp.test_elicitation import CART, NO, YES, answers
from tests.mcp.wire import NEW, OLD, Wire

Json = dict[str, Any]
WRONG = "return sum(prices) - 1"
EDIT = {"tool": "Edit", "arguments": FIX}
WORK = [EDIT, {"tool": "Bash", "arguments": {"command": "touch made.txt"}}, {"say": "Done."}]


def model_of(server: ScriptedServer) -> dict[str, str]:
    return {
        "CODEFORGE_LLM_MODEL": "openai/scripted",
        "CODEFORGE_LLM_API_BASE": server.base_url,
        "OPENAI_API_KEY": "sk-none",
    }


@asynccontextmanager
async def working(base: Path, turns: list[Json]) -> AsyncIterator[Shop]:
    with ScriptedServer(turns) as model:
        async with shop(base) as place:
            place.env |= model_of(model)
            yield place


async def ended(client: Client, run_id: str) -> Json:
    """The run, once it has ended."""
    for _ in range(400):
        shown = await client.call_tool("get_run", {"run_id": run_id})
        assert shown.structured_content, shown
        run: Json = shown.structured_content["run"]
        if run["status"] not in ("pending", "running"):
            return run
        await asyncio.sleep(0.2)
    raise AssertionError(f"{run_id} does not end")


async def start(client: Client) -> str:
    started = await client.call_tool("start_run", {"task": "mend the cart"})
    assert started.structured_content, started
    return str(started.structured_content["run_id"])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_clients_person_answers_what_its_run_wants(base: Path, mode: str) -> None:
    asked: list[str] = []

    async def person(_context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"decision": "allow once"})

    async with working(base, WORK) as place:
        options = ["--root", str(place.root), "--set", "daemon.idle_seconds=1"]
        server = StdioServerParameters(command=str(BIN / "codeforge-mcp"), args=options, env=place.env)
        async with Client(server, mode=mode, read_timeout_seconds=40, elicitation_callback=person) as client:
            run = await ended(client, await start(client))
            assert (run["status"], run["output"]) == ("completed", "Done.")
            assert WRONG not in (place.root / CART).read_text()
            assert len(asked) == 1
            assert "wants to edit shop/cart.py" in asked[0]
            assert f"-        {WRONG}" in asked[0]
            # A command is for people at an editor or a terminal: the client is not asked.
            assert not (place.root / "made.txt").exists()
            # Beside an editor, the editor is asked.
            (place.root / CART).write_text((place.root / CART).read_text().replace("sum(prices)", WRONG[7:]))
            editor = await place.editor()
            editor.verdict = "Deny"
            await ended(client, await start(client))
            assert (len(asked), len(editor.prompts)) == (1, 2)
            assert WRONG in (place.root / CART).read_text()
            await editor.close()
    by = [(answer["state"], answer["answered_by"].partition(":")[0]) for answer in answers(base)]
    assert by == [
        ("allowed", "elicitation"),
        ("denied", "no client"),
        ("denied", "editor"),
        ("denied", "editor"),
    ]


async def test_until_2025_the_client_is_asked_without_a_call(base: Path) -> None:
    said: list[Json] = [*NO, YES]
    asked: list[str] = []

    def person(params: Json) -> Json:
        asked.append(params["message"])
        return said[len(asked) - 1]

    async with working(base, [EDIT] * len(said) + [{"say": "Done."}]) as place:
        agent = await place.agent(OLD, person=person)
        bystander = await place.agent(OLD, name="bystander", person=lambda _: YES)
        # Three questions without an answer suspend a run; its client may begin another.
        while len(asked) < len(said):
            before = len(asked)
            run_id = (await agent.tool("start_run", task="mend"))["structuredContent"]["run_id"]
            while (run := await state_of(bystander, run_id))["status"] in ("pending", "running"):
                await asyncio.sleep(0.2)
            assert len(asked) > before, run
        assert WRONG not in (place.root / CART).read_text()
    assert [answer["state"] for answer in answers(base)] == ["denied"] * len(NO) + ["allowed"]
    assert all("test-agent" in answer["answered_by"] for answer in answers(base))


async def state_of(agent: Wire, run_id: str) -> Json:
    run: Json = (await agent.tool("get_run", run_id=run_id))["structuredContent"]["run"]
    return run


async def test_in_2026_only_the_client_that_started_it_can_answer_once(base: Path) -> None:
    async with working(base, [EDIT, EDIT, EDIT, {"say": "Done."}]) as place:
        agent = await place.agent(NEW, person=dict)
        other = await place.agent(NEW, name="other-agent", person=dict)
        mute = await place.agent(NEW, name="mute-agent")

        async def get(who: Wire, run_id: str, **more: Any) -> Json:
            params = {"name": "get_run", "arguments": {"run_id": run_id}, **more}
            answer: Json = await who.answer(who.post("tools/call", params), 40)
            return answer

        async def question(run_id: str) -> tuple[str, str]:
            for _ in range(400):
                result = (await get(agent, run_id))["result"]
                if result["resultType"] == "input_required":
                    (key,) = result["inputRequests"]
                    return key, result["requestState"]
                await asyncio.sleep(0.2)
            raise AssertionError("no question comes")

        def is_refused(answer: Json) -> bool:
            return "error" in answer or bool(answer["result"].get("isError"))

        run_id = (await agent.tool("start_run", task="mend"))["structuredContent"]["run_id"]
        key, sealed = await question(run_id)
        yes = {"inputResponses": {key: YES}, "requestState": sealed}
        # Another client sees the run, not the question, and cannot answer it; nor can a made-up state.
        for who in (other, mute):
            assert (await get(who, run_id))["result"]["resultType"] == "complete"
            assert is_refused(await get(who, run_id, **yes))
        assert is_refused(await get(agent, "run-another", **yes))
        for forged in (f"{sealed}x", key, ""):
            assert is_refused(await get(agent, run_id, inputResponses={key: YES}, requestState=forged))
        unasked = await get(agent, run_id, inputResponses={key: YES})
        assert unasked["result"]["resultType"] == "input_required"
        assert WRONG in (place.root / CART).read_text()
        # What says something else than yes is no.
        assert not is_refused(await get(agent, run_id, inputResponses={key: NO[5]}, requestState=sealed))
        # The terminal may be first; the client's answer comes too late then.
        key, sealed = await question(run_id)
        terminal = await asyncio.create_subprocess_exec(  # nobody but init above it: an agent's would be refused
            "sh", "-c", f"'{BIN / 'codeforge'}' deny {key} > /dev/null 2>&1 &", env=place.env, cwd=place.root
        )  # fmt: skip
        assert await terminal.wait() == 0
        async with asyncio.timeout(30):
            while len(answers(base)) < 2:
                await asyncio.sleep(0.2)
        assert is_refused(await get(agent, run_id, inputResponses={key: YES}, requestState=sealed))
        key, sealed = await question(run_id)
        yes = {"inputResponses": {key: YES}, "requestState": sealed}
        assert not is_refused(await get(agent, run_id, **yes))
        assert is_refused(await get(agent, run_id, **yes))  # once
        while (await state_of(other, run_id))["status"] in ("pending", "running"):
            await asyncio.sleep(0.2)
        assert WRONG not in (place.root / CART).read_text()
        # A client that leaves takes its person along.
        (place.root / CART).write_text((place.root / CART).read_text().replace("sum(prices)", WRONG[7:]))
        run_id = (await agent.tool("start_run", task="mend"))["structuredContent"]["run_id"]
        await question(run_id)
        await agent.close()
        while not (await state_of(other, run_id))["output"]:
            await asyncio.sleep(0.2)
        assert WRONG in (place.root / CART).read_text()
    by = [(answer["state"], answer["answered_by"].partition(":")[0]) for answer in answers(base)]
    expected = [
        ("denied", "dismissed"),
        ("denied", "cli"),
        ("allowed", "elicitation"),
        ("denied", "no client"),
    ]
    assert by[:4] == expected, by


async def test_over_http_the_client_is_not_asked_and_a_person_in_an_editor_is(base: Path) -> None:
    asked: list[str] = []

    async def person(_context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"decision": "allow once"})

    with ScriptedServer([EDIT, {"say": "Done."}]) as model:
        async with open_door(base, **model_of(model)) as door:
            wanted = {"Authorization": f"Bearer {door.token}"}
            async with httpx2.AsyncClient(headers=wanted, timeout=60) as http:
                transport = streamable_http_client(door.url, http_client=http)
                async with Client(transport, read_timeout_seconds=60, elicitation_callback=person) as client:
                    await ended(client, await start(client))
                    assert WRONG in (door.shop.root / CART).read_text()
                    editor = await door.shop.editor()
                    await ended(client, await start(client))
                    assert WRONG not in (door.shop.root / CART).read_text()
                    assert len(editor.prompts) == 1
                    await editor.close()
    assert not asked
    by = [(answer["state"], answer["answered_by"].partition(":")[0]) for answer in answers(base)]
    assert by == [("denied", "no client"), ("allowed", "editor")], json.dumps(by)
