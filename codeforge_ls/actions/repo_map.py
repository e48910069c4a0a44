"""RepoMap: the most important files and definitions of the repository within a token budget."""

from __future__ import annotations

from pydantic import Field

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.tool import Answer, ToolContext, ToolKind
from codeforge_ls.model.actions import AccessKind, Effects, PathEffect, Tool
from codeforge_ls.model.base import Frozen


class RepoMapArguments(Frozen):
    """How much, and around what."""

    budget_tokens: int = Field(default=1024, ge=64, le=16_384)
    focus: tuple[str, ...] = Field(default=(), max_length=50, description="Paths to rank higher")
    query: str = Field(default="", max_length=2000, description="Words to rank by")


def effects(_arguments: RepoMapArguments, _files: WorkspaceFiles) -> Effects:
    """It reads the index of the whole workspace."""
    return Effects(paths=(PathEffect(path=".", access=AccessKind.READ),))


async def prepare(arguments: RepoMapArguments, context: ToolContext) -> Answer:
    """Draw the map."""
    found = await context.index.repo_map(arguments.budget_tokens, arguments.focus, arguments.query)
    return Answer(found.text or "The map is empty.", found.model_dump(mode="json"))


REPO_MAP = ToolKind(
    Tool.REPO_MAP,
    "Show the most important files and definitions of the repository.",
    RepoMapArguments,
    effects,
    prepare,
)
