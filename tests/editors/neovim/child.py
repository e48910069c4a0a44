"""A real Neovim as a child of the test, with the plugin and the real ``codeforge-ls`` behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pynvim

from codeforge_ls.llm.scripted import ScriptedServer
from tests.mcp.leftovers import clear

REPOSITORY = Path(__file__).resolve().parents[3]
PLUGIN = REPOSITORY / "editors" / "neovim"
BIN = Path(sys.executable).parent
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
BEFORE = "def total(prices):\n    return sum(prices) - 1\n"
EDIT = {"path": "cart.py", "old_text": "sum(prices) - 1", "new_text": "sum(prices)"}
OTHER = {"path": "notes.txt", "old_text": "two", "new_text": "2"}


class Child:
    """One editor window on one repository. ``lua`` runs code in it and gives back what it returns."""

    def __init__(self, base: Path, env: dict[str, str], settings: dict[str, Any]) -> None:
        self.root, self.env = base / "ws", env
        argv = ["env", *(f"{name}={value}" for name, value in env.items())]
        argv += [str(BIN / "nvim"), "--embed", "--headless", "--clean", "-u", "NONE", "-i", "NONE"]
        self.nvim = pynvim.attach("child", argv=argv)
        self.nvim.command(f"cd {self.root}")
        self.lua("vim.o.columns, vim.o.lines = 120, 40")
        self.lua(RECORDER)
        self.lua("vim.g.codeforge = ...", {"cmd": [str(BIN / "codeforge-ls")], **settings})
        self.nvim.command(f"set runtimepath^={PLUGIN}")
        self.nvim.command("runtime plugin/codeforge.lua")
        self.nvim.command("filetype on")
        self.nvim.command("edit cart.py")

    def lua(self, code: str, *args: Any) -> Any:
        return self.nvim.exec_lua(code, *args)

    def until(self, what: Callable[[], Any] | str, seconds: float = 40) -> Any:
        """Wait until something is true: a function, or a Lua expression."""
        check = what if callable(what) else lambda: self.lua(f"return {what}")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := check():
                return value
            time.sleep(0.05)
        state = self.lua("return { Told, require('codeforge.events').status, #vim.lsp.get_clients() }")
        raise AssertionError(
            f"not within {seconds} s: {what}; {state}; {self.nvim.command_output('messages')}"
        )

    def ready(self) -> None:
        """Wait until the server is attached to the workspace and the index is built."""
        self.until("#vim.lsp.get_clients({ name = 'codeforge', bufnr = 0 }) == 1")
        self.until("(vim.tbl_values(require('codeforge.events').status)[1] or {}).message == 'ready'")

    def events(self, name: str) -> list[Any]:
        """The data of every User event of that name so far."""
        return [data for event, data in self.lua("return Seen") if event == name]

    def float(self) -> dict[str, Any] | None:
        """The approval float: its window, its lines, and whether it has the keyboard."""
        found: dict[str, Any] | None = self.lua(
            """
            for _, w in ipairs(vim.api.nvim_list_wins()) do
              if vim.api.nvim_win_get_config(w).relative ~= '' then
                local lines = vim.api.nvim_buf_get_lines(vim.api.nvim_win_get_buf(w), 0, -1, false)
                return { window = w, text = table.concat(lines, '\\n'), focused = w == vim.api.nvim_get_current_win() }
              end
            end
            """
        )
        return found

    def record(self, run_id: str) -> dict[str, Any]:
        """The server's own record of a run."""
        told = subprocess.run(
            [BIN / "codeforge", "show", run_id, "--json"],
            env=self.env, cwd=self.root, capture_output=True, timeout=40, check=True,
        )  # fmt: skip
        shown: dict[str, Any] = json.loads(told.stdout)
        return shown

    def run(self, task: str = "fix the total") -> str:
        """Start a run by command; returns its id."""
        self.nvim.command(f"CodeForge run {task}")
        return str(self.until("(require('codeforge.events').newest_at_work() or {}).id"))

    def known_keys(self) -> list[tuple[str, str]]:
        """The keys that the server has, by name and source."""
        command = [BIN / "codeforge", "keys", "list", "--json"]
        told = subprocess.run(
            command, env=self.env, cwd=self.root, timeout=40, check=True, capture_output=True
        )
        return [(key["name"], key["source"]) for key in json.loads(told.stdout)["keys"]]

    def approve_from_terminal(self, approval_id: str) -> None:
        """Answer a question by the command line."""
        command = [BIN / "codeforge", "approve", approval_id]
        subprocess.run(command, env=self.env, cwd=self.root, timeout=40, check=True, capture_output=True)

    def ended(self, run_id: str) -> dict[str, Any]:
        """Wait for the end of a run; returns its record."""
        self.until(lambda: self.lua(ENDED, run_id))
        return self.record(run_id)

    def tree(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }

    def close(self) -> None:
        with suppress(OSError):
            self.nvim.command("qall!", async_=True)
        self.nvim.close()


# Every User event of ours, in order, and every message of vim.notify.
RECORDER = """
Seen, Told = {}, {}
vim.api.nvim_create_autocmd('User', { pattern = 'CodeForge*', callback = function(args)
  Seen[#Seen + 1] = { args.match, args.data }
end })
vim.notify = function(text) Told[#Told + 1] = text end
"""


ENDED = """
for _, run in ipairs(require('codeforge.events').runs) do
  if run.id == ... and run.status ~= 'running' then return true end
end
"""


@contextmanager
def neovim(turns: list[dict[str, Any]], **settings: Any) -> Iterator[Child]:
    """A repository, a scripted model, and Neovim on it; nothing of the person's own is touched."""
    base = Path(tempfile.mkdtemp(prefix="cf", dir="/tmp"))  # a socket's name has 107 bytes
    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("CODEFORGE", "XDG_", "PYTHON", "NVIM", "VIM"))
    }
    for name, variable in {
        "home": "HOME", "run": "XDG_RUNTIME_DIR", "state": "XDG_STATE_HOME", "config": "XDG_CONFIG_HOME",
        "data": "XDG_DATA_HOME", "cache": "XDG_CACHE_HOME",
    }.items():  # fmt: skip
        (base / name).mkdir(mode=0o700)
        env[variable] = str(base / name)
    root = base / "ws"
    root.mkdir()
    (root / "cart.py").write_text(BEFORE)
    (root / "notes.txt").write_bytes(b"one\r\ntwo\r\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm1"]):
        subprocess.run([*GIT, "-C", str(root), *command], check=True, env=env, timeout=20)
    try:
        with ScriptedServer(turns) as model:
            env |= {
                "CODEFORGE_LLM_MODEL": "openai/scripted",
                "CODEFORGE_LLM_API_BASE": model.base_url,
                "OPENAI_API_KEY": "not-needed",
                "CODEFORGE_DAEMON_IDLE_SECONDS": "1",
            }
            child = Child(base, env, settings)
            try:
                yield child
            finally:
                child.close()
    finally:
        clear(base)
