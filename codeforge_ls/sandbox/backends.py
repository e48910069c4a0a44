"""The backends that run a command on this machine: bubblewrap, Landlock with seccomp, and plainly."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from codeforge_ls.model.errors import Unavailable
from codeforge_ls.sandbox import bubblewrap, landlock
from codeforge_ls.sandbox.command import CommandResult, CommandSpec
from codeforge_ls.sandbox.enforcement import Enforcement
from codeforge_ls.sandbox.environment import command_line
from codeforge_ls.sandbox.layer import Layers
from codeforge_ls.sandbox.process import ProcessGroups

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A command that has been checked, with all that running it takes. ``token`` marks its processes."""

    spec: CommandSpec
    env: Mapping[str, str]
    token: str
    enforcement: Enforcement
    groups: ProcessGroups
    on_output: Callable[[str], None] | None

    @property
    def stray_token(self) -> str:
        """The mark to look for at the end; empty where a control group holds every process anyway."""
        return "" if self.enforcement.group else self.token


class Backend(Protocol):
    """One way to run commands. ``isolates``: it cuts the network and keeps writes in the workspace; ``layers``: how
    it can run in hybrid mode; ``limits_itself``: memory, processors and processes are held by it."""

    name: str
    isolates: bool
    layers: Layers
    limits_itself: bool

    async def run(self, job: Job) -> CommandResult:
        """Run it to its end. Raises ``Unavailable``."""
        ...

    async def release(self, run: str) -> None:
        """Nothing more comes of this run; empty: of any."""
        ...


class _Processes:
    """A backend that keeps nothing between two commands."""

    limits_itself = False

    async def release(self, run: str) -> None:
        """Nothing is kept."""


class Plain(_Processes):
    """No isolation: a process group with limits and a scrubbed environment."""

    name, isolates, layers = "none", False, Layers.NONE

    async def run(self, job: Job) -> CommandResult:
        """Run it as it is."""
        argv = command_line(job.spec.command, job.env["PATH"])
        return await job.groups.run(
            argv, cwd=job.spec.cwd, env=job.env, timeout=job.spec.timeout, on_output=job.on_output,
            token=job.stray_token, enforcement=job.enforcement,
        )  # fmt: skip


class Bubblewrap(_Processes):
    """Namespaces by ``bwrap``. ``layers``: an overlay where this ``bwrap`` can mount one here, else a copy."""

    name, isolates = "bubblewrap", True

    def __init__(self, program: str, mounts: bubblewrap.MountPoints, layers: Layers) -> None:
        self._program, self._mounts, self.layers = program, mounts, layers

    async def run(self, job: Job) -> CommandResult:
        """Run it in namespaces of its own. What it left that would make git run programs is removed."""
        spec = job.spec
        preparing = asyncio.ensure_future(asyncio.to_thread(self._prepared, job))
        try:
            workspace, before, held, argv = await asyncio.shield(preparing)
        except asyncio.CancelledError:
            self._mounts.release((await preparing)[2])
            raise
        try:
            return await job.groups.run(
                argv, cwd=workspace, env=job.env, timeout=spec.timeout, on_output=job.on_output,
                enforcement=job.enforcement,
            )  # fmt: skip
        finally:
            await asyncio.shield(asyncio.to_thread(self._cleaned, job, workspace, before, held))

    def _cleaned(self, job: Job, workspace: Path, before: set[Path], held: list[Path]) -> None:
        """Take away what was made for the command, and what it left that makes git run programs."""
        # First the last process: a folder that is still mounted over somewhere takes the kernel 3 ms to remove.
        job.enforcement.remove()
        self._mounts.release(held)
        _remove_planted(bubblewrap.planted(workspace) - before)

    def _prepared(self, job: Job) -> tuple[Path, set[Path], list[Path], list[str]]:
        """The workspace, what of git's is there that makes it run programs, the mount points held, the command line."""
        spec = job.spec
        workspace = spec.workspace.resolve()
        before = bubblewrap.planted(workspace)
        held: list[Path] = []
        if spec.layer is None:
            try:
                held = self._mounts.hold(bubblewrap.must_exist(workspace))
            except OSError as error:
                raise Unavailable(
                    f"The sandbox cannot protect {workspace}: {error.strerror}.",
                    hint="Is the workspace writable?",
                ) from error
        try:
            prefix = bubblewrap.arguments(self._program, spec, bubblewrap.own_places(), job.env["PATH"])
        except BaseException:
            self._mounts.release(held)
            raise
        return workspace, before, held, [*prefix, *command_line(spec.command, job.env["PATH"])]


class Landlocked(_Processes):
    """Landlock and seccomp, taken on by the thread that starts the command."""

    name, isolates, layers = "landlock", True, Layers.NONE

    async def run(self, job: Job) -> CommandResult:
        """Run it with its rights, and a folder of its own for temporary files."""
        temporary = Path(tempfile.mkdtemp(prefix="codeforge-tool-"))
        try:
            rights = await asyncio.to_thread(_rights, job, temporary)
            env = {**job.env, "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(temporary / "cache")}
            return await job.groups.run(
                command_line(job.spec.command, env["PATH"]), cwd=job.spec.cwd, env=env,
                timeout=job.spec.timeout, on_output=job.on_output, token=job.stray_token,
                enforcement=job.enforcement, restrict=rights.take,
            )  # fmt: skip
        finally:
            await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)


def _rights(job: Job, temporary: Path) -> landlock.Rights:
    spec = job.spec
    workspace = spec.workspace.resolve()
    hidden = (*bubblewrap.hidden_places(spec, bubblewrap.own_places()), *spec.masked)
    secret = {os.path.realpath(place) for place in hidden}
    shared = {folder.rstrip("/") for folder in bubblewrap.TEMPORARY}
    # Beside what bubblewrap pins: nobody may make what is absent, and in .git nothing can be made one by one.
    pinned = (workspace / ".git", workspace / ".codeforge", *bubblewrap.pinned(workspace, spec), *spec.masked)
    fixed = {str(place) for place in pinned} | secret
    return landlock.Rights(
        readable=(
            *landlock.without("/", secret | shared),
            *landlock.without(str(workspace), secret),
            *bubblewrap.programs_in(job.env["PATH"]),
        ),
        writable=(*landlock.without(str(workspace), fixed), str(temporary)),
        network=spec.network,
    )


def _remove_planted(paths: set[Path]) -> None:
    for path in paths:
        log.warning("a command left %s, which would make git run programs; it was removed", path)
        try:
            path.unlink()
        except OSError as error:
            log.error("%s could not be removed: %s", path, error)  # noqa: TRY400 - the trace tells nothing more
