"""One path: only ``actions``, ``checkpoints`` and ``sandbox`` write files or start processes for an agent.

Shown twice: in the source, where every call that writes or starts is found and must be listed here with its reason; and
in a daemon at work for an agent of each kind, whose every change of a file and every process is written down.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grimp

from tests.e2e.ground import HOME_OF_PACKAGE, Ground
from tests.security import watched

Json = dict[str, Any]
HANDS = ("codeforge_ls.actions", "codeforge_ls.checkpoints", "codeforge_ls.sandbox")
MINDS = (
    "mcp_server",
    "codeforge_ls.lsp",
    "codeforge_ls.operations",
    "codeforge_ls.plans",
    "codeforge_ls.runs",
)
# Who else writes or starts something: never in the workspace, and nothing that an agent named.
# Who else writes files or starts processes, and why that is not for an agent: nothing of it is in the workspace, and no
# agent names what is written or started.
OTHERS = {
    "codeforge_ls.config.place": "makes the state folder",
    "codeforge_ls.config.private_file": "a person's trust, policies and token, in the user's own folder",
    "codeforge_ls.config.trusted_file": "a person's trust in the workspace's file, in the user's own folder",
    "codeforge_ls.policy.writer": "profiles and rules that a person keeps, in the user's own folder",
    "codeforge_ls.store": "state.db, and exports that a person asks for at the terminal",
    "codeforge_ls.logs": "the log folder",
    "codeforge_ls.index": "index.db, segments, graph in the state folder; our own parsers and writers; git ls-files",
    "codeforge_ls.standby": "our own workers",
    "codeforge_ls.git": "git, cut off from what a repository configures; writing calls come from checkpoints",
    "codeforge_ls.child": "its own share of the processors",
    "codeforge_ls.daemon": "the socket and the lock in the runtime folder",
    "codeforge_ls.rendezvous": "starts the daemon",
    "codeforge_ls.shim": "the embedded form: becomes the daemon",
    "codeforge_ls.vault": "the programs that a person's own private file names, for keys in a keyring",
    "codeforge_ls.cli": "a person at the terminal: the demo's own folder, files named on the command line",
}
CALLS = {
    "subprocess": {"Popen", "run", "call", "check_call", "check_output", "getoutput"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell"},
    "os": {
        "system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "execv", "execve", "execvp", "execvpe",
        "rename", "renames", "replace", "unlink", "remove", "rmdir", "removedirs", "mkdir", "makedirs", "symlink",
        "link", "truncate", "chmod", "chown", "lchown", "utime", "mkfifo", "mknod",
    },
    "shutil": {"rmtree", "copy", "copy2", "copyfile", "copytree", "move"},
    "tempfile": {"mkdtemp", "mkstemp", "NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile"},
}  # fmt: skip
METHODS = {
    "write_text",
    "write_bytes",
    "touch",
    "mkdir",
    "rmdir",
    "unlink",
    "symlink_to",
    "hardlink_to",
    "chmod",
    "lchmod",
}


def test_only_the_hands_hold_a_tool() -> None:
    """Every call in the source that writes a file or starts a process is in the three rooms, or listed above."""
    holders: dict[str, set[str]] = {}
    for package in ("codeforge_ls", "mcp_server"):
        for file in sorted((HOME_OF_PACKAGE / package).rglob("*.py")):
            if found := {name for node in ast.walk(ast.parse(file.read_text())) if (name := _tool(node))}:
                module = str(file.relative_to(HOME_OF_PACKAGE)).removesuffix(".py").replace("/", ".")
                holders[module] = found
    assert len(holders) > 20  # the search finds something
    assert any(_in(module, HANDS) for module in holders)
    strangers = {name: found for name, found in holders.items() if not _in(name, (*HANDS, *OTHERS))}
    assert not strangers
    assert not [name for name in OTHERS if not any(_in(module, (name,)) for module in holders)], (
        "listed for nothing"
    )


def test_no_front_door_reaches_the_hands_but_through_the_gate() -> None:
    """In the graph of imports: sessions and the agent loop import no module that applies; the gate does."""
    graph = grimp.build_graph("codeforge_ls", "mcp_server")
    appliers = {"codeforge_ls.actions.apply", "codeforge_ls.actions.beneath", "codeforge_ls.actions.rewind"}
    assert appliers <= graph.modules
    for module in sorted(appliers | {one for one in graph.modules if _in(one, ("codeforge_ls.sandbox",))}):
        direct = {one for one in graph.find_modules_that_directly_import(module) if _in(one, MINDS)}
        assert not direct, (module, direct)
    (gate,) = graph.find_modules_that_directly_import("codeforge_ls.actions.apply") - {
        "codeforge_ls.workspace"
    }
    assert gate == "codeforge_ls.actions.gate"


def test_a_daemon_at_work_for_agents_changes_the_tree_by_the_hands_alone(
    fresh: Ground, tmp_path: Path
) -> None:
    """The same, seen: a run, a foreign agent, an editor and the terminal at work in a daemon that is watched."""
    written = tmp_path / "seen.jsonl"
    command = [
        sys.executable,
        str(Path(watched.__file__)),
        str(written),
        "--root",
        str(fresh.root),
        "--role",
        "mcp",
    ]
    daemon = subprocess.Popen(command, env=fresh.env | {"PYTHONPATH": str(HOME_OF_PACKAGE)}, cwd=fresh.root)
    fresh.wait(lambda: fresh.cli("daemon", "status").returncode == 0, 20, "the watched daemon did not answer")
    assert fresh.daemon() == daemon.pid
    editor, agent = fresh.editor(), fresh.agent()
    fresh.play(
        {"tool": "Edit", "arguments": {"path": "shop/cart.py", "old_text": "- 1", "new_text": "- 2"}},
        {"tool": "Write", "arguments": {"path": "made/deep/new.txt", "content": "new\n"}},
        {"tool": "Bash", "arguments": {"command": "echo more >> unstaged.txt; rm untracked.txt"}},
        {"say": "Done."},
    )
    run = fresh.run("change many things", "--profile", "free")
    assert run["run"]["status"] == "completed"
    edit = {"path": "README.md", "old_text": "# Shop", "new_text": "# Store"}
    assert agent.facts("apply_edits", edits=[edit])["status"] == "applied"
    editor.open("shop/tax.py", fresh.text("shop/tax.py"))
    edit = {"path": "shop/tax.py", "old_text": "* 2", "new_text": "* 3"}
    assert agent.facts("apply_edits", edits=[edit])["status"] == "applied"
    agent.facts("search_code", query="total of a cart")
    assert fresh.ask("rewind", run["run"]["id"], "--to", "first")["status"] == "applied"
    fresh.cli("owners", "shop/cart.py")
    agent.close()
    editor.close()
    fresh.cli("daemon", "stop")
    daemon.wait(20)

    events: list[Json] = [json.loads(line) for line in written.read_text().splitlines()]
    own = tuple(str(fresh.base / folder) for folder in ("state", "run", "home", "config"))
    tree = [
        one
        for one in events
        if one["event"] not in watched.STARTS and not one["what"].startswith((*own, "/dev/"))
    ]
    of_agents = [
        one for one in tree if one["what"].startswith(str(fresh.root)) or not one["what"].startswith("/")
    ]
    assert len(of_agents) >= 8, of_agents  # five changes there, and back again
    assert not [one for one in of_agents if not _by_hand(one)]
    elsewhere = [one for one in tree if one not in of_agents and not one["what"].startswith("/tmp/")]
    assert not [one for one in elsewhere if one["rooms"] and not _by_hand(one)], elsewhere  # control groups
    started = [one for one in events if one["event"] in watched.STARTS]
    foreign = [one for one in started if not _ours(one)]
    assert foreign, "the agent's command was started"
    assert not [
        one for one in foreign if not any("codeforge_ls/sandbox/" in room for room in one["rooms"])
    ], foreign


def _by_hand(event: Json) -> bool:
    """Whether one of the three rooms was at it."""
    return any(
        room.startswith(tuple(hand.replace(".", "/") + "/" for hand in HANDS)) for room in event["rooms"]
    )


def _ours(event: Json) -> bool:
    """Whether the program is one of our own workers, or git with what a repository configures switched off."""
    words = event["what"].split()
    worker = words[0] == sys.executable and any(word.startswith("codeforge_ls.") for word in words[:5])
    return worker or Path(words[0]).name == "git" or event["event"] == "os.fork"


def _in(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def _tool(node: ast.AST) -> str:
    """What a call writes or starts by its name in the source; empty when it does neither."""
    if not isinstance(node, ast.Call):
        return ""
    called = node.func
    words = [a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)]
    modes = [word for word in words if isinstance(word, str) and len(word) < 4 and {*word} & {*"wax+"}]
    if isinstance(called, ast.Name):
        opens = called.id == "open" and modes
        return called.id if opens or called.id == "replace_private" else ""
    if not isinstance(called, ast.Attribute):
        return ""
    owner = called.value.id if isinstance(called.value, ast.Name) else ""
    if called.attr in CALLS.get(owner, ()):
        return f"{owner}.{called.attr}"
    one_path = called.attr in {"rename", "replace"} and len(node.args) == 1 and not node.keywords
    if called.attr in METHODS or one_path or (called.attr == "open" and owner != "os" and modes):
        return f".{called.attr}"
    return (
        "Git.execute"
        if called.attr == "execute" and any(k.arg == "as_process" for k in node.keywords)
        else ""
    )
