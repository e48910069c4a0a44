"""How a command may run: where its changes go, how much it may take, and what that is in words."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from codeforge_ls.model.base import Frozen


class NetworkMode(StrEnum):
    """Whether commands may reach the network."""

    HOST = "host"
    NONE = "none"


class ExecMode(StrEnum):
    """Where commands work and where their changes go (rows RUN-14..16).

    ``mount``: on the real tree. ``sandbox``: on the real tree, but never without isolation and within tighter
    limits. ``hybrid``: a command reads the real tree and writes a layer of its own, which is merged into the tree
    when the command has succeeded.
    """

    MOUNT = "mount"
    SANDBOX = "sandbox"
    HYBRID = "hybrid"


class ResourceLimits(Frozen):
    """Limits of one command with all its processes; 0, and no network mode, mean that nothing is said."""

    memory_mb: int = Field(default=0, ge=0, description="Memory of all its processes together, MiB")
    cpu_quota: int = Field(default=0, ge=0, description="1000 is one CPU")
    pids_limit: int = Field(default=0, ge=0, description="Processes and threads at the same time")
    storage_gb: int = Field(default=0, ge=0, description="Size of a file that it writes, GiB")
    wall_seconds: float = Field(default=0, ge=0, allow_inf_nan=False, description="Time it may take at most")
    output_mb: int = Field(default=0, ge=0, description="What it may print before it is ended, MiB")
    network_mode: NetworkMode | None = Field(default=None, description="Nothing said: none")

    def overridden(self, other: ResourceLimits) -> ResourceLimits:
        """These limits, with what ``other`` says in their place (row SEC-1)."""
        return self.model_copy(update=other.said())

    def tightened(self, other: ResourceLimits) -> ResourceLimits:
        """The smaller of both in each place where both say something; the network only if both leave it open."""
        mine, theirs = self.said(), other.said()
        least = {
            name: min(mine.get(name, value), value)
            for name, value in theirs.items()
            if not isinstance(value, NetworkMode)
        }
        if NetworkMode.NONE in (self.network_mode, other.network_mode):
            least["network_mode"] = NetworkMode.NONE
        return self.overridden(ResourceLimits.model_validate(least))

    def said(self) -> dict[str, float | NetworkMode]:
        """The limits that are set, by name."""
        return {name: value for name, value in self if value}

    @property
    def text(self) -> str:
        """In words, for prompts: ``2,048 MiB of memory, 2 CPUs, 512 processes, no network``."""
        parts = [
            f"{self.memory_mb:,} MiB of memory" if self.memory_mb else "",
            f"{self.cpu_quota / 1000:g} CPU{'' if self.cpu_quota == 1000 else 's'}" if self.cpu_quota else "",
            f"{self.pids_limit:,} processes" if self.pids_limit else "",
            f"{self.wall_seconds:g} s" if self.wall_seconds else "",
            "the network open" if self.network_mode is NetworkMode.HOST else "no network",
        ]
        return ", ".join(filter(None, parts))


class Execution(Frozen):
    """How the commands of a run are executed: resolved once, when it starts, and kept with it."""

    mode: ExecMode = ExecMode.MOUNT
    limits: ResourceLimits = ResourceLimits()

    @property
    def text(self) -> str:
        """In words, for prompts."""
        return f"{self.mode.value} mode: {self.limits.text}"
