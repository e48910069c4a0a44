"""Read: lines of one file, unsaved text included, with line numbers and the hash that edits refer to."""

from __future__ import annotations

from pydantic import Field

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.tool import Answer, ToolContext, ToolKind, clip
from codeforge_ls.model.actions import AccessKind, Effects, Tool
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.errors import InvalidInput


class ReadArguments(Frozen):
    """Which lines of which file."""

    path: str = Field(min_length=1, max_length=4096, description="Workspace-relative path")
    offset: int = Field(default=1, ge=1, description="First line, 1-based")
    limit: int = Field(default=2000, ge=1, le=10_000, description="How many lines")


def effects(arguments: ReadArguments, files: WorkspaceFiles) -> Effects:
    """It reads that path."""
    return Effects(paths=(files.effect(arguments.path, AccessKind.READ),))


async def prepare(arguments: ReadArguments, context: ToolContext) -> Answer:
    """Read the lines."""
    now = await context.files.existing(arguments.path)
    lines = now.text().text.replace("\r\n", "\n").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    first = arguments.offset
    if first > max(1, len(lines)):
        raise InvalidInput(
            f"{now.path} has {len(lines)} lines; line {first} is past its end.", data={"field": "offset"}
        )
    shown = lines[first - 1 : first - 1 + arguments.limit]
    body = "\n".join(f"{first + i}\t{line[:2000]}" for i, line in enumerate(shown))
    note = " (unsaved text of the editor)" if now.document else ""
    head = f"{now.path}{note}, lines {first}-{first + len(shown) - 1} of {len(lines)}, base_hash {now.hash}"
    return Answer(
        f"{head}\n{clip(body)}",
        {
            "path": now.path,
            "text": clip("\n".join(shown)),
            "start_line": first,
            "end_line": first + len(shown) - 1,
            "total_lines": len(lines),
            "base_hash": now.hash,
            "unsaved": now.document is not None,
        },
    )


READ = ToolKind(
    Tool.READ,
    "Read a file of the workspace with line numbers. Unsaved text of an editor is included.",
    ReadArguments,
    effects,
    prepare,
)
