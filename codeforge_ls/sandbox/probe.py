"""Find out once what isolates commands here, and say why: bubblewrap, else Landlock, else nothing; docker on demand."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.config import SandboxBackend, SandboxSettings
from codeforge_ls.model.errors import CodeForgeError
from codeforge_ls.sandbox import bubblewrap, cgroup, landlock
from codeforge_ls.sandbox.backends import Backend, Bubblewrap, Landlocked, Plain
from codeforge_ls.sandbox.docker import Containers
from codeforge_ls.sandbox.layer import Layer, Layers
from codeforge_ls.sandbox.process import ProcessGroups
from codeforge_ls.sandbox.sandbox import Sandbox

PROBE_SECONDS = 10.0
COPIES = "hybrid mode copies the workspace for each command, which takes as long as `cp -a`"
LANDLOCK_HOLDS = (
    "Landlock {version} and seccomp; nothing new can be made directly in a folder that holds protected files, such as "
    "the root, git works read-only, and the permission bits of your files are not protected"
)


@dataclass(frozen=True)
class Found:
    """What came of trying one backend. ``backend`` None: it does not work, and ``why`` says what is in the way."""

    name: str
    why: str
    backend: Backend | None


@dataclass(frozen=True)
class Place:
    """Where the sandbox keeps its own: ``state`` is the workspace's state folder (None: nowhere, as for ``doctor``),
    ``scope`` the id of the workspace, by which containers are found again."""

    state: Path | None = None
    scope: str = ""

    @property
    def ledger(self) -> Path | None:
        """The file that names what is in the workspace only while commands run; a killed process left it."""
        return self.state / "mount-points" if self.state else None

    @property
    def layers(self) -> Path:
        """Where layers of hybrid mode are made."""
        return (self.state or Path(tempfile.gettempdir())) / "layers"


async def probe(settings: SandboxSettings, place: Place | None = None) -> Sandbox:
    """The sandbox to use. One that was asked for and does not work is still returned, and refuses every command."""
    place = place or Place()
    control, _ = await asyncio.to_thread(cgroup.find)
    if settings.backend is SandboxBackend.NONE:
        return Sandbox("none", "no sandbox, as the settings say", Plain(), control=control, deliberate=True)
    tried: list[Found] = []
    async for found in survey(settings, place):
        if settings.backend.value == found.name:
            return Sandbox(found.name, found.why, found.backend, control=control)
        if settings.backend is SandboxBackend.AUTO and found.name != "docker":
            if found.backend is not None:
                why = "; ".join([*(f"{one.name}: {one.why}" for one in tried), found.why])
                return Sandbox(found.name, why, found.backend, control=control)
            tried.append(found)
    return Sandbox("none", "; ".join(f"{one.name}: {one.why}" for one in tried), Plain(), control=control)


async def survey(settings: SandboxSettings, place: Place) -> AsyncIterator[Found]:
    """Every backend, the best first, each tried when it is asked for."""
    mounts = await asyncio.to_thread(bubblewrap.MountPoints, place.ledger)
    yield await _bubblewrap(place, mounts)
    if problem := await asyncio.to_thread(landlock.problem):
        yield Found("landlock", problem, None)
    else:
        yield Found("landlock", LANDLOCK_HOLDS.format(version=landlock.version()), Landlocked())
    containers = Containers(settings.engine, settings.image, place.scope, mounts)
    if problem := await containers.problem():
        yield Found("docker", problem, None)
    else:
        yield Found("docker", f"{settings.engine} with the image {settings.image}; {COPIES}", containers)


async def _bubblewrap(place: Place, mounts: bubblewrap.MountPoints) -> Found:
    """The first that can write layers, else the first that works."""
    programs = await asyncio.to_thread(bubblewrap.find_bubblewrap)
    if not programs:
        return Found("bubblewrap", "it is not installed", None)
    problems = []
    for program in programs:
        if not (problem := await _no_layers(program, place)):
            return Found(
                "bubblewrap", f"{program} works, with layers", Bubblewrap(program, mounts, Layers.OVERLAY)
            )
        problems.append(f"{program}: {problem}")
    for program in programs:
        if not await _problem(bubblewrap.probe_arguments(program)):
            why = f"{program} works; {COPIES}, as no overlay can be mounted ({'; '.join(problems)})"
            return Found("bubblewrap", why, Bubblewrap(program, mounts, Layers.COPY))
    return Found("bubblewrap", f"it does not work here: {'; '.join(problems)}", None)


async def _no_layers(program: str, place: Place) -> str:
    """Why it cannot write a layer where ours are kept; empty if it can."""
    try:
        layer = await asyncio.to_thread(Layer.make, place.layers)
    except OSError as error:
        return f"no layer can be made in {place.layers}: {error.strerror}"
    try:
        return await _problem(bubblewrap.probe_arguments(program, layer))
    finally:
        await asyncio.to_thread(layer.remove)


async def _problem(argv: list[str]) -> str:
    env = {"PATH": "/usr/bin:/bin"}
    try:
        result = await ProcessGroups().run(
            argv, cwd=Path(tempfile.gettempdir()), env=env, timeout=PROBE_SECONDS
        )
    except CodeForgeError as error:
        return error.message
    if result.exit_code == 0 and not result.timed_out:
        return ""
    return " ".join(result.output.split())[:300] or f"exit code {result.exit_code}"
