"""What a sandbox is given and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.model.limits import ExecMode, ResourceLimits
from codeforge_ls.sandbox.layer import Layer

NO_LIMITS = ResourceLimits()
MAX_OUTPUT = 30_000  # characters kept: half from the beginning, half from the end


@dataclass(frozen=True)
class CommandSpec:
    """One command to run.

    ``timeout`` is in seconds, ``network`` False cuts it off (``Sandbox.run`` refuses where it cannot). ``env`` is added
    to a scrubbed environment; names that change which program runs are dropped. ``masked`` are files and folders that
    must not be readable, ``readonly`` such as must not change; both only where the backend can confine.
    ``path_dirs`` come first on PATH. ``run`` names what commands belong together and may share a container. ``layer``
    is where the command's changes go instead of into the workspace (hybrid mode).
    """

    command: str
    cwd: Path
    workspace: Path
    timeout: float = 120.0
    network: bool = False
    env: Mapping[str, str] | None = None
    masked: tuple[Path, ...] = ()
    readonly: tuple[Path, ...] = ()
    path_dirs: tuple[str, ...] = ()
    limits: ResourceLimits = NO_LIMITS
    mode: ExecMode = ExecMode.MOUNT
    run: str = ""
    layer: Layer | None = None


@dataclass(frozen=True)
class CommandResult:
    """How it ended. ``exit_code`` is negative for a signal, as in ``subprocess``; ``duration`` is in seconds.

    ``output`` holds standard output and error as they came, at most 30,000 characters; ``truncated`` says that its
    middle was left out. ``limit`` says which limit ended it, in words such as ``more than 512 MiB of memory``.
    """

    exit_code: int
    output: str
    truncated: bool
    timed_out: bool
    duration: float
    limit: str = ""


class Transcript:
    """Keeps the head and the tail of an output that may be endless."""

    def __init__(self, limit: int = MAX_OUTPUT) -> None:
        self._half = limit // 2
        self._head = ""
        self._tail = ""
        self._length = 0

    def add(self, text: str) -> None:
        """Take in the next piece."""
        self._length += len(text)
        room = self._half - len(self._head)
        if room > 0:
            self._head += text[:room]
            text = text[room:]
        if text:
            self._tail = (self._tail + text)[-self._half :]

    @property
    def truncated(self) -> bool:
        """Whether something was left out."""
        return self._length > len(self._head) + len(self._tail)

    @property
    def text(self) -> str:
        """Head and tail, with a line in between that says what is missing."""
        if not self.truncated:
            return self._head + self._tail
        missing = self._length - len(self._head) - len(self._tail)
        return f"{self._head}\n[... {missing:,} characters left out ...]\n{self._tail}"
