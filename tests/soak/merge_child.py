"""The process that ``merge_kills`` kills: it merges a layer that lies ready into a workspace."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from codeforge_ls.actions.documents import DocumentHub
from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.merging import Merge, Merger, Plan
from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.checkpoints import CheckpointKind
from codeforge_ls.sandbox.layer import Layer


def merger(root: Path, state: Path) -> tuple[Merger, Checkpoints]:
    """A merger as a daemon has it."""
    checkpoints = Checkpoints(root, state)
    files = WorkspaceFiles(root, DocumentHub(), state / "writing")
    return Merger(files, checkpoints, state / "merging"), checkpoints


async def merge(root: Path, state: Path, layer: Layer) -> Merge:
    """Take a checkpoint, say that all is ready, and merge."""
    ours, checkpoints = merger(root, state)
    began = time.time_ns()
    await asyncio.sleep(0.05)  # as a command takes: what is older than it is not looked at twice
    base = await checkpoints.create("run:merge", label="before", kind=CheckpointKind.ACTION)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    plan = await ours.plan(layer, base, began, lambda _: True, Plan(str(layer.folder), "run:merge", "call"))
    merged = await ours.carry_out(plan)
    print("done", flush=True)
    return merged


if __name__ == "__main__":
    asyncio.run(merge(Path(sys.argv[1]), Path(sys.argv[2]), Layer(Path(sys.argv[3]))))
