"""The process that checkpoint_kills.py kills: one snapshot, restore or cleanup, announced and then carried out."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from codeforge_ls import git
from codeforge_ls.checkpoints import Checkpoints, retention
from codeforge_ls.checkpoints.shadow import Shadow
from codeforge_ls.model.checkpoints import CheckpointKind

LATER = 2 * 3600.0  # seconds; streams of the last hour are never dropped for space


async def main(what: str, ws: Path, state: Path) -> None:
    """``what``, once somebody says so. Prints how long it took."""
    checkpoints = Checkpoints(ws, state)
    known = await checkpoints.known() if what == "restore" else []
    git.git_program()
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    if what in ("first snapshot", "snapshot"):
        await checkpoints.create("run:killed", label="", kind=CheckpointKind.ACTION)
    elif what == "restore":
        await checkpoints.restore(known[0], "run:killed")
    else:
        shadow = Shadow(state / "shadow.git", git.Cancellation())
        with shadow.locked():
            retention.cleanup(shadow, 30, 1, time.time() + LATER)
    print(f"done {time.monotonic() - began}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
