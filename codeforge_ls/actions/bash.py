"""Bash: run a command in the workspace, sandboxed as the policy says."""

from __future__ import annotations

from pydantic import Field

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.tool import CommandLine, ToolContext, ToolKind
from codeforge_ls.model.actions import Effects, Tool
from codeforge_ls.model.base import Frozen

MAX_TIMEOUT = 86_400.0  # seconds


class BashArguments(Frozen):
    """The command, run from the root of the workspace."""

    command: str = Field(min_length=1, max_length=8192, description="Shell command line")
    timeout_seconds: float | None = Field(
        default=None, gt=0, le=MAX_TIMEOUT, description="Else the configured limit"
    )
    description: str = Field(default="", max_length=500, description="What it is for, in a few words")


def effects(arguments: BashArguments, _files: WorkspaceFiles) -> Effects:
    """It runs that command; what the command reads and writes is the policy's to find out."""
    return Effects(command=arguments.command)


async def prepare(arguments: BashArguments, _context: ToolContext) -> CommandLine:
    """Nothing to look at: the command says it all."""
    return CommandLine(arguments.command, arguments.timeout_seconds)


BASH = ToolKind(
    Tool.BASH,
    "Run a command in the root of the workspace. No state is kept between calls.",
    BashArguments,
    effects,
    prepare,
)
