"""A small shop in a git repository of its own, with the real front ends that tests of MCP open on it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.mcp.editor import Editor
from tests.mcp.wire import NEW, Wire

BIN = Path(sys.executable).parent
FILES = {
    "shop/cart.py": "class Cart:\n    def total(self, prices):\n        return sum(prices) - 1\n",
    "shop/tax.py": "from shop.cart import Cart\n\n\n"
    "def with_tax(cart: Cart, prices):\n    return cart.total(prices) * 1.2\n",
    "README.md": "# Shop\n\nCarts and their tax.\n",
    "win.txt": "one\r\ntwo\r\n",
}
FIX = {"path": "shop/cart.py", "old_text": "return sum(prices) - 1", "new_text": "return sum(prices)"}


class Shop:
    """A git repository of its own, with its own state, and the front ends that a test opens on it."""

    def __init__(self, base: Path) -> None:
        self.root = base / "ws"
        self.stack = AsyncExitStack()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("CODEFORGE", "XDG_", "PYTHON"))}
        for name, variable in {
            "home": "HOME", "run": "XDG_RUNTIME_DIR", "state": "XDG_STATE_HOME", "config": "XDG_CONFIG_HOME",
        }.items():  # fmt: skip
            (base / name).mkdir(mode=0o700)
            self.env[variable] = str(base / name)
        for path, content in FILES.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(content.encode())
        for command in (
            ["init", "-q"],
            ["add", "-A"],
            ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm1"],
        ):
            subprocess.run(["git", "-C", str(self.root), *command], check=True, env=self.env, timeout=20)

    async def front_end(self, program: str) -> asyncio.subprocess.Process:
        """A front end of this workspace, on pipes of its own."""
        process = await asyncio.create_subprocess_exec(
            BIN / program, "--root", str(self.root), "--set", "daemon.idle_seconds=1",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=self.env, cwd=self.root, limit=1 << 23,
        )  # fmt: skip
        self.stack.push_async_callback(end, process)
        return process

    async def agent(
        self, era: str = NEW, name: str = "test-agent", person: Callable[[Any], Any] | None = None
    ) -> Wire:
        """An MCP client on a pipe of its own; ``person`` answers what is asked through it."""
        process = await self.front_end("codeforge-mcp")
        assert process.stdin is not None
        assert process.stdout is not None
        wire = Wire(process.stdout, process.stdin, era=era, name=name, person=person)
        await wire.start()
        return wire

    async def editor(self) -> Editor:
        """An editor on the same workspace."""
        editor = Editor(await self.front_end("codeforge-ls"), self.root)
        await editor.start()
        return editor

    def picture(self) -> dict[str, str]:
        """Every file of the workspace, git's own included, by content."""
        files = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        }


async def end(process: asyncio.subprocess.Process) -> None:
    """Hang up and wait for a front end to leave."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), 10)
    except TimeoutError:
        process.kill()
        await process.wait()


@asynccontextmanager
async def shop(base: Path) -> AsyncIterator[Shop]:
    place = Shop(base)
    async with place.stack:
        yield place


async def indexed(agent: Wire) -> None:
    """Wait until the index knows every file."""
    for _ in range(200):
        if (await agent.tool("search_code", query="cart"))["structuredContent"]["index"]["state"] == "ready":
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the index was never ready")
