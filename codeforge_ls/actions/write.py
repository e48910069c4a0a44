"""Write: create a file or replace it whole."""

from __future__ import annotations

import re

from pydantic import Field

from codeforge_ls.actions.edit import MAX_TEXT, refuse_stale
from codeforge_ls.actions.files import Current, WorkspaceFiles
from codeforge_ls.actions.text import adapt_line_ends
from codeforge_ls.actions.tool import Changes, FileEdit, ToolContext, ToolKind
from codeforge_ls.model.actions import AccessKind, Effects, Tool
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.errors import Conflict

ELISION = re.compile(
    r"^\s*(#|//|/\*|--|<!--)?\s*\.\.\.\s*(rest|existing|unchanged|remaining|same|previous)",
    re.IGNORECASE | re.MULTILINE,
)


class WriteArguments(Frozen):
    """Which file, and its whole new content."""

    path: str = Field(min_length=1, max_length=4096, description="Workspace-relative path")
    content: str = Field(max_length=MAX_TEXT, description="The whole new file")
    base_hash: str | None = Field(default=None, max_length=64, description="Hash from Read; stale is refused")


def effects(arguments: WriteArguments, files: WorkspaceFiles) -> Effects:
    """It writes that path."""
    return Effects(paths=(files.effect(arguments.path, AccessKind.WRITE),))


async def prepare(arguments: WriteArguments, context: ToolContext) -> Changes:
    """Encode the content as the file was encoded."""
    now = await context.files.current(arguments.path)
    refuse_stale(now, arguments.base_hash)
    return Changes((FileEdit(now, whole_file(arguments.content, now)),))


def whole_file(content: str, now: Current) -> bytes:
    """The bytes of a whole new file: byte order mark, encoding and line ends of the old one are kept.

    Raises ``Conflict`` for content that is much shorter and says "... rest unchanged": it would lose text.
    """
    old = now.text()
    if len(content) < len(old.text) * 0.7 and ELISION.search(content):
        raise Conflict(
            f"The content for {now.path} leaves parts out ('... rest'); writing it would lose text.",
            hint="Use Edit for a part, or give the whole file.",
        )
    return old.encode(adapt_line_ends(content, old))


WRITE = ToolKind(
    Tool.WRITE,
    "Create a file, or replace it whole. Prefer Edit for changes.",
    WriteArguments,
    effects,
    prepare,
)
