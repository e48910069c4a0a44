"""Restore: bring the workspace back to a checkpoint. Asked for by people and MCP clients, not by the agent."""

from __future__ import annotations

from pydantic import Field

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.tool import Rewind, ToolContext, ToolKind
from codeforge_ls.model.actions import AccessKind, Effects, PathEffect, Tool
from codeforge_ls.model.base import Frozen


class RestoreArguments(Frozen):
    """Which checkpoint, and for which paths (None: every path that differs)."""

    checkpoint_id: str = Field(min_length=1, max_length=100)
    only: tuple[str, ...] | None = None


def effects(_arguments: RestoreArguments, _files: WorkspaceFiles) -> Effects:
    """It may write anything below the root."""
    return Effects(paths=(PathEffect(path=".", access=AccessKind.WRITE),))


async def prepare(arguments: RestoreArguments, context: ToolContext) -> Rewind:
    """Find the checkpoint."""
    return Rewind(await context.checkpoint(arguments.checkpoint_id), arguments.only)


RESTORE = ToolKind(Tool.RESTORE, "Restore a checkpoint.", RestoreArguments, effects, prepare)
