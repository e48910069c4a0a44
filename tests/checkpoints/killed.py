"""The process that test_kill.py kills: ``create`` or ``restore`` again and again until it dies."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.checkpoints import CheckpointKind


async def main(what: str, ws: Path, state: Path) -> None:
    checkpoints = Checkpoints(ws, state)
    first = (await checkpoints.known())[0]
    print("ready", flush=True)
    sys.stdin.readline()
    if what == "restore":
        await checkpoints.restore(first, "run:killed")
    else:
        await checkpoints.create("run:killed", label="", kind=CheckpointKind.ACTION)
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
