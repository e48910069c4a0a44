"""The ground of an end-to-end test: a repository with difficult files, a home of its own, a scripted model, front
ends as real processes, and proof that none of them is left."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from codeforge_ls.llm.script import Script
from codeforge_ls.llm.scripted import ScriptedServer
from tests.e2e.agent import Agent
from tests.e2e.editor import Editor

BIN = Path(sys.executable).parent
# An agent is a program of its own: what the program that started codeforge-mcp asks for at a terminal, no person asks.
AGENT_PROGRAM = (sys.executable, "-c", "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))")
HOME_OF_PACKAGE = Path(__file__).resolve().parents[2]
Json = dict[str, Any]
T = TypeVar("T")

MODULE = "class Cart:\n    def total(self, prices):\n        return sum(prices) - 1\n"
FILES: dict[str, bytes] = {
    "shop/cart.py": MODULE.encode(),
    "shop/tax.py": b"from shop.cart import Cart\n\n\ndef with_tax(cart, prices):\n    return cart.total(prices) * 2\n",
    "README.md": b"# Shop\n\nCarts and their tax.\n",
    "staged.txt": b"one\n",
    "unstaged.txt": b"one\n",
    "crlf.txt": b"one\r\ntwo\r\nthree",
    "bom.txt": b"\xef\xbb\xbfone\ntwo\n",
    "latin.txt": "Straße und Maß\nzwei\n".encode("latin-1"),
    "run.sh": b"#!/bin/sh\necho hello\n",
    ".gitignore": b"ignored.txt\nbuild/\n.env\n",
}
LOOSE: dict[str, bytes] = {
    "staged.txt": b"one\nstaged\n",
    "unstaged.txt": b"one\nunstaged\n",
    "untracked.txt": b"nobody added me\n",
    "ignored.txt": b"git does not see me\n",
    ".env": b"TOKEN=hunter2-do-not-show\n",
    "build/out.bin": bytes(range(256)),
    "nested/inner.txt": b"a repository in a repository\n",
}
SECRET = "hunter2"
POLICIES = {
    "tiny": "rules:\n  - {specifier: {tool: Read}, decision: allow}\ntermination: {max_steps: 2}",
    "brief": "mode: acceptEdits\ntermination: {timeout_seconds: 1.5}",
    "cheap": "rules:\n  - {specifier: {tool: Read}, decision: allow}\ntermination: {max_cost: 0.00000001}",
    "stuck": "rules:\n  - {specifier: {tool: Read}, decision: allow}\n"
    "termination: {stall_detection: true, stall_threshold: 2}",
    "free": "mode: acceptEdits",
}


class Ground:
    """One workspace with everything around it. ``settings`` become environment variables of every process."""

    def __init__(self, base: Path, **settings: object) -> None:
        self.base, self.root = base, base / "ws"
        self.model = ScriptedServer([])
        self.model.__enter__()
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CODEFORGE", "XDG_", "PYTHON", "GIT_"))
        }
        folders = {
            "home": "HOME",
            "run": "XDG_RUNTIME_DIR",
            "state": "XDG_STATE_HOME",
            "config": "XDG_CONFIG_HOME",
        }
        for folder, variable in folders.items():
            (base / folder).mkdir(mode=0o700)
            self.env[variable] = str(base / folder)
        defaults = {"llm_model": "openai/gpt-4o-mini", "llm_api_base": self.model.base_url, "llm_retries": 1}
        for name, value in {**defaults, "daemon_idle_seconds": 60, **settings}.items():
            self.env[f"CODEFORGE_{name.upper()}"] = str(value)
        self.env["OPENAI_API_KEY"] = "sk-scripted"
        self._front_ends: list[Editor | Agent] = []
        self._make_tree()
        self._make_policies()

    def _make_tree(self) -> None:
        for folder in (self.root, self.root / "nested"):
            folder.mkdir()
            self.git("init", "-q", "-b", "main", folder=folder)
        self._write(FILES)
        (self.root / "run.sh").chmod(0o755)
        self._write({"nested/inner.txt": LOOSE["nested/inner.txt"]})
        for folder, names in ((self.root, list(FILES)), (self.root / "nested", ["inner.txt"])):
            self.git("add", "--", *names, folder=folder)
            self.git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first", folder=folder)
        self._write(LOOSE)
        self.git("add", "staged.txt")

    def _make_policies(self) -> None:
        folder = self.base / "config" / "codeforge" / "policies"
        folder.mkdir(parents=True)
        for name, body in POLICIES.items():
            (folder / f"{name}.yaml").write_text(f"name: {name}\n{body}\n")

    def _write(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        """A git command of the user, which does not refresh the index by the way."""
        done = subprocess.run(
            ["git", "-C", str(folder or self.root), *arguments],
            env=self.env | {"GIT_OPTIONAL_LOCKS": "0"},
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.stdout

    # -- what is asked of the product -----------------------------------------------------------------

    def play(self, *turns: Json) -> None:
        """The model's next turns."""
        self.model.script = Script(list(turns))

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """A ``codeforge`` command, running."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [str(BIN / "codeforge"), *words], env=self.env, cwd=self.root, **(pipes | options)
        )

    def cli(self, *words: str, timeout: float = 60, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """A ``codeforge`` command to its end."""
        return subprocess.run(
            [str(BIN / "codeforge"), *words],
            env=self.env,
            cwd=self.root,
            input=typed,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    def ask(self, *words: str) -> Json:
        """The JSON answer of a command that must succeed."""
        done = self.cli(*words, "--json")
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        answer: Json = json.loads(done.stdout.splitlines()[-1])
        return answer

    def run(self, task: str, *words: str) -> Json:
        """A run from the terminal, to its end, with its events."""
        done = self.cli("run", task, "--json", *words, timeout=90)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines, done.stderr
        assert "run" in lines[-1], lines[-1]
        return self.ask("show", lines[-1]["run"]["id"])

    def editor(self, **options: Any) -> Editor:
        """An editor on this workspace, attached."""
        editor = Editor(self._spawn("codeforge-ls"), self.root, **options)
        self._front_ends.append(editor)
        editor.start()
        return editor

    def agent(self, name: str = "foreign-agent") -> Agent:
        """A foreign agent on this workspace."""
        agent = Agent(self._spawn("codeforge-mcp", *AGENT_PROGRAM), name)
        self._front_ends.append(agent)
        agent.start()
        return agent

    def _spawn(self, program: str, *under: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*under, str(BIN / program), "--root", str(self.root)],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=self.env,
            cwd=self.root,
            bufsize=0,
        )

    # -- what is looked at ----------------------------------------------------------------------------

    def picture(self) -> dict[str, tuple[str, str]]:
        """Every file of the workspace without git's own, by mode and content."""
        return {name: seen for name, seen in self.everything().items() if ".git" not in name.split("/")}

    def git_picture(self) -> dict[str, tuple[str, str]]:
        """Every file below the ``.git`` folders: objects, refs, index, HEAD, logs."""
        return {name: seen for name, seen in self.everything().items() if ".git" in name.split("/")}

    def everything(self) -> dict[str, tuple[str, str]]:
        """Every path in the workspace."""
        return {str(path.relative_to(self.root)): _seen(path) for path in sorted(self.root.rglob("*"))}

    def text(self, name: str) -> str:
        """A file as it is on disk."""
        return (self.root / name).read_bytes().decode()

    def wait(self, what: Callable[[], T], seconds: float = 20.0, why: str = "") -> T:
        """Poll until ``what()`` is true and return it."""
        end = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < end, f"not within {seconds} s: {why}"
            time.sleep(0.03)
        return found

    def wait_for_event(self, editor: Editor, run_id: str, kind: str, seconds: float = 30) -> Json:
        """The first event of that type in a run."""

        def look() -> Json | None:
            events = editor.command("run.events", run_id=run_id)["events"]
            return next((event for event in events if event["type"] == kind), None)

        found = self.wait(look, seconds, f"no {kind} in {run_id}")
        assert found is not None
        return found

    # -- processes ------------------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Every living process of this ground, by its environment, its command line or its folder."""
        mark = os.fsencode(self.base)
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            command, about = _proc(name, "cmdline"), _proc(name, "environ")
            folder = b""
            with contextlib.suppress(OSError):
                folder = os.fsencode(os.readlink(f"/proc/{name}/cwd"))
            mine = mark in command or b"=" + mark in about or folder.startswith(mark)
            if mine and b") Z " not in _proc(name, "stat"):
                found[int(name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def daemon(self) -> int:
        """The pid of the daemon."""
        pid: int = self.ask("daemon", "status")["pid"]
        return pid

    def kill(self, pid: int) -> None:
        """kill -9."""
        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Close every front end and stop the daemon; fails when a process is left, and ends it."""
        try:
            for front_end in self._front_ends:
                front_end.close()
            if self.processes():
                self.cli("daemon", "stop")
            with contextlib.suppress(AssertionError):
                self.wait(lambda: not self.processes(), 10)
            left = self.processes()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    self.kill(pid)
            assert not left, f"processes were left behind: {left}"
        finally:
            self.model.__exit__(None, None, None)


def _seen(path: Path) -> tuple[str, str]:
    status = path.lstat()
    mode = stat.filemode(status.st_mode)
    if path.is_symlink():
        return mode, os.readlink(path)
    return mode, hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""


def _proc(pid: str, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""
