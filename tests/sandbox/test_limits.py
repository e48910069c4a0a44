"""Given limits, a program that tries to break one is stopped at it, whoever holds them and whatever isolates it; and
which limits hold follows from the settings, the policy and the caller, in this order, under a ceiling."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codeforge_ls.config import SandboxSettings
from codeforge_ls.model.limits import ExecMode, NetworkMode, ResourceLimits
from codeforge_ls.sandbox import CommandResult, CommandSpec, Sandbox, cgroup, probe
from codeforge_ls.sandbox.limits import resolved

PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
HOLDERS = ("control groups", "watchdog")


async def sandbox_of(backend: str, holder: str) -> Sandbox:
    sandbox = await probe(SandboxSettings(backend=backend))
    assert sandbox.name == backend
    if holder == "watchdog":
        sandbox._control = None
        assert sandbox.holds_limits == "rlimits and a watchdog"
    elif "control" not in sandbox.holds_limits:
        pytest.fail(
            f"no control group can be made here: {cgroup.find()[1]}; run as root, or in a delegated group"
        )
    return sandbox


async def run(sandbox: Sandbox, root: Path, command: str, **limits: float) -> CommandResult:
    network = not sandbox.can_cut_network
    return await sandbox.run(
        CommandSpec(
            command=command, cwd=root, workspace=root, timeout=30, network=network,
            limits=ResourceLimits.model_validate(limits),
        )
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["bubblewrap", "landlock", "none"])
@pytest.mark.parametrize("holder", HOLDERS)
async def test_each_limit_holds_against_a_program_that_breaks_it(
    backend: str, holder: str, tmp_path: Path
) -> None:
    sandbox = await sandbox_of(backend, holder)
    (tmp_path / "out").mkdir()
    (tmp_path / "eat.py").write_text(
        "import os, time\n"
        "for _ in range(8):\n    if os.fork() == 0:\n        x = b'x' * (60 << 20); time.sleep(4); os._exit(0)\n"
        "print('killed', sum(os.wait()[1] != 0 for _ in range(8)), flush=True)\n"
    )
    # eight processes, none of which takes more than its share alone
    hungry = await run(sandbox, tmp_path, f"{PYTHON} eat.py", memory_mb=200)
    if holder == "watchdog":
        assert hungry.limit == "more than 200 MiB of memory"
    else:
        assert int(hungry.output.split("killed ")[1]) >= 4
    alone = await run(sandbox, tmp_path, f"{PYTHON} -c \"x = b'x' * (900 << 20)\" && echo got", memory_mb=200)
    assert alone.exit_code != 0
    assert "got" not in alone.output
    assert alone.limit == "more than 200 MiB of memory" or "MemoryError" in alone.output

    bomb = await run(
        sandbox, tmp_path, "for i in $(seq 90); do sleep 5 & done; wait; echo all", pids_limit=20
    )
    assert "all" not in bomb.output or "fork" in bomb.output
    assert bomb.limit == "more than 20 processes" or "fork" in bomb.output

    (tmp_path / "spin.py").write_text(
        "import os, time\nend = time.monotonic() + 2\npid = os.fork()\n"
        "while time.monotonic() < end: pass\n"
        "if pid: os.wait(); t = os.times(); print(t.user + t.system + t.children_user + t.children_system)\n"
    )
    spun = await run(sandbox, tmp_path, f"{PYTHON} spin.py", cpu_quota=200)
    assert float(spun.output) / spun.duration < 0.35, "two spinning processes, a fifth of a processor"

    big = await run(
        sandbox, tmp_path, "dd if=/dev/zero of=out/big bs=1 count=9 seek=1200000000", storage_gb=1
    )
    assert big.exit_code != 0
    assert (tmp_path / "out/big").stat().st_size <= 1 << 30

    flood = await run(sandbox, tmp_path, "yes", output_mb=2)
    assert flood.limit == "more than 2 MiB of output"
    assert sandbox.live_groups() == set()
    groups, _ = cgroup.find()
    left = [
        place
        for parent in (groups.parents.values() if groups else ())
        for place in parent.glob("codeforge-*")
    ]
    assert [place for place in left if f"codeforge-{os.getpid()}-" in place.name] == []


def test_limits_come_from_settings_then_policy_then_caller_under_a_ceiling() -> None:
    plain, none = SandboxSettings(), ResourceLimits()
    mount = resolved(plain, None, none)
    assert (mount.mode, mount.limits.memory_mb, mount.limits.network_mode) == (
        ExecMode.MOUNT, 2048, NetworkMode.NONE,
    )  # fmt: skip
    container = resolved(plain, ExecMode.SANDBOX, none).limits
    assert (container.memory_mb, container.cpu_quota, container.pids_limit, container.storage_gb) == (
        512, 1000, 100, 10,
    )  # fmt: skip
    own = SandboxSettings(memory_mb=1000, mode="hybrid", network="host")
    policy = ResourceLimits(memory_mb=1500, pids_limit=10)
    found = resolved(own, None, policy)
    assert found.mode is ExecMode.HYBRID
    assert (found.limits.memory_mb, found.limits.pids_limit, found.limits.cpu_quota) == (1500, 10, 2000)
    assert found.limits.network_mode is NetworkMode.HOST
    # four times the setting is the ceiling, for policy and caller
    assert resolved(own, None, ResourceLimits(memory_mb=99_999)).limits.memory_mb == 4000
    wish = ResourceLimits(memory_mb=99_999, pids_limit=5, network_mode=NetworkMode.HOST)
    assert resolved(own, None, policy, wish).limits.memory_mb == 4000
    # a caller that is no person only tightens, and nobody opens the network by asking
    foreign = resolved(own, None, policy, wish, only_tighten=True).limits
    assert (foreign.memory_mb, foreign.pids_limit) == (1500, 5)
    assert resolved(own, ExecMode.MOUNT, none, only_tighten=True).mode is ExecMode.HYBRID
    assert resolved(plain, ExecMode.SANDBOX, none, only_tighten=True).mode is ExecMode.SANDBOX
    assert resolved(own, ExecMode.MOUNT, none).mode is ExecMode.MOUNT
    closed = ResourceLimits(network_mode=NetworkMode.NONE)
    assert resolved(own, None, closed, wish).limits.network_mode is NetworkMode.NONE
    assert resolved(own, None, none, closed).limits.network_mode is NetworkMode.NONE
    assert resolved(plain, None, none, wish).limits.network_mode is NetworkMode.NONE
    assert "1,500 MiB of memory, 2 CPUs, 10 processes, 3600 s, the network open" in found.text


def test_a_control_group_of_a_killed_daemon_is_removed_by_the_next() -> None:
    groups, why = cgroup.find()
    assert groups, why
    parent = groups.parents["memory"]
    left = parent / "codeforge-4194300-1"  # a pid that is never given out
    left.mkdir()
    cgroup.find()
    assert not left.exists()


def test_version_2_is_used_where_a_group_above_us_gives_its_controllers(tmp_path: Path) -> None:
    """A delegated tree as systemd makes it: the folder of our own group has no controllers to give, its parent has."""
    mount = tmp_path / "fs"
    slice_, own = mount / "user/app.slice", mount / "user/app.slice/editor.scope"
    own.mkdir(parents=True)
    for place, given in ((mount, ""), (slice_, "cpu memory pids\n"), (own, "")):
        (place / "cgroup.subtree_control").write_text(given)
        (place / "cgroup.procs").write_text("")
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text("0::/user/app.slice/editor.scope\n")
    (proc / "mounts").write_text(f"cgroup2 {mount} cgroup2 rw 0 0\n")
    parents = cgroup._parents(2, list(cgroup._hierarchies(tmp_path / "proc")))
    assert parents == dict.fromkeys(("cpu", "memory", "pids"), slice_)
    values = list(
        cgroup.ControlGroups(2, parents)._values(ResourceLimits(memory_mb=1, cpu_quota=1500, pids_limit=9))
    )
    assert ("memory", "memory.max", str(1 << 20)) in values
    assert ("cpu", "cpu.max", "150000 100000") in values
    assert ("pids", "pids.max", str(9 + cgroup.SLACK)) in values


def test_a_real_group_of_version_2_holds_all_that_a_command_starts_and_ends_it_at_once() -> None:
    """Its members need none of the controllers, which on a machine of version 1 are not to be had in version 2."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    tops = [Path(place) for _, place, kind, *_ in mounts if kind == "cgroup2"]
    if not (top := next((top for top in tops if os.access(top / "cgroup.procs", os.W_OK)), None)):
        pytest.skip(f"no hierarchy of version 2 may be written here: {tops}")
    group = cgroup.ControlGroups(2, {"none": top}).make(ResourceLimits())
    (folder,) = group.folders
    with subprocess.Popen(
        ["sh", "-c", "read _; setsid sleep 371 & sleep 371"], stdin=subprocess.PIPE
    ) as shell:
        try:
            assert shell.stdin
            group.place(shell.pid)
            shell.stdin.write(b"\n")
            shell.stdin.flush()
            end = time.monotonic() + 10
            while len(members := (folder / "cgroup.procs").read_text().split()) < 3:
                assert time.monotonic() < end, members
                time.sleep(0.01)
        finally:
            group.remove()
        assert shell.wait(10) == -9
    assert not folder.exists()
    assert not [pid for pid in members if Path(f"/proc/{pid}/cmdline").exists() and _sleeps(int(pid))]


def _sleeps(pid: int) -> bool:
    """Whether it is one of those, and not a dead one that nobody has waited for."""
    return b"371" in Path(f"/proc/{pid}/cmdline").read_bytes()
