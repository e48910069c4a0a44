"""Edit: replace one exact and unique piece of text in a file."""

from __future__ import annotations

from pydantic import Field

from codeforge_ls.actions.files import Current, WorkspaceFiles
from codeforge_ls.actions.text import replace
from codeforge_ls.actions.tool import Changes, FileEdit, ToolContext, ToolKind
from codeforge_ls.model.actions import AccessKind, Effects, Tool
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.errors import Conflict

MAX_TEXT = 4 << 20  # characters


class EditArguments(Frozen):
    """What to replace by what."""

    path: str = Field(min_length=1, max_length=4096, description="Workspace-relative path")
    old_text: str = Field(max_length=MAX_TEXT, description="Exact text, unique in the file")
    new_text: str = Field(max_length=MAX_TEXT, description="Text that takes its place")
    replace_all: bool = Field(default=False, description="Replace every occurrence")
    base_hash: str | None = Field(default=None, max_length=64, description="Hash from Read; stale is refused")


def effects(arguments: EditArguments, files: WorkspaceFiles) -> Effects:
    """It writes that path."""
    return Effects(paths=(files.effect(arguments.path, AccessKind.WRITE),))


async def prepare(arguments: EditArguments, context: ToolContext) -> Changes:
    """Find the text and compute the new content."""
    now = await context.files.existing(arguments.path)
    refuse_stale(now, arguments.base_hash)
    text = now.text()
    after = replace(text, arguments.old_text, arguments.new_text, everywhere=arguments.replace_all)
    return Changes((FileEdit(now, text.encode(after)),))


def refuse_stale(now: Current, base_hash: str | None) -> None:
    """Raise ``Conflict`` when the file is no longer the one that was read."""
    if base_hash is not None and now.hash != base_hash:
        raise Conflict(f"{now.path} changed since it was read.", hint="Read it again and retry.")


EDIT = ToolKind(
    Tool.EDIT,
    "Replace exact, unique text in a file. Read the file first; keep old_text short but unique.",
    EditArguments,
    effects,
    prepare,
)
