"""A foreign agent's own shell is no person: it can look, but not say yes to the agent. A person's terminal can."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.place import PACKAGE, SHIM, Line, Place

PROGRAM = Path(__file__).with_name("agent_program.py")
CODEFORGE = f"{shlex.quote(sys.executable)} -m codeforge_ls.cli.main"
BEFORE = "def greet(name):\n    return 'bye'\n"
FIX = {"path": "greet.py", "old_text": "'bye'", "new_text": "'hello'"}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="who started whom is read from /proc")


class Agent:
    """The agent's program, started by us; what it starts descends from it and not from us alone."""

    def __init__(self, place: Place, *options: str, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(SHIM), *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=place.root, env=place.env | env,
        )  # fmt: skip
        assert self._read()["ready"]

    def tell(self, **told: Any) -> Any:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(told).encode() + b"\n")
        self.process.stdin.flush()
        return self._read()

    def codeforge(self, words: str) -> Any:
        """The JSON that a command of the agent's shell prints."""
        said = self.tell(shell=f"{CODEFORGE} {words} --json")
        assert said["out"], said
        return json.loads(said["out"].splitlines()[-1])

    def _read(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the agent ended"
        return json.loads(line)


@pytest.fixture
def ws(place: Place) -> Place:
    (place.root / "greet.py").write_text(BEFORE)
    place.env = {name: value for name, value in place.env.items() if name not in ("CLAUDECODE", "GEMINI_CLI")}
    place.env["PYTHONPATH"] = str(PACKAGE)
    return place


def person(place: Place, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "codeforge_ls.cli.main", *words, "--json"],
        capture_output=True, text=True, timeout=60, cwd=place.root, env=place.env, check=False,
    )  # fmt: skip
    assert done.stdout, done
    return json.loads(done.stdout.splitlines()[-1])


def denied_events(place: Place) -> list[tuple[str, str, str]]:
    """Stream, actor and reason of every refusal in the log."""
    (database,) = (path for path in (place.base / "state").rglob("*.db") if b"events" in path.read_bytes())
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as opened:
        rows = opened.execute(
            "SELECT stream, actor, payload FROM events WHERE type = 'run.toolcall.denied' ORDER BY position"
        ).fetchall()
    return [(stream, actor, json.loads(payload)["reason"]) for stream, actor, payload in rows]


def test_an_agents_shell_cannot_approve_the_agents_edit_but_a_person_can(ws: Place) -> None:
    agent = Agent(ws)
    prompt = Line(ws.sockets[0])  # a person's prompt, open all the time
    assert prompt.hello()["ok"]
    assert prompt.ask({"id": 1, "op": "attach"})["result"]["attached"]
    agent.tell(send="apply_edits", arguments={"edits": [FIX]})
    asked = prompt.read()["ask"]["id"]

    said = agent.codeforge(f"approve {asked}")["error"]
    assert said["code"] == "denied"
    assert f"(pid {agent.process.pid})" in said["message"]
    assert "terminal that the agent did not start" in said["hint"]
    (ws.root / ".codeforge").mkdir()
    (ws.root / ".codeforge" / "config.yaml").write_text("llm:\n  model: evil/model\n")
    (ws.base / "loose.yaml").write_text("name: loose\nmode: delegate\n")
    refused = (
        "approvals", f"deny {asked}", "events verify", "daemon stop", "run 'do it' --yes",
        "trust --yes", "trust --revoke", f"policy save {ws.base}/loose.yaml", "policy delete x", "policy forget 0",
        f"approve {asked} --always", "audit list", "audit verify", "keys list", "keys forget OPENAI_API_KEY",
    )  # fmt: skip
    for words in refused:
        assert agent.codeforge(words)["error"]["code"] == "denied", words
    assert not (ws.base / "config" / "codeforge").exists()
    # what left the agent's process tree is known by the mark of the agent's shell
    escaped = ws.base / "escaped"
    away = f"(setsid sh -c 'sleep 0.3; {CODEFORGE} approve {asked} --json' >{escaped} 2>&1 &)"
    agent.tell(shell=f"export CLAUDECODE=1; {away}")
    ws.wait(lambda: escaped.read_text().endswith("}\n"))
    assert "CLAUDECODE is set" in json.loads(escaped.read_text())["error"]["message"]
    assert (ws.root / "greet.py").read_text() == BEFORE

    assert agent.codeforge("search greet")["hits"][0]["path"] == "greet.py"
    assert "greet.py" in agent.codeforge("map")["text"]
    assert agent.codeforge("health")["status"] == "ok"
    assert agent.codeforge("runs") == {"runs": []}

    assert person(ws, "approvals")["approvals"][0]["id"] == asked
    assert person(ws, "approve", asked)["approval"]["answered_by"] == "cli:terminal"
    done = agent.tell(receive=True)["structuredContent"]
    assert done["status"] == "applied"
    assert "'hello'" in (ws.root / "greet.py").read_text()
    assert prompt.read()["withdraw"] == asked

    refusals = denied_events(ws)
    assert len(refusals) == 2 + len(refused)
    assert all(stream.startswith("session:cli-") for stream, _, _ in refusals)
    assert all(actor.startswith("mcp:terminal of ") for _, actor, _ in refusals)
    assert refusals[0][2] == said["message"]

    # A rewind of the agent's shell is the agent's: the person is asked.
    agent.process.stdin.write(  # type: ignore[union-attr] - it is a pipe
        json.dumps({"shell": f"{CODEFORGE} rewind {done['checkpoint_id']} --json"}).encode() + b"\n"
    )
    agent.process.stdin.flush()  # type: ignore[union-attr] - as above
    question = prompt.read()["ask"]
    assert question["actor"].startswith("mcp:terminal of ")
    prompt.file.write(
        json.dumps({"answer": {"approval_id": question["id"], "verdict": "deny"}}).encode() + b"\n"
    )
    prompt.file.flush()
    assert json.loads(agent._read()["out"])["error"]["code"] == "denied"
    assert "'hello'" in (ws.root / "greet.py").read_text()


def test_hanging_up_or_attaching_late_makes_nobody_a_person(ws: Place) -> None:
    agent = Agent(ws)
    agent.tell(shell=f"kill $(pgrep -P {agent.process.pid} -f shim.py)")  # its own pipe
    assert agent.codeforge("approvals")["error"]["code"] == "denied"
    # The same door as an editor: a prompt that the agent would answer itself.
    lsp = f"{shlex.quote(sys.executable)} -I -S {SHIM} lsp --root . </dev/null"
    assert "approve the agent's own edits" in agent.tell(shell=lsp)["err"]

    # We are attached as a person before we start a pipe ourselves; then we are an agent, and asked no more.
    early = Line(ws.sockets[0])
    assert early.hello()["ok"]
    assert early.ask({"id": 1, "op": "attach"})["result"]["attached"]
    assert person(ws, "approvals") == {"approvals": []}
    pipe = ws.shim("mcp")
    assert pipe.stdin
    assert pipe.stdout
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    edit = {"name": "apply_edits", "arguments": {"edits": [FIX]}}
    for number, (method, params) in enumerate((("initialize", hello), ("tools/call", edit))):
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        pipe.stdin.write(json.dumps(request).encode() + b"\n")
        pipe.stdin.flush()
        answer = json.loads(pipe.stdout.readline())
    assert answer["result"]["structuredContent"]["status"] == "denied"
    assert early.ask({"id": 2, "op": "approval.list"})["error"]["code"] == "denied"
    assert early.ask({"id": 3, "op": "health"})["result"]["status"] == "ok"
    assert early.ask({"id": 4, "op": "watch", "arguments": {"stream": "workspace"}})["error"]
    assert (ws.root / "greet.py").read_text() == BEFORE


def test_an_agent_that_needs_no_pipe_is_known_too(ws: Place) -> None:
    assert person(ws, "approvals") == {"approvals": []}
    direct = Line(ws.sockets[0])
    assert direct.hello(role="mcp")["ok"]
    said = person(ws, "approvals")["error"]
    assert said["code"] == "denied"
    assert f"(pid {os.getpid()})" in said["message"]


def test_people_are_not_locked_out_of_shells_and_editors(ws: Place) -> None:
    editor = Agent(ws, "--editor")  # one program with agents inside and a terminal for its person
    assert editor.codeforge("approvals")["error"]["code"] == "denied"
    said = editor.tell(terminal=f"{CODEFORGE} approvals --json")["out"]
    assert '{"approvals":[]}' in said.replace(" ", ""), said

    agent = Agent(ws)  # an agent alone gains nothing by opening a terminal
    assert '"denied"' in agent.tell(terminal=f"{CODEFORGE} approvals --json")["out"]

    # In a person's shell an agent works in the background, and a pipe was started by hand.
    told, talk = ws.base / "told", ws.base / "talk"
    for fifo in (told, talk):
        os.mkfifo(fifo)
    python = shlex.quote(sys.executable)
    starter = subprocess.Popen(
        [sys.executable, str(PROGRAM.with_name("terminal_program.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ws.root, env=ws.env,
    )  # fmt: skip
    request = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    commands = (
        f"{python} -I -S {SHIM} mcp <>{talk} >{ws.base}/pong & "
        f"echo '{json.dumps(request)}' >{talk}; "
        f"{python} {PROGRAM} {SHIM} <>{told} >{ws.base}/ready & "
        f"until [ -s {ws.base}/pong -a -s {ws.base}/ready ]; do sleep 0.1; done; "
        f"{CODEFORGE} approvals --json; kill $(jobs -p)"
    )
    out, _ = starter.communicate(json.dumps(commands).encode(), timeout=60)
    assert '{"approvals":[]}' in out.decode(errors="replace").replace(" ", ""), out
