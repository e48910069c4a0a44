"""The four front doors as an attacker meets them: the same wishes, through an editor, a pipe, HTTP and the terminal."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tests.e2e.agent import Agent
from tests.e2e.editor import Editor, Refused
from tests.e2e.ground import Ground
from tests.mcp.http_place import ACCEPT, META, routed

Json = dict[str, Any]
PROGRAM = Path(__file__).parents[1] / "mcp" / "http_agent.py"
OVER = ("completed", "failed", "cancelled", "suspended")


class Door(Protocol):
    """What can be wished at every door. An answer is JSON; ``refused`` says whether it is a no."""

    def find(self, words: str) -> Json: ...
    def read(self, path: str) -> Json: ...
    def look(self, path: str) -> Json: ...
    def write(self, path: str, content: str) -> Json: ...
    def restore(self, checkpoint: str) -> Json: ...
    def start(self, task: str, profile: str) -> str: ...


def refused(answer: Json) -> bool:
    """Whether nothing was done and nothing was shown."""
    facts = answer.get("structuredContent") or answer
    return bool(
        answer.get("isError")
        or "rpc_error" in answer
        or answer.get("error")
        or facts.get("status") in ("denied", "failed")
    )


class EditorDoor:
    """Commands of an editor. A person gives them, so what would be asked is allowed; what is denied stays denied."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor

    def _ask(self, name: str, **argument: Any) -> Json:
        try:
            return self._editor.command(name, **argument)
        except Refused as no:
            return {"error": no.error}

    def find(self, words: str) -> Json:
        return self._ask("search", query=words)

    def read(self, path: str) -> Json:
        return self._ask("code.read", path=path)

    def look(self, path: str) -> Json:
        return {
            "all": [self._ask(name, path=path) for name in ("graph.owners", "graph.search", "symbol.find")]
        }

    def write(self, path: str, content: str) -> Json:
        return self._ask("edits.apply", edits=[{"path": path, "content": content}])

    def restore(self, checkpoint: str) -> Json:
        return self._ask("checkpoint.restore", checkpoint_id=checkpoint)

    def start(self, task: str, profile: str) -> str:
        return str(self._editor.command("run.start", task=task, profile=profile)["run_id"])


class AgentDoor:
    """Tools of MCP, by whatever can call one."""

    def __init__(self, agent: Agent | HttpAgent) -> None:
        self._agent = agent

    def find(self, words: str) -> Json:
        found: Json = self._agent.call("search_code", {"query": words})["structuredContent"]
        return found

    def read(self, path: str) -> Json:
        return self._agent.call("read_code", {"path": path})

    def look(self, path: str) -> Json:
        place = {"path": path, "line": 1, "column": 1}
        return self._agent.call("symbol_info", {"position": place, "relation": "references"})

    def write(self, path: str, content: str) -> Json:
        return self._agent.call("apply_edits", {"edits": [{"path": path, "content": content}]})

    def restore(self, checkpoint: str) -> Json:
        return self._agent.call("restore_checkpoint", {"checkpoint_id": checkpoint})

    def start(self, task: str, profile: str) -> str:
        started = self._agent.call("start_run", {"task": task, "profile": profile})
        return str(started["structuredContent"]["run_id"])


class TerminalDoor:
    """Verbs of the CLI. It has none that reads or edits a file: whoever has a terminal has better ones."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def _ask(self, *words: str) -> Json:
        done = self._ground.cli(*words, "--json")
        lines = done.stdout.splitlines()
        return json.loads(lines[-1]) if lines else {"error": done.stderr.decode()}

    def find(self, words: str) -> Json:
        return self._ask("search", words)

    def read(self, path: str) -> Json:
        return self._ask("index", "explain", "--", path)

    def look(self, path: str) -> Json:
        return {"all": [self._ask("graph", f"--owners={path}"), self._ask("graph", f"--path={path}")]}

    def write(self, path: str, content: str) -> Json:
        raise NotImplementedError

    def restore(self, checkpoint: str) -> Json:
        return self._ask("rewind", "--all", "--", checkpoint)

    def start(self, task: str, profile: str) -> str:
        return str(self._ask("run", task, "--detach", "--profile", profile)["run_id"])


class HttpAgent:
    """A program of its own that calls tools over HTTP; nobody but init is above it."""

    def __init__(self, ground: Ground) -> None:
        facts = ground.ask("mcp", "http")
        self._port = int(facts["url"].removesuffix("/mcp").rpartition(":")[2])
        self._token = Path(facts["token_file"]).read_text().strip()
        self._numbers = itertools.count(1)
        self._process = subprocess.Popen(
            ["sh", "-c", f"exec 3<&0; '{sys.executable}' '{PROGRAM}' <&3 & exec 3<&-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ground.env,
        )  # fmt: skip
        self._tell({"port": self._port})

    def call(self, tool: str, arguments: Json) -> Json:
        """The result of a tool call, error results included."""
        params = {"name": tool, "arguments": arguments, "_meta": META}
        body = {"jsonrpc": "2.0", "id": next(self._numbers), "method": "tools/call", "params": params}
        headers = {
            "Host": f"127.0.0.1:{self._port}", "Authorization": f"Bearer {self._token}", "Accept": ACCEPT,
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in routed(tool).items()},
        }  # fmt: skip
        told = self._tell({"send": {"headers": headers, "body": json.dumps(body)}})
        lines = [line[6:] for line in told["body"].splitlines() if line.startswith("data: ")]
        answer = json.loads(lines[-1] if lines else told["body"])
        return answer["result"] if "result" in answer else {"rpc_error": answer["error"]}

    def close(self) -> None:
        """End of input: it leaves."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        assert self._process.stdout.read() == b""
        self._process.wait(10)

    def _tell(self, order: Json) -> Json:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        told: Json = json.loads(self._process.stdout.readline())
        return told


@contextmanager
def door(ground: Ground, name: str) -> Iterator[Door]:
    """One of the four; at ``http`` the ground's settings have opened it."""
    if name == "lsp":
        editor = ground.editor()
        editor.person = "deny"
        yield EditorDoor(editor)
        editor.close()
    elif name == "cli":
        yield TerminalDoor(ground)
    else:
        agent = HttpAgent(ground) if name == "http" else ground.agent()
        try:
            yield AgentDoor(agent)
        finally:
            agent.close()
