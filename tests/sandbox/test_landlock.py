"""Given Landlock in place of namespaces, a command reads no secret, writes nothing protected, reaches no socket and
leaves nothing; what it may do instead is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from codeforge_ls.config import SandboxSettings
from codeforge_ls.sandbox import CommandResult, CommandSpec, Sandbox, probe

PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "ws"
    (root / "src/config").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    (root / "src/a.py").write_text("print('a')\n")
    (root / "src/config/.env").write_text("NESTED=1")
    (root / "src/config/plain").write_text("plain")
    (root / "lib").mkdir()
    (root / ".env").write_text("SECRET=1")
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/pyvenv.cfg").touch()
    return root


def picture(root: Path) -> dict[Path, tuple[int, ...]]:
    seen = {path: path.lstat() for path in root.rglob("*")}
    return {path: (s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns) for path, s in seen.items()}


async def landlocked() -> Sandbox:
    sandbox = await probe(SandboxSettings(backend="landlock"))
    assert sandbox.can_cut_network, sandbox.why
    return sandbox


async def run(sandbox: Sandbox, root: Path, command: str, *, network: bool = False) -> CommandResult:
    masked = (root / ".env", root / "src/config/.env")
    spec = CommandSpec(command, root, root, timeout=20, network=network, masked=masked)
    return await sandbox.run(spec)


async def test_only_the_workspace_can_be_written_and_nothing_protected_in_it(
    workspace: Path, tmp_path: Path
) -> None:
    sandbox = await landlocked()
    outside = tmp_path / "outside"
    outside.write_text("old")
    allowed = await run(
        sandbox, workspace,
        "echo new > lib/made && mkdir -p lib/deep && mv lib/made lib/deep/ && cat lib/deep/made && echo x >> src/a.py"
        " && echo t > $TMPDIR/t && cat $TMPDIR/t && git status --short > /dev/null && cat src/config/plain",
    )  # fmt: skip
    assert (allowed.exit_code, allowed.output) == (0, "new\nt\nplain"), allowed.output
    before = picture(workspace)
    for command in (
        f"echo x > {outside}",
        "touch /etc/codeforge-test",
        "touch ~/codeforge-test",
        "echo x > /tmp/codeforge-test",
        "mkdir -p .git/hooks/x",
        "echo x >> .git/config",
        "rm -rf .git/hooks",
        "mv .git .git2",
        "mkdir .codeforge",
        "mkdir .vscode",
        "ln -s /tmp .codeforge",
        "echo x > .venv/bin/git",
        "echo x > .env",
        "cp src/a.py src/config/.env",
        "rm .env",
        "mv lib .git/hooks/lib",
        f"truncate -s 0 {outside}",
        f"ln {outside} lib/hard && echo x > lib/hard",
    ):
        result = await run(sandbox, workspace, command)
        assert result.exit_code != 0, command
    assert outside.read_text() == "old"
    assert picture(workspace) == before
    assert (workspace / ".env").read_text() == "SECRET=1"


async def test_secrets_sockets_and_other_processes_are_out_of_reach(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/id_rsa").write_text("PRIVATE")
    (home / "notes").write_text("notes")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "state/codeforge").mkdir(parents=True)
    (tmp_path / "state/codeforge/state.db").write_text("HISTORY")
    sandbox = await landlocked()
    (workspace / "lib/link").symlink_to(home / ".ssh/id_rsa")
    for command in (
        "cat .env", "cat src/config/.env", f"cat {home}/.ssh/id_rsa", "cat lib/link",
        f"cat {tmp_path}/state/codeforge/state.db", f"cat /proc/{os.getpid()}/environ", f"kill -0 {os.getpid()}",
    ):  # fmt: skip
        result = await run(sandbox, workspace, command)
        assert result.exit_code != 0, command
        for secret in ("SECRET", "NESTED", "PRIVATE", "HISTORY"):
            assert secret not in result.output
    with socket.socket(socket.AF_UNIX) as server, socket.socket() as web:
        server.bind(str(tmp_path / "s"))
        server.listen()
        web.bind(("127.0.0.1", 0))
        web.listen()
        (workspace / "lib/connect.py").write_text(
            "import socket\n"
            f"try: socket.socket(socket.AF_UNIX).connect({str(tmp_path / 's')!r}); print('UNIX')\n"
            "except OSError: print('no unix')\n"
            f"try: socket.create_connection({web.getsockname()!r}, 2); print('NET')\n"
            "except OSError: print('no net')\n"
            "import multiprocessing, subprocess\n"
            "print(subprocess.run(['echo', 'child'], capture_output=True, text=True).stdout.strip())\n"
        )
        cut = await run(sandbox, workspace, f"{PYTHON} lib/connect.py")
        assert cut.output == "no unix\nno net\nchild\n"
        opened = await run(sandbox, workspace, f"{PYTHON} lib/connect.py", network=True)
        assert opened.output == "no unix\nNET\nchild\n"


async def test_the_rights_are_given_up_by_the_command_and_not_by_us(workspace: Path, tmp_path: Path) -> None:
    sandbox = await landlocked()
    await asyncio.gather(*(run(sandbox, workspace, f"echo {n} > lib/{n}") for n in range(8)))
    assert sorted(path.name for path in (workspace / "lib").iterdir()) == [str(n) for n in range(8)]
    (tmp_path / "free").write_text("we write where we like")
    with socket.socket(socket.AF_UNIX):
        pass
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            assert "Seccomp:\t0" in (thread / "status").read_text()
    assert sandbox.live_groups() == set()
    task = asyncio.ensure_future(run(sandbox, workspace, "setsid sleep 97.25 & sleep 97.25"))
    async with asyncio.timeout(10):
        while not sandbox.live_groups():
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.1)
    alive = subprocess.run(["pgrep", "-f", "sleep 97.25"], capture_output=True, text=True, check=False)
    assert alive.stdout == ""
    assert not list(Path("/tmp").glob("codeforge-tool-*"))
