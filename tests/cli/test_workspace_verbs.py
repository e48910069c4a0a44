"""The verbs over an open workspace: look, run an agent with a scripted model, approve at the terminal, go back."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codeforge_ls.llm.scripted import ScriptedServer
from codeforge_ls.rendezvous import workspace_id
from tests.daemon.place import PACKAGE, Line, Place

BEFORE, AFTER = "def greet(name):\n    return 'bye'\n", "def greet(name):\n    return 'hello'\n"
EDIT = {"path": "greet.py", "old_text": "'bye'", "new_text": "'hello'"}
FIX = [{"say": "I \x1b[2Jfix it.", "tool": "Edit", "arguments": EDIT}, {"say": "Done."}]
SLEEP = [{"tool": "Bash", "arguments": {"command": "sleep 97"}}, {"say": "Done."}]


@pytest.fixture
def ws(place: Place) -> Place:
    (place.root / "greet.py").write_text(BEFORE)
    (place.root / "caller.py").write_text("from greet import greet\n\n\ndef main():\n    greet('x')\n")
    place.env["PYTHONPATH"] = str(PACKAGE)
    return place


@contextlib.contextmanager
def model(place: Place, script: list[dict[str, Any]]) -> Iterator[ScriptedServer]:
    with ScriptedServer(script) as server:
        place.env |= {
            "CODEFORGE_LLM_MODEL": "openai/scripted",
            "CODEFORGE_LLM_API_BASE": server.base_url,
            "OPENAI_API_KEY": "sk-none",
        }
        yield server


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "codeforge_ls.cli.main", *words]


def codeforge(place: Place, *words: str, code: int | None = 0) -> str:
    done = subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        timeout=90,
        cwd=place.root,
        env=place.env,
        check=False,
    )
    assert code is None or done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout


def ask(place: Place, *words: str, code: int = 0) -> Any:
    (line,) = codeforge(place, *words, "--json", code=code).splitlines()
    return json.loads(line)


class Terminal:
    """A ``codeforge`` on a real pseudo-terminal."""

    def __init__(self, place: Place, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command(*words),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=place.root,
            env=place.env | {"TERM": "xterm"},
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def until(self, text: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    break
        assert text in self.seen, self.seen

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self, seconds: float = 40) -> int:
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.master, 65536).decode(errors="replace")
        return self.process.wait(1)


def test_looking(ws: Place) -> None:
    assert ask(ws, "index")["files"] == 2
    status = ask(ws, "index", "--status")
    assert (status["state"], status["percent"]) == ("ready", 100.0)
    assert ask(ws, "index", "--skipped")["skipped"] == []
    hits = ask(ws, "search", "greet", "--group", "file", "--glob", "gr*.py")["hits"]
    assert [hit["path"] for hit in hits] == ["greet.py"]
    assert "greet.py:1" in codeforge(ws, "search", "greet")
    assert "def greet" in ask(ws, "map", "--budget", "256", "--focus", "greet.py")["text"]
    for words, code in (
        (["search", ""], 2),
        (["search", "x", "--limit", "0"], 2),
        (["map", "--budget", "1"], 2),
    ):
        assert ask(ws, *words, code=code)["error"]["code"] == "invalid_input"
    for words in (
        ["show", "run-none"],
        ["show", "plan-none"],
        ["rewind", "nothing"],
        ["checkpoints", "--diff", "no"],
    ):
        assert ask(ws, *words, code=1)["error"]["code"] == "not_found"
    assert ask(ws, "runs") == {"runs": []}
    assert ask(ws, "plan", "list") == {"plans": []}
    assert ask(ws, "checkpoints") == {"checkpoints": []}
    assert ask(ws, "approvals") == {"approvals": []}
    assert ask(ws, "events", "verify") == {"sound": True, "broken": []}
    assert ask(ws, "events", "drop", "--older-than", "1")["dropped"] == []
    for name in ("approve", "deny"):
        assert ask(ws, name, "approval-none", code=1)["error"]["code"] in ("not_found", "conflict")
    health = ask(ws, "health", "--deep")
    assert health["status"] == "ok"
    assert health["daemon"]["watchdog"]["over_100_ms"] == 0
    error = ask(ws, "run", "anything", code=3)["error"]  # no model is set
    assert error["code"] == "unavailable"
    assert "model" in error["message"]
    (daemon,) = ws.daemons()
    assert len(ws.processes()) > 1  # workers
    os.kill(daemon, signal.SIGTERM)
    ws.wait(lambda: not ws.processes(), 12)


def test_a_person_at_the_terminal_allows_denies_and_goes_back(ws: Place) -> None:
    file = ws.root / "greet.py"
    with model(ws, FIX):
        terminal = Terminal(ws, "run", "fix the greeting", "--profile", "editor-interactive")
        terminal.until("[a]llow once")
        assert "-    return 'bye'" in terminal.seen
        assert "+    return 'hello'" in terminal.seen
        assert "\x1b[2J" not in terminal.seen
        assert file.read_text() == BEFORE
        terminal.type("a\n")
        assert terminal.end() == 0, terminal.seen
        assert "completed" in terminal.seen
        assert file.read_text() == AFTER

        (run,) = ask(ws, "runs")["runs"]
        assert run["status"] == "completed"
        shown = ask(ws, "show", run["id"])
        kinds = [event["type"] for event in shown["events"]]
        assert "approval.consumed" in kinds
        assert "checkpoint.created" in kinds
        assert "Done." in codeforge(ws, "show", run["id"])
        taken = ask(ws, "checkpoints", "--run", run["id"])["checkpoints"]
        assert "+    return 'hello'" in ask(ws, "checkpoints", "--diff", taken[0]["id"])["diff"]
        back = ask(ws, "rewind", run["id"], "--to", "first")
        assert back["changed"] == ["greet.py"]
        assert file.read_text() == BEFORE
        assert ask(ws, "rewind", back["safety_checkpoint_id"], "--all")["changed"] == ["greet.py"]
        assert file.read_text() == AFTER
        file.write_text(BEFORE)

        for answer in ("\n", "d\n", "what?\n"):
            terminal = Terminal(ws, "run", "fix the greeting", "--profile", "editor-interactive")
            terminal.until("[a]llow once")
            terminal.type(answer)
            terminal.end()
            assert "denied" in terminal.seen
            assert file.read_text() == BEFORE

        terminal = Terminal(ws, "run", "fix the greeting", "--profile", "editor-interactive")
        terminal.until("[a]llow once")
        terminal.process.send_signal(signal.SIGINT)  # cancels the run, and with it the question
        assert terminal.end() == 130
        assert file.read_text() == BEFORE

        # Answered from another terminal: the prompt goes away by itself.
        terminal = Terminal(ws, "run", "fix the greeting", "--profile", "editor-interactive")
        terminal.until("[a]llow once")
        (waiting,) = ask(ws, "approvals")["approvals"]
        assert ask(ws, "approve", waiting["id"])["approval"]["state"] in ("allowed", "consumed")
        assert terminal.end() == 0
        assert "settled elsewhere" in terminal.seen
        assert file.read_text() == AFTER


def test_without_a_person_it_is_denied_unless_yes(ws: Place) -> None:
    file = ws.root / "greet.py"
    with model(ws, FIX):
        lines = codeforge(
            ws, "run", "fix", "--profile", "editor-interactive", "--json", code=None
        ).splitlines()
        events = [json.loads(line) for line in lines]
        assert any(event.get("type") == "run.toolcall.denied" for event in events)
        assert file.read_text() == BEFORE
        codeforge(ws, "run", "fix", "--profile", "editor-interactive", "--yes")
        assert file.read_text() == AFTER
        file.write_text(BEFORE)

        # --yes speaks for its own run only: another run's question stays unanswered by it.
        detached = codeforge(ws, "run", "fix", "--profile", "editor-interactive", "--detach").strip()
        assert detached.startswith("run-")
        ws.wait(lambda: ask(ws, "show", detached)["run"]["status"] == "completed", 30)
        assert file.read_text() == BEFORE

        codeforge(ws, "plan", "start", "fix", "--profile", "editor-interactive", "--yes", "--name", "p")
        (plan,) = ask(ws, "plan", "list")["plans"]
        assert plan["status"] == "completed"
        assert plan["steps"][0]["run_id"] in codeforge(ws, "plan", "get", plan["id"])
        assert file.read_text() == AFTER


def test_interrupts_resume_and_a_killed_daemon(ws: Place) -> None:
    with model(ws, SLEEP):
        words = ("run", "wait", "--profile", "trusted-mount-autonomous")
        terminal = Terminal(ws, *words)
        terminal.until("sleep 97")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert "cancelled" in terminal.seen
        (run,) = ask(ws, "runs")["runs"]
        assert run["status"] == "cancelled"

        started = codeforge(ws, *words, "--detach").strip()
        _wait_for_tool(ws)
        (daemon,) = ws.daemons()
        os.kill(daemon, signal.SIGKILL)
        ws.wait(lambda: not ws.processes(), 10)  # no worker, no command, no model worker
        assert ask(ws, "show", started)["run"]["status"] == "suspended"
        assert ask(ws, "events", "verify")["sound"] is True
        assert "Done." in codeforge(ws, "run", "--resume", started)
        assert ask(ws, "run", "--resume", started, code=1)["error"]["code"] == "conflict"

        terminal = Terminal(ws, *words)
        _wait_for_tool(ws)
        (daemon,) = ws.daemons()
        os.kill(daemon, signal.SIGTERM)  # an orderly end: the watcher sees the run suspended
        assert terminal.end() == 1
        assert "suspended" in terminal.seen
        ws.wait(lambda: not ws.processes(), 12)


def _wait_for_tool(place: Place) -> None:
    def sleeping() -> bool:
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if name.isdigit() and Path(f"/proc/{name}/cmdline").read_bytes() == b"sleep\x0097\x00":
                    return True
        return False

    place.wait(sleeping, 30)


def test_the_wire_refuses_nonsense_and_goes_on(ws: Place) -> None:
    codeforge(ws, "daemon", "restart")
    line = Line(ws.sockets[0])
    assert line.hello()["ok"]
    for wrong, code in (
        ("nonsense", "invalid_input"),
        ({"op": "health"}, "invalid_input"),
        ({"id": 1}, "invalid_input"),
        ({"id": [1], "op": "health"}, "invalid_input"),
        ({"id": 2, "op": "no.such"}, "invalid_input"),
        ({"id": 3, "op": "search", "arguments": [1]}, "invalid_input"),
        ({"id": 4, "op": "search", "arguments": {"query": 3}}, "invalid_input"),
        ({"id": 5, "op": "watch", "arguments": {"stream": ""}}, "invalid_input"),
        ({"id": 6, "op": "watch", "arguments": {"stream": "run:x", "after": -1}}, "invalid_input"),
        ({"id": 7, "op": "run.get", "arguments": {"run_id": "\ud800\x00"}}, "invalid_input"),
        ({"id": 7, "op": "run.get", "arguments": {"run_id": "\x00"}}, "not_found"),
    ):
        answer = line.ask(wrong)
        assert answer["error"]["code"] == code, (wrong, answer)
    assert line.ask({"id": 8, "op": "attach"})["result"]["attached"] is True
    assert line.ask({"id": 9, "op": "attach"})["error"]["code"] == "conflict"
    line.file.write(
        b'{"answer": {"approval_id": "x", "verdict": "y"}}\n{"op": "cancel", "arguments": {"id": 77}}\n'
    )
    assert line.ask({"id": 10, "op": "health"})["result"]["status"] == "ok"
    with contextlib.suppress(BrokenPipeError):  # it stops reading at 4 MiB
        line.sock.sendall(b'{"id": 11, "op": "health", "arguments": "' + b"x" * (5 << 20))
    assert line.read()["error"]["code"] == "limit_reached"
    with contextlib.suppress(ConnectionResetError):
        assert line.file.read() == b""
    assert Line(ws.sockets[0]).hello()["ok"]


def test_an_agents_command_cannot_reach_the_daemon(ws: Place) -> None:
    """Not through the pipe, not with an empty environment, not from a process that left its parent."""
    path = ws.base / "run" / "codeforge" / f"{workspace_id(str(ws.root))}.sock"
    # A sandbox hides the socket, and the policy refuses commands that name CodeForge; this must not rest on them.
    ws.env["CODEFORGE_SANDBOX_BACKEND"] = "none"
    (ws.root / "knock.py").write_text(
        "import os, socket, sys, time\n"
        "if len(sys.argv) == 2: os.execve(sys.executable, [sys.executable, *sys.argv, 'again'], {})\n"
        "if sys.argv[1] == 'leave':\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid()\n"
        "    if os.fork(): os._exit(0)\n"
        "    time.sleep(0.5)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try:\n"
        f"    s.connect({str(path)!r})\n"
        '    s.sendall(b\'{"role":"cli","protocol":1,"version":"0","pid":1,"cwd":"/"}\\n\')\n'
        "    answer = s.recv(999)\n"
        "except OSError as error:\n"
        "    answer = str(error).encode()\n"
        "open('heard.txt', 'ab').write(b'[' + answer + b']')\n"
    )
    heard = ws.root / "heard.txt"
    script = [
        {"tool": "Bash", "arguments": {"command": "python3 knock.py stay; python3 knock.py leave; sleep 2"}},
        {"say": "Done."},
    ]
    with model(ws, script):
        codeforge(ws, "run", "break out", "--profile", "trusted-mount-autonomous")
        (run,) = ask(ws, "runs")["runs"]
        events = ask(ws, "show", run["id"])["events"]
    results = [e["payload"]["applied"]["output"] for e in events if e["type"] == "run.toolcall.result"]
    assert heard.exists(), results
    assert heard.read_bytes().count(b"approve itself") == 2, (heard.read_bytes(), results)


def test_a_request_is_found_in_the_logs_of_every_process_it_went_through(ws: Place) -> None:
    ws.env["CODEFORGE_LOG_LEVEL"] = "debug"
    codeforge(ws, "index")  # the index worker has done something
    ask(ws, "search", "greet")
    ask(ws, "daemon", "stop")  # the logs are written when their processes have ended
    asked = [
        json.loads(line) for line in codeforge(ws, "logs", "service", "query-worker", "--json").splitlines()
    ]
    (search,) = [line for line in asked if line["msg"] == "call search"]
    assert search["service"] == "query-worker"
    cause = str(search["request_id"])
    assert cause
    found = codeforge(ws, "logs", "request", cause, "--json").splitlines()
    assert search in [json.loads(line) for line in found]
    assert codeforge(ws, "logs", "service", "index-worker", "--json")


def test_the_graph_the_pictures_and_explanations_at_the_terminal(ws: Place, tmp_path: Path) -> None:
    codeforge(ws, "index")
    walk = ask(ws, "graph", "--symbol", "greet", "--edges", "call")
    assert [(node["name"], node["score"]) for node in walk["nodes"]] == [("caller.py::main", 0.7)]
    assert walk["nodes"][0]["why"] == [
        {"kind": "call", "source": "caller.py::main", "target": "greet.py::greet"}
    ]
    shown = codeforge(ws, "graph", "--path", "greet.py")
    assert "0.70 caller.py:1" in shown
    assert "caller.py -import-> greet.py" in shown
    codeforge(ws, "graph", code=2)
    assert ask(ws, "graph", "--owners", "greet.py") == {"path": "greet.py", "owners": [], "authors": []}
    entries = json.loads(codeforge(ws, "map", "--format", "json"))["entries"]
    assert {"path": "greet.py", "symbol": "greet", "kind": "function", "line": 1}.items() <= entries[
        0
    ].items()
    target = tmp_path / "map.svg"
    codeforge(ws, "map", "--format", "svg", "--output", str(target))
    assert "caller.py uses greet.py" in "".join(ET.parse(target).getroot().itertext())
    assert '"caller.py" -> "greet.py"' in codeforge(ws, "map", "--format", "dot")
    assert "in the index as python" in codeforge(ws, "index", "explain", "greet.py").lower()
    (ws.root / ".gitignore").write_text("hidden.py\n")
    (ws.root / "hidden.py").write_text("x = 1\n")
    assert ask(ws, "index", "explain", "hidden.py", code=1)["rule"] == ".gitignore:1: hidden.py"
