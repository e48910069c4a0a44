"""What a daemon left that was killed in the middle of a write, a merge or a restore: finished and recorded."""

from __future__ import annotations

import asyncio
from pathlib import Path

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.merging import Merger, merged_event
from codeforge_ls.actions.rewind import finished_restore
from codeforge_ls.model.actions import SYSTEM
from codeforge_ls.model.checkpoints import Restored
from codeforge_ls.sandbox.layer import sweep
from codeforge_ls.store import Store


async def recover(
    files: WorkspaceFiles, merger: Merger, layers: Path, store: Store, restored: Restored | None
) -> list[str]:
    """Finish what was begun; ``restored`` is the restore that the checkpoints have finished already, ``layers`` the
    folder of what commands wrote in hybrid mode. Returns the paths that changed, an empty one for all."""
    changed: list[str] = []
    await files.recover()
    if finished := await merger.recover():
        plan, merge = finished
        await store.append(merged_event(plan, merge, SYSTEM.label, after_crash=True))
        changed += [change.path for change in merge.files]
    await asyncio.to_thread(sweep, layers)
    if restored:
        await store.append(*finished_restore(restored))
        changed.append("")
    return changed
