"""A foreign agent starts a run under less than its policy: stored with the run, seen in what is refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeforge_ls.llm.scripted import ScriptedServer
from tests.mcp.leftovers import clear
from tests.mcp.shop import BIN, FIX, Shop, shop
from tests.mcp.wire import text


@pytest.fixture
def base() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cf", dir="/tmp"))  # a socket's name has 107 bytes
    yield folder
    clear(folder)


async def test_an_agent_starts_a_run_tighter_than_its_policy_and_never_looser(base: Path) -> None:
    script = [
        {"tool": "Read", "arguments": {"path": "shop/cart.py"}},
        {"tool": "Edit", "arguments": FIX},
        {"say": "I was refused."},
    ]
    with ScriptedServer(script) as model:
        async with shop(base) as place:
            place.env |= {
                "CODEFORGE_LLM_MODEL": "openai/scripted",
                "CODEFORGE_LLM_API_BASE": model.base_url,
                "OPENAI_API_KEY": "sk-none",
            }
            before = place.picture()
            agent = await place.agent()
            tighten = {
                "deny": ["Edit"],
                "ask": ["Bash"],
                "max_steps": 7,
                "max_seconds": 90,
                "no_network": True,
            }
            wish = {
                "task": "x",
                "profile": "trusted-mount-autonomous",
                "exec_mode": "hybrid",
                "tighten": tighten,
            }
            started = await agent.tool("start_run", **wish, timeout=40)
            assert "tightened by editor-interactive and run" in text(started)
            assert "; commands run in hybrid mode: " in text(started)
            run_id = started["structuredContent"]["run_id"]
            for _ in range(300):
                shown = (await agent.tool("get_run", run_id=run_id))["structuredContent"]
                if shown["run"]["status"] == "completed":
                    break
                await asyncio.sleep(0.1)
            assert shown["run"]["output"] == "I was refused."
            (denied,) = [event for event in shown["events"] if event["type"] == "run.toolcall.denied"]
            assert "the run was started with deny Edit" in denied["summary"]
            assert place.picture() == before

            # all of it is stored with the run, whatever the files of policy say later
            stored = json.loads(await _codeforge(place, "show", run_id))["events"][0]["payload"]["run"]
            assert stored["execution"]["mode"] == "hybrid"
            layer = stored["layers"][-1]
            assert (layer["scope"], layer["profile"]["termination"]["max_steps"]) == ("run", 7)
            assert layer["profile"]["termination"]["timeout_seconds"] == 90
            explained = await _codeforge(
                place, "policy", "explain", "--tool", "Write", "--path", "n", "--run", run_id
            )
            assert (json.loads(explained)["decision"], json.loads(explained)["scope"]) == ("deny", "run")
            asked = await _codeforge(
                place, "policy", "explain", "--tool", "Bash", "--command", "ls", "--run", run_id
            )
            assert json.loads(asked)["decision"] == "ask"

            for wrong in (
                {"tighten": {"deny": ["Edti"]}},
                {"tighten": {"allow": ["Edit"]}},
                {"tighten": {"max_steps": -1}},
                {"tighten": {"no_network": False, "max_cost": "free"}},
                {"exec_mode": "host"},
            ):
                refused = await agent.tool("start_run", task="x", **wrong)
                assert refused["isError"], wrong
                assert text(refused).startswith("invalid_input: "), text(refused)
            assert "there is no tool 'Edti'" in text(
                await agent.tool("start_run", task="x", tighten={"deny": ["Edti"]})
            )
            # nothing of it gives more than the policy does
            looser = {"task": "x", "tighten": {"no_network": False, "max_steps": 100_000, "max_cost": 1e6}}
            more = await agent.tool("start_run", **looser)
            run_id = more["structuredContent"]["run_id"]
            question = ("policy", "explain", "--tool", "Edit", "--path", "shop/cart.py", "--run", run_id)
            assert json.loads(await _codeforge(place, *question))["decision"] == "ask"
            assert "no network" in text(more)


async def _codeforge(place: Shop, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        BIN / "codeforge", *words, "--json", env=place.env, cwd=place.root,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 40)
    return out.decode()
