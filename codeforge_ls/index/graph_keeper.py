"""Has the code graph written by a process of its own, and keeps only the latest one."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path

from codeforge_ls.index.database import IndexDatabase

log = logging.getLogger(__name__)


class GraphKeeper:
    """The writing side of the graph beside index.db; ``meta.graph`` names the current file."""

    def __init__(self, db: IndexDatabase, state: Path) -> None:
        self._db, self._state, self._folder = db, state, state / "graph"
        self._writing = asyncio.Lock()

    async def write_if_missing(self) -> None:
        """After a build: the first graph, or one in place of a file that is gone."""
        name = self._db.meta("graph")
        if not name or not (self._folder / name).is_file():
            await self.write()

    async def write(self, *, damaged: bool = False) -> None:
        """Write the graph of the present state, unless the current one is that already and not ``damaged``."""
        async with self._writing:
            name = self._db.meta("graph") or ""
            current = name.startswith(f"{self._db.generation:08x}-") and (self._folder / name).is_file()
            if current and not damaged:
                return
            name = f"{self._db.generation:08x}-{time.time_ns():x}"
            command = [sys.executable, "-P", "-m", "codeforge_ls.index.graph_writer"]
            process = await asyncio.create_subprocess_exec(
                *command,
                str(self._state / "index.db"),
                str(self._folder / name),
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
            if process.returncode != 0:
                log.error("writing the code graph ended with code %s", process.returncode)
                return  # what changed since the last one is still held by the reader, up to a limit
            self._db.begin()
            self._db.set_meta("graph", name)
            self._db.commit()
            for other in self._folder.iterdir():
                if other.name != name:
                    other.unlink(missing_ok=True)
