"""Containers: one warm container for each run, and each command an ``exec`` into it (row RUN-15).

Whatever takes docker's command line will do (docker, podman, nerdctl). Containers carry labels with the workspace and
the run, and are removed by them: when a run ends, when a command had to be killed, and by the next daemon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codeforge_ls.model.errors import CodeForgeError, Unavailable
from codeforge_ls.model.limits import ResourceLimits
from codeforge_ls.sandbox import bubblewrap
from codeforge_ls.sandbox.backends import Job
from codeforge_ls.sandbox.command import CommandResult, CommandSpec
from codeforge_ls.sandbox.layer import Layers
from codeforge_ls.sandbox.process import ProcessGroups

log = logging.getLogger(__name__)

CLI_SECONDS = 60.0
KILLED = 137
LABEL = "codeforge"
_ENGINE_ENVIRONMENT = re.compile(r"(?:HOME|PATH|USER|LANG|XDG_RUNTIME_DIR|DOCKER_.*|CONTAINER_.*)\Z")
_TEMPORARY = "/tmp:rw,exec,nosuid,nodev"  # noqa: S108 - inside the container
_GONE = re.compile(
    r"\A(?:Error|OCI runtime).*(?:[Nn]o such container|is not running|container state improper)"
)
_EVENTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")  # versions 2 and 1
_OOM = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_NOT_INSIDE = frozenset({"PATH", "HOME", "USER", "LOGNAME"})  # those of the image
KEEPER = (
    "2147483647"  # seconds that the process sleeps which keeps a container alive; it is known by this number
)
# Runs the command, then ends what it left behind: all but the container's init and the process that keeps it alive,
# which has the lowest number after init. Where that is not ours, this is no container and nothing is ended.
_WRAPPER = """
keep=
for p in /proc/[0-9]*; do n=${p#/proc/}; [ "$n" -gt 1 ] && { [ -z "$keep" ] || [ "$n" -lt "$keep" ]; } && keep=$n; done
if command -v bash >/dev/null 2>&1; then bash --noprofile --norc -c "$1"; else sh -c "$1"; fi
code=$?
{ mine=$(cat "/proc/$keep/cmdline"); } 2>/dev/null
case $mine in *KEEPER*) ;; *) exit $code ;; esac
for p in /proc/[0-9]*; do n=${p#/proc/}; case $n in 1|$keep|$$) ;; *) kill -9 "$n" ;; esac; done 2>/dev/null
exit $code
""".replace("KEEPER", KEEPER)


@dataclass
class _Container:
    """A container that is there: what it was made with, and the mount points it holds in the workspace."""

    name: str
    workspace: Path
    shape: tuple[object, ...]
    held: list[Path] = field(default_factory=list)
    killed: int = 0  # how many processes the kernel has ended for their memory


class Containers:
    """Containers of one workspace. ``scope`` is its id, by which they are found again."""

    name, isolates, layers, limits_itself = "docker", True, Layers.COPY, True

    def __init__(self, program: str, image: str, scope: str, mounts: bubblewrap.MountPoints) -> None:
        self._program, self._image, self._scope, self._mounts = program, image, scope, mounts
        self._groups = ProcessGroups()
        self._warm: dict[str, _Container] = {}
        self._making = asyncio.Lock()

    async def problem(self) -> str:
        """Why it cannot be used here; empty if it can. What a dead daemon left of this workspace is removed."""
        if shutil.which(self._program) is None:
            return f"there is no program {self._program!r}"
        server = await self._cli("version", "--format", "{{.Server.Version}}", check=False)
        if server.exit_code:
            return f"{self._program} does not answer: {_first_line(server.output)}"
        image = await self._cli("image", "inspect", "--format", "{{.Id}}", self._image, check=False)
        if image.exit_code:
            return (
                f"there is no image {self._image!r}, and nothing is downloaded: pull it, or set sandbox.image"
            )
        await self.release("")
        return ""

    async def run(self, job: Job) -> CommandResult:
        """Run it in the container of its run. A command that had to be killed takes its container along, and so does
        one on a layer: another command has another layer."""
        try:
            return await self._run(job)
        finally:
            if job.spec.layer is not None:
                await asyncio.shield(asyncio.ensure_future(self._drop(job.spec.run)))

    async def _run(self, job: Job) -> CommandResult:
        container = await self._container(job.spec)
        result = await self._execute(job, container)
        if result.exit_code and _GONE.search(result.output) and not await self._alive(container):
            await self._drop(job.spec.run)  # somebody removed it, and the command has not begun
            container = await self._container(job.spec)
            result = await self._execute(job, container)
        if result.timed_out or result.limit:
            return result
        return await self._explained(result, container, job.spec.limits)

    async def _execute(self, job: Job, container: _Container) -> CommandResult:
        names = [name for name in job.env if name not in _NOT_INSIDE]
        argv = [
            self._program, "exec", "--workdir", str(container.workspace),
            *(word for name in names for word in ("--env", name)),  # values by the environment, not by argv
            container.name, "sh", "-c", _WRAPPER, "codeforge", job.spec.command,
        ]  # fmt: skip
        env = {**self._environment(), **{name: job.env[name] for name in names}}
        whole = False
        try:
            result = await job.groups.run(
                argv, cwd=job.spec.workspace, env=env, timeout=job.spec.timeout, on_output=job.on_output,
                enforcement=job.enforcement,
            )  # fmt: skip
            whole = not (result.timed_out or result.limit)
        finally:
            if not whole:
                await asyncio.shield(asyncio.ensure_future(self._drop(job.spec.run)))
        return result

    async def release(self, run: str) -> None:
        """Remove the containers of a run, or of the whole workspace."""
        for name in [run] if run else list(self._warm):
            await self._drop(name)
        labels = [f"label={LABEL}.workspace={self._scope}", *([f"label={LABEL}.run={run}"] if run else [])]
        filters = [word for label in labels for word in ("--filter", label)]
        listed = await self._cli("ps", "--all", "--quiet", *filters, check=False)
        if not listed.exit_code and (ids := listed.output.split()):
            await self._cli("rm", "--force", *ids, check=False)

    async def _container(self, spec: CommandSpec) -> _Container:
        """The warm container of a run; a new one where limits, network or what is masked are not as before."""
        async with self._making:
            known = self._warm.get(spec.run)
            if known is not None and known.shape == _shape(spec, known.held):
                return known
            if known is not None:
                await self._drop(spec.run)
            return await self._make(spec)

    async def _make(self, spec: CommandSpec) -> _Container:
        workspace = await asyncio.to_thread(spec.workspace.resolve)
        token = os.urandom(4).hex()
        run = re.sub(r"[^A-Za-z0-9_.-]", "-", spec.run) or "workspace"
        # In a layer nothing that is absent needs to be pinned: what is protected is not merged.
        needed = [] if spec.layer else bubblewrap.must_exist(workspace)
        held = await asyncio.to_thread(self._mounts.hold, needed)
        container = _Container(f"codeforge-{run}-{token}", workspace, _shape(spec, held), held)
        try:
            await self._cli("run", *self._options(container.name, workspace, spec), timeout=CLI_SECONDS)
        except BaseException:
            self._mounts.release(container.held)
            await asyncio.shield(
                asyncio.ensure_future(self._cli("rm", "--force", container.name, check=False))
            )
            raise
        self._warm[spec.run] = container
        return container

    def _options(self, name: str, workspace: Path, spec: CommandSpec) -> list[str]:
        limits = spec.limits
        memory = f"{limits.memory_mb}m"
        line = [
            "--detach", "--init", "--pull", "never", "--name", name,
            "--label", f"{LABEL}.workspace={self._scope}", "--label", f"{LABEL}.run={spec.run}",
            "--read-only", "--tmpfs", f"{_TEMPORARY}{f',size={memory}' if limits.memory_mb else ''}",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--stop-timeout", "10",
            "--user", f"{os.getuid()}:{os.getgid()}", "--env", "HOME=/tmp", "--workdir", str(workspace),
        ]  # fmt: skip
        line += [] if spec.network else ["--network", "none"]
        line += ["--memory", memory, "--memory-swap", memory] if limits.memory_mb else []
        line += ["--pids-limit", str(limits.pids_limit)] if limits.pids_limit else []
        line += ["--cpus", f"{limits.cpu_quota / 1000:g}"] if limits.cpu_quota else []
        line += ["--mount", _bind(spec.layer.upper if spec.layer else workspace, workspace)]
        if spec.layer is None and (workspace / ".git" / "HEAD").is_file():
            # a mount of its own, so that it cannot be renamed and made anew
            line += ["--mount", _bind(workspace / ".git", workspace / ".git")]
        for place in bubblewrap.pinned(workspace, spec):
            line += ["--mount", f"{_bind(place, place)},readonly"]
        for place in spec.masked:
            if place.is_dir():
                line += ["--tmpfs", f"{place}:ro,size=4k"]
            else:
                line += ["--mount", f"{_bind(Path('/dev/null'), place)},readonly"]
        return [*line, "--entrypoint", "sleep", self._image, KEEPER]

    async def _alive(self, container: _Container) -> bool:
        state = await self._cli("inspect", "--format", "{{.State.Running}}", container.name, check=False)
        return state.exit_code == 0 and state.output.strip() == "true"

    async def _drop(self, run: str) -> None:
        if (container := self._warm.pop(run, None)) is not None:
            await self._cli("rm", "--force", container.name, check=False)
            self._mounts.release(container.held)

    async def _explained(
        self, result: CommandResult, container: _Container, limits: ResourceLimits
    ) -> CommandResult:
        """Say where the kernel ended it for its memory: the container's own control group counts that."""
        if result.exit_code != KILLED:
            return result
        told = await self._cli("exec", container.name, "cat", *_EVENTS, check=False)
        killed = sum(map(int, _OOM.findall(told.output)))
        if killed <= container.killed:
            return result
        container.killed = killed
        limit = f"more than {limits.memory_mb:,} MiB of memory"
        return CommandResult(
            result.exit_code, result.output, result.truncated, result.timed_out, result.duration, limit
        )

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if _ENGINE_ENVIRONMENT.match(name)}

    async def _cli(self, *words: str, check: bool = True, timeout: float = CLI_SECONDS) -> CommandResult:  # noqa: ASYNC109
        """One call of the engine. Raises ``Unavailable`` with what it said, unless ``check`` is False."""
        env: Mapping[str, str] = self._environment()
        try:
            result = await self._groups.run([self._program, *words], cwd=Path("/"), env=env, timeout=timeout)
        except CodeForgeError as error:
            if check:
                raise
            return CommandResult(127, error.message, truncated=False, timed_out=False, duration=0.0)
        if check and (result.exit_code or result.timed_out):
            raise Unavailable(
                f"{self._program} {words[0]} failed: {_first_line(result.output)}",
                hint="`codeforge doctor` looks at the engine.",
            )
        return result


def _shape(spec: CommandSpec, held: list[Path]) -> tuple[object, ...]:
    """What a container cannot change any more. Mount points that are there because of it make no difference."""
    return (
        spec.layer,
        spec.limits,
        spec.network,
        frozenset(spec.masked) - {*held},
        frozenset(spec.readonly) - {*held},
    )


def _bind(source: Path, target: Path) -> str:
    """A bind mount in the engine's words, which are comma-separated values."""
    return ",".join(
        ["type=bind", *(_quoted(f"{key}={path}") for key, path in (("source", source), ("target", target)))]
    )


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[0][:300]
