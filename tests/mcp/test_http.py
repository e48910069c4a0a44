"""Agents over HTTP: the official client through the real daemon, an editor's yes, two programs, the end of each."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult

from codeforge_ls.llm.scripted import ScriptedServer
from tests.mcp.http_place import (
    Door,
    Program,
    call,
    codeforge,
    events,
    hello,
    knock,
    leave,
    old,
    open_door,
    routed,
)
from tests.mcp.shop import FIX, Shop, shop
from tests.mcp.wire import OLD, text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_works_from_search_to_restore(base: Path, mode: str) -> None:
    async with open_door(base) as door:
        place = door.shop
        wanted = {"Authorization": f"Bearer {door.token}"}
        async with httpx2.AsyncClient(headers=wanted, timeout=60) as http:
            transport = streamable_http_client(door.url, http_client=http)
            asked: list[str] = []

            async def yes(_context: Any, params: Any) -> ElicitResult:
                asked.append(params.message)
                return ElicitResult(action="accept", content={"decision": "allow once"})

            async with Client(
                transport, mode=mode, read_timeout_seconds=60, elicitation_callback=yes
            ) as client:
                told: list[float] = []

                async def progress(at: float, _total: float | None, _message: str | None) -> None:
                    told.append(at)

                assert len((await client.list_tools()).tools) == 11
                found = await client.call_tool("search_code", {"query": "total"})
                assert found.structured_content is not None
                denied = await client.call_tool("apply_edits", {"edits": [FIX]})
                assert denied.structured_content is not None
                assert denied.structured_content["status"] == "denied"  # nobody is there to ask,
                assert not asked  # and a client over HTTP is not
                editor = await place.editor()
                before = place.picture()
                applied = await client.call_tool("apply_edits", {"edits": [FIX]}, progress_callback=progress)
                assert applied.structured_content is not None
                assert applied.structured_content["status"] == "applied", applied
                assert "return sum(prices)\n" in (place.root / "shop/cart.py").read_text()
                assert editor.prompts
                checkpoint = applied.structured_content["checkpoint_id"]
                restored = await client.call_tool("restore_checkpoint", {"checkpoint_id": checkpoint})
                assert not restored.is_error, restored
                assert place.picture() == before
                assert "shop/cart.py" in str((await client.read_resource("codeforge://map")).contents)
                await editor.close()
        log = events(place)
        came = [payload for _, kind, payload in log if kind == "session.attached"]
        assert [one["client"].split("/")[0] for one in came if one["front_end"] == "mcp-http"] == ["mcp"]
        sessions = {stream for stream, kind, _ in log if kind == "run.toolcall.requested"}
        assert {stream.split("-0")[0] for stream in sessions} == {"session:mcp-http"}


async def test_off_unless_the_person_says_so_and_then_not_imported(base: Path) -> None:
    async with shop(base) as place:
        place.env |= {"CODEFORGE_DAEMON_IDLE_SECONDS": "1", "PYTHONPROFILEIMPORTTIME": "1"}
        (place.root / ".codeforge").mkdir()
        (place.root / ".codeforge/config.yaml").write_text("mcp: {http: true, port: 4711}\n")
        await codeforge(place, "trust", "--yes")  # not even then
        agent = await place.agent()
        del place.env["PYTHONPROFILEIMPORTTIME"]
        await agent.tool("search_code", query="total", timeout=60)
        code, said = await codeforge(place, "mcp", "http", "--json")
        facts = json.loads(said.splitlines()[-1])
        assert (code, facts["on"], facts["open"], facts["url"]) == (3, False, False, None)
        assert not Path(facts["token_file"]).exists()
        problems = json.loads((await codeforge(place, "health", "--json"))[1].splitlines()[-1])[
            "config_problems"
        ]
        assert {one["field"] for one in problems} == {"mcp.http", "mcp.port"}
        (stderr,) = Path(place.env["XDG_STATE_HOME"]).glob("codeforge/*/logs/daemon.stderr")
        imported = {line.rpartition("|")[2].strip() for line in stderr.read_text().splitlines()}
        assert "mcp_server.app" in imported  # of the pipe
        # uvicorn comes with the SDK's first import; what serves connections does not.
        assert not imported & {"h11", "uvicorn.protocols.http.h11_impl", "mcp_server.http_wire"}
        # The person's own file opens it while the daemon runs, and shuts it again.
        own = Path(place.env["XDG_CONFIG_HOME"]) / "codeforge/config.yaml"
        own.parent.mkdir(exist_ok=True)
        for wanted in (True, False):
            own.write_text(f"mcp: {{http: {str(wanted).lower()}}}\n")
            await until(lambda wanted=wanted: kinds(place).count("http_door.changed") == (1 if wanted else 2))
            code, said = await codeforge(place, "mcp", "http", "--json")
            facts = json.loads(said.splitlines()[-1])
            assert (code, facts["open"]) == ((0, True) if wanted else (3, False))
        assert Path(facts["token_file"]).stat().st_mode & 0o777 == 0o600


async def test_two_programs_know_nothing_of_each_other(base: Path) -> None:
    async with open_door(base) as door:
        one, two = [await Program.start(door) for _ in range(2)]
        keys = []
        for number, program in enumerate((one, two)):
            opened = await program.send(hello(f"program-{number}"))
            keys.append(opened.headers["mcp-session-id"])
            sent = {"Mcp_Session_Id": keys[number], "MCP_Protocol_Version": OLD}
            assert (await program.send(old("notifications/initialized", None), **sent)).status == 202

        async def ask(program: Program, key: str, number: int) -> None:
            path = ("shop/cart.py", "shop/tax.py", "README.md")[number % 3]
            body = old("tools/call", 7, name="read_code", arguments={"path": path})  # both use the same id
            answer = await program.send(body, Mcp_Session_Id=key, MCP_Protocol_Version=OLD)
            assert text(answer.message["result"]).startswith(f"{path}:1-")
            body = call("read_code", number=7, path=path)
            assert text((await program.send(body, **routed("read_code"))).message["result"]).startswith(path)

        for number in range(12):
            await asyncio.gather(ask(one, keys[0], number), ask(two, keys[1], number + 1))
        # The id of a session is worth nothing to another program, and its owner does not notice.
        for method, body in (("POST", old("tools/list")), ("GET", None), ("DELETE", None)):
            stolen = await two.send(body, method=method, Mcp_Session_Id=keys[0], MCP_Protocol_Version=OLD)
            assert stolen.status == 404, (method, stolen)
        await ask(one, keys[0], 0)
        # Its end is the end of its id.
        assert (await one.send(None, method="DELETE", Mcp_Session_Id=keys[0])).status == 200
        ended = await one.send(old("tools/list"), Mcp_Session_Id=keys[0], MCP_Protocol_Version=OLD)
        assert ended.status == 404
        await ask(two, keys[1], 1)
        names = {payload["client"] for _, kind, payload in events(door.shop) if kind == "session.attached"}
        assert names >= {"program-0/1", "program-1/1"}
        for program in (one, two):
            await program.end()
        await until(lambda: kinds(door.shop).count("session.detached") >= 2)


async def test_a_client_keeps_the_daemon_and_its_end_or_its_silence_lets_it_go(base: Path) -> None:
    place = Shop(base)
    place.env |= {
        "CODEFORGE_MCP_HTTP": "true", "CODEFORGE_DAEMON_IDLE_SECONDS": "1", "CODEFORGE_MCP_SESSION_SECONDS": "6",
    }  # fmt: skip
    async with place.stack:
        staying, door = await knock(place)
        program = await Program.start(door)
        assert (await program.send(call("repo_map"), **routed("repo_map"))).status == 200
        await leave(staying)
        await asyncio.sleep(3)
        assert (await program.send(call("repo_map"), **routed("repo_map"))).status == 200, "the daemon left"
        await program.end()
        await until(lambda: "workspace.closed" in kinds(place), 5)
        # The next daemon has the same address and token; there a program that is silent does not count for long.
        staying, again = await knock(place)
        assert (again.url, again.token) == (door.url, door.token)
        silent = await Program.start(again)
        assert (await silent.send(call("repo_map"), **routed("repo_map"))).status == 200
        await leave(staying)
        began = time.monotonic()
        await until(lambda: kinds(place).count("workspace.closed") == 2, 15)
        assert time.monotonic() - began > 4
        assert "error" in await silent.try_raw(b"GET / HTTP/1.1\r\n\r\n")
        await silent.end()


async def test_a_new_token_ends_all_that_came_in_with_the_old_one(base: Path) -> None:
    async with open_door(base) as door:
        code, said = await codeforge(door.shop, "mcp", "http")
        assert code == 0
        assert all(name in said for name in (door.url, "Claude Code", "Codex", "opencode", "Gemini CLI"))
        assert door.token not in said
        program = await Program.start(door)
        opened = await program.send(hello("before"))
        key = opened.headers["mcp-session-id"]
        code, said = await codeforge(door.shop, "mcp", "rotate", "--json")
        assert code == 0, said
        assert door.token not in said
        path = Path(json.loads(said.splitlines()[-1])["token_file"])
        fresh = path.read_text().strip()
        assert fresh != door.token
        assert path.stat().st_mode & 0o777 == 0o600
        assert fresh not in said
        trail = json.loads((await codeforge(door.shop, "audit", "list", "--json"))[1].splitlines()[-1])[
            "entries"
        ]
        (entry,) = [one for one in trail if "a new token" in one["what"]]
        assert (entry["who"], entry["why"]) == ("cli:terminal", "a person's order")
        refused = await door.exchange(door.request(call("repo_map"), **routed("repo_map")))
        assert refused is not None
        assert refused.status == 401
        newcomer = Door(door.shop, door.url, fresh)
        other = await Program.start(newcomer)
        assert (await other.send(call("repo_map"), **routed("repo_map"))).status == 200
        gone = await other.send(old("tools/list"), Mcp_Session_Id=key, MCP_Protocol_Version=OLD)
        assert gone.status == 404
        # An agent cannot do it: what its shell says is what an agent says.
        assert await newcomer.call("repo_map")  # from now on this process is one
        code, said = await codeforge(door.shop, "mcp", "rotate")
        assert (code, path.read_text().strip()) == (1, fresh)
        assert "for people" in said
        assert ("workspace", "http_door.changed", {"token": "renewed"}) in events(door.shop)
        secrets = (door.token.encode(), fresh.encode())
        written = [file for file in base.rglob("*") if file.is_file() and file != path]
        assert not [file for file in written if any(secret in file.read_bytes() for secret in secrets)]
        await program.end()
        await other.end()


@pytest.mark.parametrize("spoilt", ["others may read it", "a link", "no token"])
async def test_a_token_that_others_may_know_opens_nothing(base: Path, spoilt: str) -> None:
    async with shop(base) as place:
        place.env["CODEFORGE_DAEMON_IDLE_SECONDS"] = "1"
        facts = json.loads((await codeforge(place, "mcp", "http", "--json"))[1].splitlines()[-1])
        path = Path(facts["token_file"])
        await until(lambda: "workspace.closed" in kinds(place), 10)
        if spoilt == "a link":
            (base / "elsewhere").write_text("A" * 43)
            path.symlink_to(base / "elsewhere")
        else:
            path.write_text("A" * 43 if spoilt == "others may read it" else "")
            path.chmod(0o644 if spoilt == "others may read it" else 0o600)
        place.env["CODEFORGE_MCP_HTTP"] = "true"
        place.env["CODEFORGE_DAEMON_IDLE_SECONDS"] = "5"
        code, said = await codeforge(place, "mcp", "http")
        assert (code, "codeforge mcp rotate" in said) == (3, True), said
        assert (await codeforge(place, "mcp", "rotate"))[0] == 0
        assert not path.is_symlink()
        assert path.stat().st_mode & 0o777 == 0o600
        assert (await codeforge(place, "mcp", "http"))[0] == 0
        await codeforge(place, "daemon", "stop")


@pytest.mark.skipif(sys.platform != "linux", reason="who connects is read from /proc")
async def test_neither_a_tool_of_an_agent_nor_another_user_comes_in(base: Path) -> None:
    async with open_door(base) as door:
        good = door.request(call("repo_map"), **routed("repo_map"))
        mapped = (
            f"import socket\ns = socket.create_connection(('::ffff:127.0.0.1', {door.port}), 10)\n"
            f"s.sendall({good!r})\nprint(s.recv(65536).decode())"
        )
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", mapped], capture_output=True, timeout=60, check=False
        )
        assert done.stdout.startswith(b"HTTP/1.1 200"), done  # seen through IPv6, too
        tool = await Program.start(door, CODEFORGE_TOOL="1")
        seen = (await tool.try_raw(good.replace(b"Accept:", b"Connection: close\r\nAccept:")))["seen"]
        assert seen.startswith("HTTP/1.1 403")
        assert "it could approve itself" in seen
        await tool.end()
        if os.getuid() == 0 and shutil.which("setpriv"):
            script = (
                "import socket, sys\n"
                f"s = socket.create_connection(('127.0.0.1', {door.port}), 10)\n"
                "s.sendall(sys.stdin.buffer.read())\n"
                "print(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
            )
            stranger = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c"]
            done = await asyncio.to_thread(
                subprocess.run, [*stranger, script], input=good.replace(b"Accept:", b"Connection: close\r\nAccept:"),
                capture_output=True, timeout=30, check=False,
            )  # fmt: skip
            assert done.stdout.startswith(b"HTTP/1.1 403"), done
            assert b"not 65534" in done.stdout


KNOCK = """
import urllib.request as u
try:
    token = open({token_file!r}).read().strip()
except OSError as error:
    token = repr(error)
try:
    u.urlopen(u.Request({url!r}, data=b"{{}}", headers={{"Authorization": "Bearer " + token}}))
    said = "it came in"
except Exception as error:
    said = repr(error) + repr(error.fp.read() if hasattr(error, "fp") else None)
open("said", "w").write(token + said)
"""


@pytest.mark.parametrize(
    ("backend", "profile", "answer"),
    [
        ("none", "trusted-mount-autonomous", "it could approve itself"),
        ("auto", "trusted-mount-autonomous", "it could approve itself"),  # with the network
        ("auto", "headless-permissive-sandbox", "Connection refused"),  # without
    ],
)
async def test_a_command_of_the_built_in_agent_cannot_use_the_door(
    base: Path,
    backend: str,
    profile: str,
    answer: str,
) -> None:
    python = Path(sys.executable).resolve()  # a sandbox has no /tmp of ours, where this checkout may lie
    command = f"{python} knock.py"
    turns: Any = [{"tool": "Bash", "arguments": {"command": command}}, {"say": "Done."}]
    with ScriptedServer(turns) as model:
        env = {
            "CODEFORGE_LLM_MODEL": "openai/scripted",
            "CODEFORGE_LLM_API_BASE": model.base_url,
            "OPENAI_API_KEY": "sk-none",
            "CODEFORGE_SANDBOX_BACKEND": backend,
            "CODEFORGE_POLICY_DEFAULT": profile,
        }
        async with open_door(base, **env) as door:
            root = door.shop.root
            (token_file,) = Path(door.shop.env["XDG_STATE_HOME"]).glob("codeforge/*/mcp-http.token")
            (root / "knock.py").write_text(KNOCK.format(token_file=str(token_file), url=door.url))
            said = await codeforge(door.shop, "run", "knock at the door", "--profile", profile, "--yes")
            assert (root / "said").exists(), said
            seen = (root / "said").read_text()
            assert answer in seen
            assert (door.token in seen) is (backend == "none"), seen  # the sandbox hides the state folder


def kinds(place: Shop) -> list[str]:
    """The types of all events so far."""
    return [kind for _, kind, _ in events(place)]


async def until(what: Any, seconds: float = 15) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.1)
