"""An agent over the real ``codeforge-mcp``: the pipe, the daemon, the gate, the index, checkpoints, a real editor."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from codeforge_ls.llm.scripted import ScriptedServer
from tests.mcp.shop import BIN, FIX, indexed, shop
from tests.mcp.wire import ERAS, NEW, OLD, Wire, text


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_finds_its_way_and_sees_unsaved_text(base: Path, era: str) -> None:
    async with shop(base) as place:
        agent = await place.agent(era)
        first = await agent.tool("search_code", query="total", timeout=40)  # answers while the index builds
        assert not first.get("isError"), text(first)
        await indexed(agent)
        hits = (await agent.tool("search_code", query="total prices", path_glob="shop/*.py"))[
            "structuredContent"
        ]["hits"]
        assert hits[0]["path"].startswith("shop/")
        assert hits[0]["text"]
        by_file = (await agent.tool("search_code", query="cart", group_by="file"))["structuredContent"][
            "hits"
        ]
        assert len({hit["path"] for hit in by_file}) == len(by_file)
        assert "shop/cart.py" in text(await agent.tool("repo_map", budget_tokens=512))
        found = (await agent.tool("symbol_info", name="with_tax"))["structuredContent"]["definitions"]
        assert [(one["path"], one["start_line"]) for one in found] == [("shop/tax.py", 4)]
        at = {"path": "shop/tax.py", "line": 4, "column": 5}
        assert (await agent.tool("symbol_info", position=at))["structuredContent"]["definitions"] == found
        near = (await agent.tool("symbol_info", name="Cart", relation="neighbours"))["structuredContent"]
        assert all(one["symbol"] != "Cart" for one in near["definitions"])
        uses = (await agent.tool("symbol_info", name="Cart", relation="references"))["structuredContent"]
        assert "shop/tax.py" in [use["path"] for use in uses["references"]]
        assert text(
            await agent.tool("read_code", path="shop/cart.py", start_line=2, end_line=2)
        ).splitlines()[1:] == ["2\t    def total(self, prices):"]
        editor = await place.editor()
        editor.open("shop/cart.py", "class Trolley:\n    unsaved = True\n")
        await editor.command("codeforge.health")  # what the agent asks now comes after the document
        shown = text(await agent.tool("read_code", path="shop/cart.py"))
        assert "unsaved text" in shown
        assert "1\tclass Trolley:" in shown
        drawn = await agent.request("resources/read", {"uri": "codeforge://map"})
        assert "shop/" in drawn["contents"][0]["text"]
        await editor.close()


async def test_edits_wait_for_a_person_and_can_be_taken_back(base: Path) -> None:
    async with shop(base) as place:
        agent = await place.agent()
        before = place.picture()
        dry = (await agent.tool("apply_edits", edits=[FIX], dry_run=True, timeout=40))["structuredContent"]
        assert "+        return sum(prices)" in dry["diff"]
        refused = await agent.tool("apply_edits", edits=[FIX])  # nobody is there who could say yes
        assert refused["structuredContent"]["status"] == "denied"
        assert refused["structuredContent"]["checkpoint_id"] is None
        assert place.picture() == before

        editor = await place.editor()
        editor.verdict = "Deny"
        assert (await agent.tool("apply_edits", edits=[FIX]))["structuredContent"]["status"] == "denied"
        editor.verdict = None
        assert (await agent.tool("apply_edits", edits=[FIX]))["structuredContent"]["status"] == "denied"
        assert place.picture() == before
        assert len(editor.prompts) == 2
        assert "-        return sum(prices) - 1" in editor.prompts[0]
        assert "test-agent" in editor.prompts[0]

        editor.verdict = "Allow once"
        crlf = {"path": "win.txt", "old_text": "two", "new_text": "2"}
        made = {"path": "new/notes.md", "content": "# Notes\n"}
        done = (await agent.tool("apply_edits", edits=[FIX, crlf, made]))["structuredContent"]
        assert done["status"] == "applied"
        assert {change["path"]: change["change"] for change in done["files"]} == {
            "shop/cart.py": "modified", "win.txt": "modified", "new/notes.md": "created",
        }  # fmt: skip
        assert (place.root / "win.txt").read_bytes() == b"one\r\n2\r\n"
        assert "return sum(prices)\n" in (place.root / "shop/cart.py").read_text()
        stale = {**FIX, "old_text": "class Cart", "new_text": "class C", "base_hash": "0" * 32}
        assert "conflict" in text(await agent.tool("apply_edits", edits=[stale]))

        listed = (await agent.tool("list_checkpoints"))["structuredContent"]["checkpoints"]
        assert done["checkpoint_id"] in [one["id"] for one in listed]
        back = await agent.tool("restore_checkpoint", checkpoint_id=done["checkpoint_id"])
        assert sorted(back["structuredContent"]["changed"]) == ["new/notes.md", "shop/cart.py", "win.txt"], (
            text(back)
        )
        assert place.picture() == before
        await editor.close()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_accepts_what_we_send(base: Path, mode: str) -> None:
    """It checks structured results against the schemas that we published."""
    async with shop(base) as place:
        options = ["--root", str(place.root), "--set", "daemon.idle_seconds=1"]
        server = StdioServerParameters(command=str(BIN / "codeforge-mcp"), args=options, env=place.env)
        async with Client(server, mode=mode, read_timeout_seconds=40) as client:
            assert len((await client.list_tools()).tools) == 11
            found = await client.call_tool("search_code", {"query": "total"})
            assert found.structured_content is not None
            assert found.meta is not None
            assert found.meta["codeforge/untrusted"] is True  # what it shows is the repository's word
            dry = await client.call_tool("apply_edits", {"edits": [FIX], "dry_run": True})
            assert dry.structured_content is not None
            assert dry.structured_content["diff"]
            denied = await client.call_tool("apply_edits", {"edits": [FIX]})
            assert denied.structured_content is not None
            assert denied.structured_content["status"] == "denied"
            listed = await client.call_tool("list_checkpoints", {})
            assert listed.structured_content == {"checkpoints": [], "omitted": 0}
            trail = await client.call_tool("audit_list", {"action": "approval"})
            assert trail.structured_content is not None
            assert trail.structured_content["entries"][0]["action"] == "approval"
            symbol = await client.call_tool("symbol_info", {"name": "Cart"})
            assert symbol.structured_content is not None
            missing = await client.call_tool("get_run", {"run_id": "run-none"})
            assert missing.is_error


BAD_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("search_code", {"query": ""}),
    ("search_code", {"query": "x", "limit": 0}),
    ("search_code", {"query": "x" * 100_000}),
    ("repo_map", {"budget_tokens": -1}),
    ("repo_map", {"focus": ["a"] * 1000}),
    ("read_code", {"path": "../outside.txt"}),
    ("read_code", {"path": "/etc/passwd"}),
    ("read_code", {"path": "a\u0000b"}),
    ("read_code", {"path": "shop"}),
    ("read_code", {"path": "none.py"}),
    ("read_code", {"path": "shop/cart.py", "start_line": 9, "end_line": 3}),
    ("symbol_info", {}),
    ("symbol_info", {"name": "a", "position": {"path": "a", "line": 1}}),
    ("symbol_info", {"position": {"path": "a", "line": 0}}),
    ("apply_edits", {"edits": []}),
    ("apply_edits", {"edits": [{"path": "a.py"}]}),
    ("apply_edits", {"edits": [{"path": "shop/cart.py", "old_text": "no such text", "new_text": "x"}]}),
    ("apply_edits", {"edits": [{"path": "shop/cart.py", "old_text": "", "new_text": "x"}]}),
    ("apply_edits", {"edits": [{"path": "../evil.txt", "content": "x"}]}),
    ("apply_edits", {"edits": [{"path": ".git/config", "content": "x"}]}),
    ("apply_edits", {"edits": [{"path": "link/evil.txt", "content": "x"}]}),
    ("apply_edits", {"edits": [FIX, {"path": "win.txt", "old_text": "three", "new_text": "x"}]}),
    ("start_run", {"task": ""}),
    ("start_run", {"task": "x", "profile": "../../etc"}),
    ("start_run", {"task": "x", "mode": "no-such-mode"}),
    ("start_run", {"task": "x"}),  # no model is set here
    ("get_run", {"run_id": "run-none"}),
    ("get_run", {"run_id": "'; DROP TABLE runs; --"}),
    ("cancel_run", {"run_id": "run-none"}),
    ("list_checkpoints", {"run_id": "run-none"}),
    ("audit_list", {"run_id": "run-none"}),
    ("audit_list", {"cursor": 10**16}),
    ("audit_list", {"action": "rewind'; DROP TABLE events; --"}),
    ("restore_checkpoint", {"checkpoint_id": "--all"}),
    ("restore_checkpoint", {"checkpoint_id": "x" * 5000}),
]


async def test_bad_input_gets_a_code_and_changes_nothing(base: Path) -> None:
    async with shop(base) as place:
        (place.root / "link").symlink_to(base)
        editor = await place.editor()  # even with a person who says yes to everything
        agent = await place.agent(OLD)
        before, codes = place.picture(), set[str]()
        for name, arguments in BAD_CALLS:
            result = await agent.tool(name, **arguments)
            status = result.get("structuredContent", {}).get("status")
            refused = result.get("isError") or status in ("denied", "conflict")
            assert refused, (name, arguments, text(result))
            assert len(text(result)) < 4000
            if result.get("isError"):
                codes.add(result["_meta"]["codeforge/error"]["code"])
                assert not text(result).startswith("internal"), (name, arguments, text(result))
        assert codes <= {"invalid_input", "not_found", "denied", "conflict", "unavailable", "limit_reached"}
        assert place.picture() == before
        assert not (base / "evil.txt").exists()
        assert not (base / "ws" / ".." / "evil.txt").exists()
        await editor.close()


async def test_two_agents_do_not_see_each_other_and_one_may_break_the_rules(base: Path) -> None:
    async with shop(base) as place:
        one, two = await asyncio.gather(place.agent(NEW, "one"), place.agent(OLD, "two"))
        await indexed(one)

        async def ask(wire: Wire, number: int) -> None:
            path = ("shop/cart.py", "shop/tax.py", "README.md")[number % 3]
            shown = text(await wire.tool("read_code", path=path, start_line=1, end_line=1 + number % 2))
            assert shown.startswith(f"{path}:1-{1 + number % 2} of ")

        await asyncio.gather(*(ask(wire, number) for number in range(12) for wire in (one, two)))
        lists = [(await wire.request("tools/list"))["tools"] for wire in (one, two)]
        assert lists[0] == lists[1]
        bad = await place.agent(OLD, "bad")
        bad.writer.write(b'{"jsonrpc":"2.0","id":"big","method":"ping","params":{"x":"')
        for _ in range(6):
            bad.writer.write(b"a" * (1 << 20))
        assert (await bad.answer("big"))["error"]["code"] == -32600
        await asyncio.gather(*(ask(wire, number) for number in range(4) for wire in (one, two)))
        bad.writer.write(b'"}}\n')
        await ask(bad, 0)  # the connection goes on


async def test_a_started_run_says_every_profile_in_force(base: Path) -> None:
    with ScriptedServer([{"say": "Done."}]) as model:
        async with shop(base) as place:
            place.env |= {
                "CODEFORGE_LLM_MODEL": "openai/scripted",
                "CODEFORGE_LLM_API_BASE": model.base_url,
                "OPENAI_API_KEY": "sk-none",
            }
            agent = await place.agent()
            started = await agent.tool("start_run", task="x", profile="trusted-mount-autonomous", timeout=40)
            profiles = started["structuredContent"]["profiles"]
            assert profiles == ["trusted-mount-autonomous", "editor-interactive"]
            assert "profile trusted-mount-autonomous, tightened by editor-interactive" in text(started)
            plain = await agent.tool("start_run", task="x")
            assert plain["structuredContent"]["profiles"] == ["editor-interactive"]
            for result in (started, plain):
                run_id = result["structuredContent"]["run_id"]
                for _ in range(300):
                    shown = await agent.tool("get_run", run_id=run_id)
                    if shown["structuredContent"]["run"]["status"] == "completed":
                        break
                    await asyncio.sleep(0.1)
                assert shown["structuredContent"]["run"]["output"] == "Done."
