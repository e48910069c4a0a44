"""Given a container engine, each run has one warm container that is closed in by the limits, and none is left.

The engine is a program that takes docker's command line and refuses what docker would not know; ``make soak`` runs
the same against a real daemon.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from pathlib import Path

import pytest

from codeforge_ls.config import SandboxSettings
from codeforge_ls.model.errors import Unavailable
from codeforge_ls.model.limits import ExecMode, ResourceLimits
from codeforge_ls.sandbox import CommandSpec, Place, Sandbox, probe

LIMITS = ResourceLimits(memory_mb=100, cpu_quota=500, pids_limit=30)
FAKE = Path(__file__).parent / "fake_docker.py"


class Engine:
    """The fake engine, and what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "docker"
        self.program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {FAKE} "$@"\n')
        self.program.chmod(0o755)

    def calls(self, verb: str) -> list[list[str]]:
        lines = (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []
        return [call[1:] for call in map(json.loads, lines) if call[0] == verb]

    def containers(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.container"))

    async def sandbox(self, image: str = "there:1", scope: str = "here") -> Sandbox:
        settings = SandboxSettings(backend="docker", engine=str(self.program), image=image)
        return await probe(settings, Place(scope=scope))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    folder = tmp_path / "engine"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_FAKE", str(folder))
    return Engine(folder)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "ws"
    (root / ".git/hooks").mkdir(parents=True)
    (root / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (root / ".git/config").write_text("")
    (root / ".env").write_text("SECRET=1")
    (root / "secrets").mkdir()
    return root


def spec(root: Path, command: str, run: str = "run-1", **more: object) -> CommandSpec:
    given = {"timeout": 20.0, "masked": (root / ".env", root / "secrets"), "limits": LIMITS, **more}
    return CommandSpec(command=command, cwd=root, workspace=root, run=run, **given)  # type: ignore[arg-type]


async def test_one_warm_container_for_a_run_closed_in_by_its_limits(engine: Engine, workspace: Path) -> None:
    sandbox = await engine.sandbox()
    assert (sandbox.name, sandbox.can_cut_network, sandbox.holds_limits) == (
        "docker", True, "the container engine",
    )  # fmt: skip
    first = await sandbox.run(spec(workspace, "echo hello > made.txt; pwd; exit 4", env={"KEY": "hidden"}))
    assert (first.exit_code, first.output) == (4, f"{workspace}\n")
    assert (workspace / "made.txt").read_text() == "hello\n"
    await sandbox.run(spec(workspace, "true"))
    await sandbox.run(spec(workspace, "true", run="run-2"))
    assert len(engine.calls("run")) == 2
    assert len(engine.calls("exec")) == 3

    made = " ".join(engine.calls("run")[0])
    for words in (
        "--detach", "--init", "--pull never", "--read-only", "--network none", "--cap-drop ALL",
        "--security-opt no-new-privileges", "--memory 100m", "--memory-swap 100m", "--pids-limit 30", "--cpus 0.5",
        "--label codeforge.workspace=here", "--label codeforge.run=run-1",
        "--tmpfs /tmp:rw,exec,nosuid,nodev,size=100m",
        f"--mount type=bind,source={workspace},target={workspace} ",
        f"type=bind,source={workspace}/.git,target={workspace}/.git ",  # so that it cannot be renamed
        f"type=bind,source={workspace}/.git/hooks,target={workspace}/.git/hooks,readonly",
        f"type=bind,source={workspace}/.git/config,target={workspace}/.git/config,readonly",
        f"type=bind,source={workspace}/.codeforge,target={workspace}/.codeforge,readonly",  # also when absent
        f"type=bind,source=/dev/null,target={workspace}/.env,readonly",
        f"--tmpfs {workspace}/secrets:ro",
    ):  # fmt: skip
        assert words in made, words
    # values reach the command by the environment of the client and are in no argument
    assert "hidden" not in json.dumps(engine.calls("exec"))
    assert "KEY" in engine.calls("exec")[0]

    killed = [await sandbox.run(spec(workspace, "exit 137")) for _ in range(2)]
    # the kernel has counted one, which explains the first
    assert [result.limit for result in killed] == ["more than 100 MiB of memory", ""]

    await sandbox.release("run-1")
    assert [name.rpartition("-")[0] for name in engine.containers()] == ["codeforge-run-2"]
    await sandbox.release()
    assert engine.containers() == []
    assert not (workspace / ".codeforge").exists()


async def test_time_out_and_cancel_take_the_container_along(engine: Engine, workspace: Path) -> None:
    sandbox = await engine.sandbox()
    late = await sandbox.run(spec(workspace, "echo on; sleep 41.5", timeout=1.0))
    assert (late.timed_out, late.output) == (True, "on\n")
    assert engine.containers() == []
    task = asyncio.ensure_future(sandbox.run(spec(workspace, "sleep 41.5")))
    async with asyncio.timeout(20):
        while not engine.containers():
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.containers() == []
    # more output than the limit ends it too; other limits mean another container
    flood = await sandbox.run(spec(workspace, "yes", limits=ResourceLimits(output_mb=1)))
    assert flood.limit == "more than 1 MiB of output"
    await sandbox.run(spec(workspace, "true"))
    await sandbox.run(spec(workspace, "true", limits=ResourceLimits(memory_mb=50)))
    assert "--memory 50m" in " ".join(engine.calls("run")[-1])
    assert len(engine.containers()) == 1
    await sandbox.release()


async def test_what_somebody_removed_is_made_anew_and_what_a_dead_daemon_left_is_removed(
    engine: Engine, workspace: Path
) -> None:
    sandbox = await engine.sandbox()
    await sandbox.run(spec(workspace, "true"))
    (engine.folder / f"{engine.containers()[0]}.container").unlink()
    again = await sandbox.run(spec(workspace, "echo back"))
    assert again.output == "back\n"
    other = await engine.sandbox(scope="elsewhere")
    await other.run(spec(workspace, "true"))
    assert len(engine.containers()) == 2
    await engine.sandbox()  # the next daemon of the first workspace
    assert len(engine.containers()) == 1
    await other.release()


async def test_each_command_of_hybrid_mode_has_a_container_over_a_copy_of_its_own(
    engine: Engine, workspace: Path, tmp_path: Path
) -> None:
    (workspace / "kept.txt").write_text("host\n")
    sandbox, copies = await engine.sandbox(), tmp_path / "layers"
    assert "hybrid mode copies the workspace" in sandbox.why
    before = sorted(workspace.rglob("*"))
    for number in (1, 2):
        asked = spec(
            workspace, "cat kept.txt .env made.txt; echo new > made.txt; rm kept.txt", mode=ExecMode.HYBRID
        )
        layer = await sandbox.layer(asked, copies)
        result = await sandbox.run(dataclasses.replace(asked, layer=layer))
        # the second sees nothing of the first, and neither what is masked
        assert result.output.splitlines()[0] == "host", number
        assert "SECRET" not in result.output
        assert "made.txt: No such file" in result.output.replace("can't open 'made.txt'", "made.txt")
        assert [(one.path, one.kind.value) for one in layer.changes(workspace)] == [
            ("kept.txt", "delete"),
            ("made.txt", "file"),
        ]
        mounted = " ".join(engine.calls("run")[-1])
        assert f"--mount type=bind,source={layer.upper},target={workspace} " in mounted
        assert f"type=bind,source={workspace}/.git,target={workspace}/.git,readonly" in mounted
        assert engine.containers() == []
        layer.remove()
    assert sorted(workspace.rglob("*")) == before
    assert not list(copies.iterdir())


async def test_an_engine_that_does_not_work_refuses_and_is_never_replaced(
    engine: Engine, workspace: Path
) -> None:
    missing = await engine.sandbox(image="absent:1")
    assert "nothing is downloaded" in missing.why
    (engine.folder / "broken").write_text("Cannot connect to the Docker daemon")
    down = await engine.sandbox()
    assert "Cannot connect to the Docker daemon" in down.why
    for sandbox in (missing, down):
        assert not sandbox.can_cut_network
        for network in (True, False):
            with pytest.raises(Unavailable, match="does not work here"):
                await sandbox.run(spec(workspace, "touch ran", network=network))
    assert not (workspace / "ran").exists()
    (engine.folder / "broken").unlink()
    works = await engine.sandbox()
    (engine.folder / "broken").write_text("no space left on device")
    with pytest.raises(Unavailable, match="no space left"):
        await works.run(spec(workspace, "touch ran"))
    assert not (workspace / "ran").exists()
    assert not (workspace / ".codeforge").exists()
