"""Has base segments written by a process of its own: the first, small ones for what is new, and merged ones."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from codeforge_ls.index.database import SEGMENT, IndexDatabase, SegmentRow

log = logging.getLogger(__name__)

# Files newer than all segments before a new segment is written with them.
DELTA_FILES = 50
# Small segments before they are merged, and the share of all chunks in them, or lost, at which all is written anew.
MAX_SMALL, REWRITE_SHARE = 4, 0.3


class SegmentKeeper:
    """The writing side of the segments in ``folder``; ``on_current`` is called whenever they are up to date.

    ``seconds`` is the processor time that writers took so far.
    """

    def __init__(self, db: IndexDatabase, state: Path, folder: Path, on_current: Callable[[], None]) -> None:
        self._db, self._state, self._folder, self._on_current = db, state, folder, on_current
        self._writing = asyncio.Lock()
        self.seconds = 0.0

    async def refresh(self) -> None:
        """Write a segment when there is none, when one is gone, or when enough files are newer."""
        async with self._writing:
            segments = self._db.segments()
            there = [one for one in segments if (self._folder / one.name / SEGMENT).is_file()]
            since = int(self._db.meta("segment_generation") or 0)
            if not segments or len(there) < len(segments):
                await self._write({"all": True}, [])
            elif self._db.changes_since(since) > DELTA_FILES:
                await self._write(*self._plan(segments, since))
            else:
                self._on_current()

    def forget(self) -> None:
        """A reader found a segment unusable: none is in use until ``refresh`` has written others."""
        self._db.switch_segments([], 0)

    def _plan(self, segments: list[SegmentRow], since: int) -> tuple[dict[str, object], list[SegmentRow]]:
        """What the next writer has to do, and which segments stay: the big ones, unless too much in them is lost."""
        most = max(one.chunks for one in segments)
        big = [one for one in segments if one.chunks * 4 >= most]
        small = [one for one in segments if one not in big]
        written = sum(one.chunks for one in segments)
        living = self._db.counts()[2]
        if written - living > REWRITE_SHARE * max(written, 1):
            return {"all": True}, []
        if len(small) < MAX_SMALL:
            return {"since": since}, segments
        if sum(one.chunks for one in small) > REWRITE_SHARE * written:
            return {"all": True}, []
        return {"since": since, "merge": [one.name for one in small]}, big

    async def _write(self, wanted: dict[str, object], stay: list[SegmentRow]) -> None:
        name = f"{self._db.generation:08x}-{time.time_ns():x}"
        command = [sys.executable, "-P", "-m", "codeforge_ls.index.segment_writer"]
        process = await asyncio.create_subprocess_exec(
            *command, str(self._state / "index.db"), str(self._folder), name, json.dumps(wanted),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode != 0:
            log.error("writing a segment ended with code %s", process.returncode)
            return  # the scan and the files in memory still answer; the next change or build tries again
        answer = json.loads(printed)
        new = [SegmentRow(one["name"], one["chunks"]) for one in answer["segments"]]
        self.seconds += float(answer["seconds"])
        self._db.switch_segments([*new, *stay], int(answer["generation"]))
        await asyncio.to_thread(_remove_others, self._folder, {one.name for one in (*new, *stay)})
        self._on_current()


def _remove_others(folder: Path, names: set[str]) -> None:
    for other in folder.iterdir():
        if other.name not in names:
            shutil.rmtree(other, ignore_errors=True)
