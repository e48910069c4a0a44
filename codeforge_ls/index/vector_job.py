"""Has the vectors of segments written in the background, one writer at a time, and says how far that is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from codeforge_ls.index.database import VECTORS, SegmentRow
from codeforge_ls.model.index import LegState

log = logging.getLogger(__name__)

TRIES = 3  # times that the writer may die before it is left alone until there is a new segment


class VectorJob:
    """``segments`` gives those in use; ``on_progress`` is called when some more have vectors."""

    def __init__(
        self, folder: Path, segments: Callable[[], Sequence[SegmentRow]], on_progress: Callable[[], None]
    ) -> None:
        self._folder, self._segments, self._on_progress = folder, segments, on_progress
        self._writing = asyncio.Lock()
        self._deaths: dict[str, int] = {}
        self._note = ""

    async def write_missing(self) -> None:
        """Write the vectors of every segment that lacks them. A writer that dies is tried again."""
        async with self._writing:
            while names := self._missing():
                code = await self._run(names)
                self._on_progress()
                if not code:
                    self._note = ""
                    if self._missing() == names:
                        return  # gone meanwhile, or not to be read: another will be written
                    continue
                for name in names:
                    self._deaths[name] = self._deaths.get(name, 0) + 1
                self._note = f"the writer of the vectors ended with code {code}"
                log.error("%s", self._note)
            self._on_progress()

    def forget(self, names: Sequence[str]) -> None:
        """Take away vectors that cannot be used."""
        for name in names:
            with contextlib.suppress(OSError):
                (self._folder / name / VECTORS).unlink()

    def state(self) -> LegState:
        """How many of the chunks have vectors."""
        segments = self._segments()
        every = sum(one.chunks for one in segments)
        having = sum(one.chunks for one in segments if self._has(one.name))
        percent = round(100.0 * having / every, 1) if every else 100.0 * bool(segments)
        failed = bool(segments) and percent < 100 and not self._missing()
        state = "failed" if failed else "ready" if percent == 100 else "building"
        return LegState(
            name="vectors", state=state, percent=percent, note=self._note if state != "ready" else ""
        )

    def _has(self, name: str) -> bool:
        return (self._folder / name / VECTORS).is_file()

    def _missing(self) -> list[str]:
        return [
            one.name
            for one in self._segments()
            if not self._has(one.name) and self._deaths.get(one.name, 0) < TRIES
        ]

    async def _run(self, names: Sequence[str]) -> int:
        command = [sys.executable, "-P", "-m", "codeforge_ls.index.vector_writer", str(self._folder), *names]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above
            async for _ in process.stdout:
                self._on_progress()
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
