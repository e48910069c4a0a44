"""The one way to run a command: through the backend that was found to work, within limits, or not at all."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from codeforge_ls.model.errors import InvalidInput, Unavailable
from codeforge_ls.model.limits import ExecMode, ResourceLimits
from codeforge_ls.sandbox.backends import Backend, Job
from codeforge_ls.sandbox.cgroup import ControlGroup, ControlGroups
from codeforge_ls.sandbox.command import CommandResult, CommandSpec
from codeforge_ls.sandbox.copying import Copy, has_foreign
from codeforge_ls.sandbox.enforcement import Enforcement
from codeforge_ls.sandbox.environment import environment
from codeforge_ls.sandbox.layer import Layer, Layers
from codeforge_ls.sandbox.process import ProcessGroups

log = logging.getLogger(__name__)

MAX_COMMAND = 128 << 10  # bytes; the kernel takes no longer single argument
HINT = (
    "`codeforge doctor` says what was tried. Install bubblewrap (apt install bubblewrap, or pip install "
    "'codeforge-ls[sandbox]'), or allow the network."
)


class Sandbox:
    """A backend, what holds the limits, and the process groups at work.

    ``backend`` None: the one that was asked for does not work, and every command is refused. ``why`` says how it was
    chosen. ``deliberate``: there is no isolation because a person has set so, and not because nothing was found.
    """

    def __init__(
        self,
        name: str,
        why: str,
        backend: Backend | None,
        *,
        control: ControlGroups | None = None,
        deliberate: bool = False,
    ) -> None:
        self.name, self.why, self.deliberate = name, why, deliberate
        self._backend, self._control = backend, control
        self._groups = ProcessGroups()

    @property
    def can_cut_network(self) -> bool:
        """Whether commands are isolated: kept off the network, and from writing outside the workspace."""
        return self._backend is not None and self._backend.isolates

    @property
    def holds_limits(self) -> str:
        """What holds the limits of a command, in words."""
        if self._backend is not None and self._backend.limits_itself:
            return "the container engine"
        return (
            f"control groups, version {self._control.version}" if self._control else "rlimits and a watchdog"
        )

    def live_groups(self) -> set[int]:
        """Process groups of the commands that run now; empty when nothing is left over."""
        return self._groups.live

    def require(self, mode: ExecMode) -> None:
        """Raise ``Unavailable`` where commands cannot run in this mode; there is no fall-back to another."""
        if mode is not ExecMode.MOUNT and not self.can_cut_network:
            raise Unavailable(
                f"The mode {mode.value} needs a sandbox, and none works here: {self.why}.", hint=HINT
            )
        if mode is ExecMode.HYBRID and not (self._backend and self._backend.layers is not Layers.NONE):
            raise Unavailable(
                f"The mode hybrid needs bubblewrap or containers, and {self.name} can show a command no other tree "
                f"in place of the workspace: {self.why}.",
                hint="pip install 'codeforge-ls[sandbox]' brings bubblewrap; or use the mode mount or sandbox.",
            )

    async def layer(self, command: CommandSpec, within: Path) -> Layer:
        """A new layer for this command of hybrid mode, in a folder of ours.

        Raises ``LimitReached`` where the workspace is too large to be copied, ``Unavailable`` where none can be made.
        """
        stop = threading.Event()
        making = asyncio.ensure_future(asyncio.to_thread(self._layer, command, within, stop))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait({making})
            if making.exception() is None:
                making.result().remove()
            raise

    def _layer(self, command: CommandSpec, within: Path, stop: threading.Event) -> Layer:
        workspace = command.workspace.resolve()
        overlay = self._backend is not None and self._backend.layers is Layers.OVERLAY
        try:
            if overlay and not has_foreign(workspace):
                return Layer.make(within)
            return Copy.of(workspace, within, command.masked, stop)
        except OSError as error:
            raise Unavailable(
                f"No layer for hybrid mode can be made in {within}: {error.strerror}.",
                hint="Look at the space and the permissions there, or use the mode mount or sandbox.",
            ) from error

    async def run(
        self, command: CommandSpec, on_output: Callable[[str], None] | None = None
    ) -> CommandResult:
        """Run a command to its end; whatever happens, none of its processes is left.

        ``on_output`` gets the text as it comes, on the event loop. Raises ``Unavailable`` where the network must be
        cut and cannot be, or the mode cannot be had; ``InvalidInput`` for a command or a folder that cannot be run.
        """
        backend = self._checked(command)
        token = secrets.token_hex(8)

        def prepared() -> Job:
            env = environment(command, token)
            return Job(
                command, env, token, self._enforcement(backend, command.limits), self._groups, on_output
            )

        preparing = asyncio.ensure_future(asyncio.to_thread(prepared))
        try:
            job = await asyncio.shield(preparing)
        except asyncio.CancelledError:
            (await preparing).enforcement.remove()
            raise
        try:
            return await backend.run(job)
        finally:
            if job.enforcement.holds:
                await asyncio.shield(asyncio.to_thread(job.enforcement.remove))

    async def release(self, run: str = "") -> None:
        """Nothing more comes of this run (empty: of any): what is kept warm for it ends."""
        if self._backend is not None:
            await self._backend.release(run)

    def _enforcement(self, backend: Backend, limits: ResourceLimits) -> Enforcement:
        if backend.limits_itself:
            return Enforcement(ResourceLimits(output_mb=limits.output_mb))
        group: ControlGroup | None = None
        if self._control is not None:
            try:
                group = self._control.make(limits)
            except OSError as error:
                log.warning("no control group could be made (%s); a watchdog holds the limits", error)
        return Enforcement(limits, group)

    def _checked(self, command: CommandSpec) -> Backend:
        if self._backend is None:
            raise Unavailable(f"The sandbox {self.name} does not work here: {self.why}.", hint=HINT)
        self.require(command.mode)
        if not command.network and not self.can_cut_network:
            raise Unavailable(
                f"The command must not reach the network, and nothing here can cut it off ({self.why}).",
                hint=HINT,
            )
        if not command.command.strip() or "\0" in command.command:
            raise InvalidInput("The command is empty or holds a NUL character.", data={"field": "command"})
        try:
            size = len(command.command.encode())
        except UnicodeEncodeError as error:
            raise InvalidInput("The command is not valid text.", data={"field": "command"}) from error
        if size > MAX_COMMAND:
            raise InvalidInput(f"The command has {size:,} bytes; the limit is {MAX_COMMAND:,}.")
        if not command.timeout > 0:
            raise InvalidInput("The time-out must be more than 0 seconds.", data={"field": "timeout"})
        if not command.cwd.is_dir():
            raise InvalidInput(f"There is no folder {command.cwd}.", data={"field": "cwd"})
        return self._backend
