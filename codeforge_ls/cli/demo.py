"""``codeforge demo``: the main job on a real code base, offline, by the same commands a person would type."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from codeforge_ls.cli.output import BOLD, CYAN, DIM, GREEN, RED, Output
from codeforge_ls.model.base import JsonValue

FAULTY = "networkx/algorithms/dag.py"
SOUND_LINE = "    return G.is_directed() and not has_cycle(G)\n"
FAULT_LINE = "    return G.is_directed() and has_cycle(G)\n"
TESTS = "networkx/algorithms/tests/test_dag.py"
TASK = "is_directed_acyclic_graph gives wrong answers. Find the fault, fix it, and run its tests before and after."
SEARCHES = (
    "is_directed_acyclic_graph",
    "shortest path with negative weights",
    "how is a graph drawn with matplotlib",
)


def main(argv: Sequence[str]) -> int:
    """Run the demo; 0 when every step did what it says."""
    parser = argparse.ArgumentParser(prog="codeforge demo", description=__doc__)
    parser.add_argument("--yes", action="store_true", help="allow the agent's actions without asking")
    parser.add_argument("--keep", action="store_true", help="keep the temporary repository")
    given = parser.parse_args(argv)
    out = Output()
    if problem := _missing():
        out.line(out.paint(problem, RED))
        return 3
    alone = not (sys.stdin.isatty() and out.is_terminal)
    if alone and not given.yes:
        out.line("There is no terminal to ask at, so everything is allowed, as with --yes.")
    folder = Path(tempfile.mkdtemp(prefix="codeforge-demo-"))
    try:
        return Demo(folder, out, yes=given.yes or alone).run()
    finally:
        if given.keep:
            out.line(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _missing() -> str:
    for name in ("networkx", "pytest"):
        if importlib.util.find_spec(name) is None:
            return f"The demo needs {name}: pip install {name}"
    return "" if shutil.which("git") else "The demo needs git: install it with your package manager."


class Demo:
    """One demonstration in a temporary folder with a state of its own."""

    def __init__(self, folder: Path, out: Output, *, yes: bool) -> None:
        self._repo, self._out, self._yes = folder / "networkx-with-a-fault", out, yes
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        self._env = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_CONFIG_HOME": str(folder / "config"),
            # The agent's commands use this Python, as in an activated virtual environment.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }

    def run(self) -> int:
        """All steps. Raises nothing for a step that went wrong; says it and returns 1."""
        self._prepare()
        try:
            with self._model():
                self._look()
                return self._change_and_take_back()
        except subprocess.CalledProcessError as error:
            self._out.line(self._out.paint(f"That did not work: exit code {error.returncode}.", RED))
            return 1
        finally:
            self._codeforge("daemon", "stop", quiet=True)

    def _title(self, text: str) -> None:
        self._out.line()
        self._out.line(self._out.paint(f"== {text}", BOLD))

    def _prepare(self) -> None:
        """Copy the installed networkx into a new git repository and put a fault into it."""
        self._title("A real code base: the installed networkx, in a new git repository")
        package = importlib.util.find_spec("networkx")
        source = Path(str(package.origin)).parent if package else Path()
        shutil.copytree(source, self._repo / "networkx", ignore=shutil.ignore_patterns("__pycache__"))
        (self._repo / ".gitignore").write_text("__pycache__/\n.pytest_cache/\n")
        faulty = self._repo / FAULTY
        text = faulty.read_text()
        if SOUND_LINE not in text:
            raise SystemExit(f"This networkx has another {FAULTY}; the demo knows versions 3.4 to 3.6.")
        faulty.write_text(text.replace(SOUND_LINE, FAULT_LINE))
        who = ["-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"]
        for arguments in (
            ["init", "-q", "-b", "main"],
            ["add", "."],
            [*who, "commit", "-q", "-m", "networkx, with a fault"],
        ):
            subprocess.run(["git", *arguments], cwd=self._repo, env=self._env, check=True)
        count = sum(path.is_file() for path in (self._repo / "networkx").rglob("*"))
        self._out.line(f"{count} files, and one seeded fault in {FAULTY}:")
        self._out.line(self._out.paint(f"  - {SOUND_LINE.strip()}", RED))
        self._out.line(self._out.paint(f"  + {FAULT_LINE.strip()}", GREEN))

    @contextlib.contextmanager
    def _model(self) -> Iterator[None]:
        """The model that is configured, else the scripted one: a real HTTP server on loopback."""
        if os.environ.get("CODEFORGE_LLM_MODEL"):
            self._out.line(f"Model: {os.environ['CODEFORGE_LLM_MODEL']}")
            yield
            return
        from codeforge_ls.llm.scripted import ScriptedServer

        with ScriptedServer(_script()) as server:
            self._out.line()
            note = f"No model is set, so a SCRIPTED model answers ({server.base_url}): it plays fixed turns over real"
            self._out.line(self._out.paint(note, DIM))
            more = "HTTP. Everything else is real. Set CODEFORGE_LLM_MODEL to see a real model do it."
            self._out.line(self._out.paint(more, DIM))
            self._env |= {"CODEFORGE_LLM_MODEL": "openai/scripted", "CODEFORGE_LLM_API_BASE": server.base_url}
            yield

    def _look(self) -> None:
        self._title("Index it")
        self._must("index")
        self._title("Its map, in 500 tokens")
        self._must("map", "--budget", "500")
        self._title("Three searches")
        for query in SEARCHES:
            self._must("search", query, "--limit", "3", "--group", "file")

    def _change_and_take_back(self) -> int:
        before = _fingerprint(self._repo)
        self._title("An agent fixes the fault; edits and commands ask first (profile editor-interactive)")
        command = ["run", TASK, "--profile", "editor-interactive", *(["--yes"] if self._yes else [])]
        ran = self._codeforge(*command)
        self._title("What changed")
        subprocess.run(["git", "--no-pager", "diff"], cwd=self._repo, env=self._env, check=False)
        changed = _fingerprint(self._repo) != before
        self._title("Take it back")
        run_id = json.loads(self._read("runs", "--limit", "1", "--json"))["runs"][0]["id"]
        tested = self._exit_codes(run_id)
        # A real model runs what it likes.
        proved = tested == [1, 0] or bool(os.environ.get("CODEFORGE_LLM_MODEL"))
        if changed:
            self._must("rewind", run_id, "--to", "first")
        same = _fingerprint(self._repo) == before
        verdict = "byte-identical to the start" if same else "NOT what it was at the start"
        self._out.line(self._out.paint(f"The tree is {verdict}.", GREEN if same else RED))
        if ran != 0 or not changed:
            self._out.line(self._out.paint("The run did not complete (denied?); nothing was lost.", RED))
        elif not proved:
            text = f"The tests were to fail before the fix and to pass after it; their exit codes: {tested}."
            self._out.line(self._out.paint(text, RED))
        return 0 if ran == 0 and changed and same and proved else 1

    def _exit_codes(self, run_id: str) -> list[int]:
        """Those of the first and the last command of the run."""
        events = json.loads(self._read("show", run_id, "--json"))["events"]
        results = [event["payload"]["applied"] for event in events if "applied" in event["payload"]]
        codes = [result["data"]["exit_code"] for result in results if "exit_code" in (result["data"] or {})]
        return codes[:1] + codes[1:][-1:]

    def _must(self, *arguments: str) -> None:
        if code := self._codeforge(*arguments):
            raise subprocess.CalledProcessError(code, arguments)

    def _codeforge(self, *arguments: str, quiet: bool = False) -> int:
        """Run a verb as a person would, and show the command."""
        if not quiet:
            shown = " ".join(f'"{word}"' if " " in word else word for word in arguments)
            self._out.line(self._out.paint(f"$ codeforge {shown}", CYAN))
        sink = subprocess.DEVNULL if quiet else None
        return subprocess.run(
            self._argv(arguments), cwd=self._repo, env=self._env, stdout=sink, stderr=sink, check=False
        ).returncode

    def _read(self, *arguments: str) -> str:
        done = subprocess.run(
            self._argv(arguments), cwd=self._repo, env=self._env, check=True, capture_output=True, text=True
        )
        return done.stdout

    @staticmethod
    def _argv(arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-P", "-m", "codeforge_ls.cli.main", *arguments]


def _script() -> list[JsonValue]:
    """What the scripted model does: look, run the tests (red), fix, run them again (green), report."""
    tests = f"python -m pytest -q -x -p no:cacheprovider -p no:asyncio {TESTS}"
    return [
        {
            "say": "I look for the function.",
            "tool": "Search",
            "arguments": {"query": "is_directed_acyclic_graph", "limit": 5},
        },
        {"tool": "Grep", "arguments": {"pattern": r"return G\.is_directed\(\) and", "glob": FAULTY}},
        {"say": "First the tests as they are.", "tool": "Bash", "arguments": {"command": tests}},
        {
            "say": "The condition is the wrong way round: an acyclic graph has no cycle.",
            "tool": "Edit",
            "arguments": {"path": FAULTY, "old_text": FAULT_LINE.strip(), "new_text": SOUND_LINE.strip()},
        },
        {"say": "And the tests again.", "tool": "Bash", "arguments": {"command": tests}},
        {
            "say": "Fixed: is_directed_acyclic_graph said yes for graphs with a cycle and no for those without; "
            "the condition was missing its `not`. The tests now: {{last_result|(\\d+ (?:passed|failed))}}."
        },
    ]


def _fingerprint(folder: Path) -> str:
    """A digest over names, modes and bytes of every file that git does not ignore."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if parts[0] == ".git" or "__pycache__" in parts or not path.is_file():
            continue
        digest.update(repr((parts, path.stat().st_mode)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
