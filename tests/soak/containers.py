"""Containers against a real engine: dockerd is started for it, each limit is tried, and nothing is left of any run."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from codeforge_ls.config import SandboxSettings
from codeforge_ls.model.limits import ExecMode, ResourceLimits
from codeforge_ls.sandbox import CommandResult, CommandSpec, Place, Sandbox, probe
from tests.soak.engine import IMAGE, Engine
from tests.soak.ground import Ground
from tests.soak.report import Part

LIMITS = ResourceLimits(memory_mb=100, pids_limit=30, cpu_quota=300, output_mb=4)
EXECS = 25


class Check(Protocol):
    """Notes a case, and that it failed."""

    def __call__(self, what: str, *, holds: bool, seen: object) -> None:
        """``holds``: it is as it must be."""


async def prove(part: Part) -> None:
    """All of it; what did not hold is noted in the part. Without an engine that is the failure."""
    ground = Ground("docker")
    try:
        with part.timed():
            engine = await asyncio.to_thread(Engine)
            try:
                with _found_by(engine):
                    await _proofs(part, ground, engine)
            finally:
                await asyncio.to_thread(engine.close)
    except RuntimeError as error:
        part.fail(str(error))
    finally:
        ground.close()


@contextmanager
def _found_by(engine: Engine) -> Iterator[None]:
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = engine.socket
    try:
        yield
    finally:
        os.environ.pop("DOCKER_HOST")
        if before is not None:
            os.environ["DOCKER_HOST"] = before


async def _proofs(part: Part, ground: Ground, engine: Engine) -> None:
    root = ground.root
    ground.git("commit", "-qm", "first", "--allow-empty")
    (root / ".env").write_text("SECRET=1")
    (root / "secrets").mkdir()
    (root / "secrets/k").write_text("KEY")
    git_before = ground.git_picture()
    sandbox = await _sandbox(part)

    def check(what: str, *, holds: bool, seen: object) -> None:
        part.count("containers")
        if not holds:
            part.fail(f"{what}: {seen!r}"[:1000])

    async def run(
        command: str, limits: ResourceLimits = LIMITS, run: str = "run-1", timeout: float = 30
    ) -> CommandResult:
        masked = (root / ".env", root / "secrets")
        return await sandbox.run(
            CommandSpec(command, root, root, timeout, masked=masked, limits=limits, run=run)
        )

    said = await run(
        "echo made > made; cat .env; cat secrets/k; id -u; touch /x; touch /tmp/t && echo temporary"
    )
    check(
        "a plain command",
        holds="temporary" in said.output and (root / "made").read_text() == "made\n",
        seen=said,
    )
    check("secrets", holds="SECRET" not in said.output and "KEY" not in said.output, seen=said)
    check("the root is read-only", holds="Read-only" in said.output and not Path("/x").exists(), seen=said)
    for command in (
        "echo x > .git/hooks/pre-commit", "echo x >> .git/config", "mkdir .codeforge/policies", "rmdir .codeforge",
        "mv .git .git2", "rm .env",
    ):  # fmt: skip
        refused = await run(command)
        check(f"protected: {command}", holds=refused.exit_code != 0, seen=refused)
    await run("echo x > .env")
    check("a secret is not written", holds=(root / ".env").read_text() == "SECRET=1", seen="changed")
    net = await run(
        "wget -T 2 -q -O - http://1.1.1.1 && echo online; ls /sys/class/net; cat /proc/net/dev | wc -l"
    )
    lines = set(
        net.output.splitlines()
    )  # the engine mixes the two streams; loopback alone, behind two lines of heading
    check("no network", holds="online" not in lines and {"lo", "3"} <= lines, seen=net)
    memory = await run("dd if=/dev/zero of=/dev/null bs=400M count=1 && echo got")
    check("memory", holds="got" not in memory.output and "100 MiB of memory" in memory.limit, seen=memory)
    bomb = await run("for i in $(seq 90); do sleep 2 & done; echo all")
    check("processes", holds="all" not in bomb.output and "fork" in bomb.output, seen=bomb)
    spun = await run(
        "(while :; do :; done) & (while :; do :; done) & sleep 3; cat /proc/*/stat 2>/dev/null | grep '(sh)'"
    )
    ticks = sum(sum(map(int, line.rpartition(")")[2].split()[11:13])) for line in spun.output.splitlines())
    check("processors", holds=ticks / os.sysconf("SC_CLK_TCK") < 0.5 * spun.duration, seen=spun)
    flood = await run("yes")
    check("output", holds="4 MiB of output" in flood.limit, seen=flood.limit)
    late = await run("echo on; setsid sleep 300 & sleep 300", timeout=2)
    check("time", holds=late.timed_out and late.duration < 20, seen=late)
    check("the container went with it", holds=_containers(engine) == [], seen=_containers(engine))
    stray = await run("setsid sleep 311 & echo left; sleep 312 & echo both")
    alive = await run("ps")
    check("strays", holds="both" in stray.output and "sleep 31" not in alive.output, seen=alive)
    task = asyncio.ensure_future(run("sleep 300", run="run-2"))
    while len(_containers(engine)) < 2:
        await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    check("a cancelled command", holds=len(_containers(engine)) == 1, seen=_containers(engine))
    engine.docker("rm", "--force", *_containers(engine))
    again = await run("echo back")
    check("a container that somebody removed", holds=again.output == "back\n", seen=again)
    seconds = []
    for _ in range(EXECS):
        began = time.perf_counter()
        await run("true")
        seconds.append(time.perf_counter() - began)
    part.facts["exec into a warm container"] = (
        f"p50 {statistics.median(seconds) * 1e3:.0f} ms, least {min(seconds) * 1e3:.0f} ms (bar 250)"
    )
    await _hybrid(part, ground, sandbox, check)
    await sandbox.release("run-1")
    check("the end of a run", holds=_containers(engine) == [], seen=_containers(engine))
    await run("true", run="run-3")
    await _sandbox(part)  # the next daemon, after a kill
    check("what a killed daemon left", holds=_containers(engine) == [], seen=_containers(engine))
    await sandbox.release()
    check("the user's .git", holds=ground.git_picture() == git_before, seen="changed")
    check("mount points", holds=not (root / ".codeforge").exists(), seen=sorted(root.iterdir()))


async def _hybrid(part: Part, ground: Ground, sandbox: Sandbox, check: Check) -> None:
    """Hybrid mode: a command changes its copy, the workspace only by the merge of what succeeded."""
    copies, root = ground.base / "layers", ground.root
    (root / "host").write_text("host\n")
    before, seconds = ground.picture(), list[float]()
    for number in range(5):
        command = (
            f"cat host .env; echo {number} > new; rm host; mkdir -p a/b; echo d > a/b/d; echo x > .git/config"
        )
        asked = CommandSpec(
            command, root, root, 30, masked=(root / ".env",), limits=LIMITS, run="run-1", mode=ExecMode.HYBRID
        )
        began = time.perf_counter()
        layer = await sandbox.layer(asked, copies)
        result = await sandbox.run(replace(asked, layer=layer))
        seconds.append(time.perf_counter() - began)
        changes = [(one.path, one.kind.value) for one in layer.changes(root)]
        wanted = [("host", "delete"), ("a", "folder"), ("a/b", "folder"), ("a/b/d", "file"), ("new", "file")]
        check("hybrid: what changed", holds=changes == wanted, seen=(changes, result))
        check("hybrid: .git", holds="can't create .git/config" in result.output, seen=result)
        said = [line for line in result.output.splitlines() if "can't create" not in line]
        check("hybrid: what it saw", holds=said == ["host"], seen=result)  # the engine mixes the two streams
        check("hybrid: a secret", holds="SECRET" not in result.output, seen=result)
        check("hybrid: its content", holds=(layer.upper / "new").read_text() == f"{number}\n", seen=result)
        layer.remove()
        check("hybrid: nothing is left", holds=not list(copies.iterdir()), seen=list(copies.iterdir()))
    check("hybrid: the workspace", holds=ground.picture() == before, seen="changed")
    part.facts["a command of hybrid mode, with copy and container of its own"] = (
        f"p50 {statistics.median(seconds) * 1e3:.0f} ms, least {min(seconds) * 1e3:.0f} ms"
    )


async def _sandbox(part: Part) -> Sandbox:
    sandbox = await probe(SandboxSettings(backend="docker", image=IMAGE), Place(scope="soak"))
    if not sandbox.can_cut_network:
        part.fail(f"the engine is not taken: {sandbox.why}")
    return sandbox


def _containers(engine: Engine) -> list[str]:
    return engine.docker("ps", "--all", "--quiet", "--filter", "label=codeforge.workspace=soak").split()
