"""Control groups: memory, processors and processes of one command with all its children, held by the kernel.

Version 2 in a delegated part of the tree, version 1 where we may write (root). What is made is removed at the end;
what a killed daemon left is ended and removed by the next one that looks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codeforge_ls.model.limits import ResourceLimits

PREFIX = "codeforge"
PERIOD = 100_000  # microseconds, over which the processor share is counted
SLACK = 8  # processes of ours around the command: the shell that sets limits, bubblewrap and its init
REMOVE_SECONDS = 1.0
_OWN = re.compile(rf"{PREFIX}-(\d+)-\d+\Z")
_counter = itertools.count(1)


@dataclass(frozen=True)
class ControlGroup:
    """One command's group: a folder in each hierarchy (version 1) or one folder (version 2)."""

    folders: tuple[Path, ...]

    def place(self, pid: int) -> None:
        """Put a process into it, and with it all that it will start. Raises ``OSError``."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def broken(self, limits: ResourceLimits) -> str:
        """Which limit the kernel had to enforce by now, in words; empty for none."""
        if self._count(("memory.events", "memory.oom_control"), "oom_kill"):
            return f"more than {limits.memory_mb:,} MiB of memory"
        if self._count(("pids.events",), "max"):
            return f"more than {limits.pids_limit:,} processes"
        return ""

    def _count(self, files: tuple[str, ...], name: str) -> int:
        for folder, file in itertools.product(self.folders, files):
            with contextlib.suppress(OSError, ValueError):
                for line in (folder / file).read_text().splitlines():
                    key, _, value = line.partition(" ")
                    if key == name:
                        return int(value)
        return 0

    def remove(self) -> None:
        """End everything in it and remove it (blocking, a few milliseconds)."""
        end = time.monotonic() + REMOVE_SECONDS
        for folder in self.folders:
            while folder.is_dir() and time.monotonic() < end:
                _kill_all(folder)
                try:
                    folder.rmdir()
                except OSError:
                    time.sleep(0.001)


@dataclass
class ControlGroups:
    """Where groups can be made. ``version`` is 1 or 2."""

    version: int
    parents: Mapping[str, Path] = field(default_factory=dict)

    def make(self, limits: ResourceLimits) -> ControlGroup:
        """A new, empty group with these limits. Raises ``OSError``."""
        name = f"{PREFIX}-{os.getpid()}-{next(_counter)}"
        group = ControlGroup(tuple(parent / name for parent in dict.fromkeys(self.parents.values())))
        try:
            for folder in group.folders:
                folder.mkdir(mode=0o755)
            for controller, file, value in self._values(limits):
                if parent := self.parents.get(controller):
                    _write(parent / name / file, value, needed=file in _NEEDED)
        except OSError:
            group.remove()
            raise
        return group

    def _values(self, limits: ResourceLimits) -> Iterator[tuple[str, str, str]]:
        size, quota = limits.memory_mb << 20, limits.cpu_quota * PERIOD // 1000
        if size:
            yield "memory", "memory.max" if self.version == 2 else "memory.limit_in_bytes", str(size)
            yield "memory", "memory.swap.max", "0"
            yield "memory", "memory.memsw.limit_in_bytes", str(size)
        if limits.pids_limit:
            yield "pids", "pids.max", str(limits.pids_limit + SLACK)
        if quota and self.version == 2:
            yield "cpu", "cpu.max", f"{quota} {PERIOD}"
        elif quota:
            yield "cpu", "cpu.cfs_period_us", str(PERIOD)
            yield "cpu", "cpu.cfs_quota_us", str(quota)

    def sweep(self) -> None:
        """End and remove what daemons left that are gone."""
        for parent in dict.fromkeys(self.parents.values()):
            for folder in parent.glob(f"{PREFIX}-*"):
                owner = _OWN.match(folder.name)
                if owner and not Path(f"/proc/{owner[1]}").exists():
                    ControlGroup((folder,)).remove()


_WANTED = frozenset({"memory", "pids", "cpu"})
_NEEDED = ("memory.max", "memory.limit_in_bytes", "pids.max")


def find(proc: Path = Path("/proc")) -> tuple[ControlGroups | None, str]:
    """Where this process may make groups that hold memory and processes, or why nowhere. Tries it once."""
    try:
        hierarchies = list(_hierarchies(proc))
    except (OSError, ValueError) as error:
        return None, f"control groups cannot be read: {error}"
    for version in (2, 1):
        groups = ControlGroups(version, _parents(version, hierarchies))
        if {"memory", "pids"} <= set(groups.parents):
            try:
                groups.make(ResourceLimits(memory_mb=64, pids_limit=8)).remove()
            except OSError:
                continue
            groups.sweep()
            return groups, f"control groups, version {version}"
    return None, "no control group here may be written"


@dataclass(frozen=True)
class _Hierarchy:
    """A mounted tree of groups: its controllers (none named: version 2), and where we are in it."""

    mount: Path
    controllers: frozenset[str]
    own: str


def _hierarchies(proc: Path) -> Iterator[_Hierarchy]:
    own: dict[str, str] = {}
    for line in (proc / "self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        own |= dict.fromkeys(names.split(","), path)  # version 2 has the empty name
    for line in (proc / "self/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup2" and "" in own:
            yield _Hierarchy(Path(mount), frozenset(), own[""])
        elif kind == "cgroup":
            named = frozenset(options.split(",")) & own.keys()
            if named:
                yield _Hierarchy(Path(mount), named, own[next(iter(named))])


def _parents(version: int, hierarchies: list[_Hierarchy]) -> dict[str, Path]:
    """For each controller the folder to make groups in: ours or the nearest above it that lets us."""
    found: dict[str, Path] = {}
    for tree in hierarchies:
        if (version == 2) == bool(tree.controllers):
            continue
        own = tree.mount / tree.own.strip("/")
        for place in (own, *own.parents):
            if place != tree.mount and tree.mount not in place.parents:
                break
            given = _given_to_children(place) if version == 2 else set(tree.controllers)
            if version == 2 and not {"memory", "pids"} <= given:
                continue
            if os.access(place, os.W_OK) and os.access(place / "cgroup.procs", os.W_OK):
                for controller in given & _WANTED:
                    found.setdefault(controller, place)
                break
    return found


def _given_to_children(place: Path) -> set[str]:
    """The controllers that groups below a folder have (version 2)."""
    with contextlib.suppress(OSError):
        return set((place / "cgroup.subtree_control").read_text().split())
    return set()


def _write(path: Path, value: str, *, needed: bool) -> None:
    try:
        with path.open("r+") as file:  # never made: a missing file is a controller that is not there
            file.write(value)
    except OSError:
        if needed:
            raise


def _kill_all(folder: Path) -> None:
    with contextlib.suppress(OSError):
        with (folder / "cgroup.kill").open("r+") as file:
            file.write("1")
        return
    with contextlib.suppress(OSError, ValueError):
        for pid in (folder / "cgroup.procs").read_text().split():
            if int(pid) != os.getpid():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(int(pid), signal.SIGKILL)
