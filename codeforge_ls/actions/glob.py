"""Glob: paths of files by pattern; ignored and protected files are not listed."""

from __future__ import annotations

from pathspec import GitIgnoreSpec
from pydantic import Field

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.tool import Answer, ToolContext, ToolKind
from codeforge_ls.model.actions import AccessKind, Effects, PathEffect, Tool
from codeforge_ls.model.base import Frozen

MOST = 500


class GlobArguments(Frozen):
    """Which paths."""

    pattern: str = Field(min_length=1, max_length=500, description="Glob such as src/**/*.py")


def effects(_arguments: GlobArguments, _files: WorkspaceFiles) -> Effects:
    """It reads names below the root."""
    return Effects(paths=(PathEffect(path=".", access=AccessKind.READ),))


async def prepare(arguments: GlobArguments, context: ToolContext) -> Answer:
    """List the files that match and may be read."""
    spec = GitIgnoreSpec.from_lines([arguments.pattern])
    found = [path for path in spec.match_files(await context.list_files()) if context.may_read(path)]
    found.sort()
    more = f"\n[{len(found) - MOST} more; narrow the pattern]" if len(found) > MOST else ""
    return Answer(
        "\n".join(found[:MOST]) + more or "No file matches.",
        {"paths": list(found[:MOST]), "total": len(found)},
    )


GLOB = ToolKind(Tool.GLOB, "List files by glob pattern (gitignore syntax).", GlobArguments, effects, prepare)
