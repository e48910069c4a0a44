"""RepoMap: the most important files and definitions of the repository within a token budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from pydantic import Field

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.tool import Answer, CodeIndex, ToolContext, ToolKind
from codeforge_ls.model.actions import AccessKind, Effects, PathEffect, Tool
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.index import RepoMap

DRAWS = 8


class RepoMapArguments(Frozen):
    """How much, and around what."""

    budget_tokens: int = Field(default=1024, ge=64, le=16_384)
    focus: tuple[str, ...] = Field(default=(), max_length=50, description="Paths to rank higher")
    query: str = Field(default="", max_length=2000, description="Words to rank by")


def effects(_arguments: RepoMapArguments, _files: WorkspaceFiles) -> Effects:
    """It reads the index of the whole workspace."""
    return Effects(paths=(PathEffect(path=".", access=AccessKind.READ),))


async def prepare(arguments: RepoMapArguments, context: ToolContext) -> Answer:
    """Draw the map of what may be read."""
    found = await readable_map(
        context.index, context.may_read, arguments.budget_tokens, arguments.focus, arguments.query
    )
    return Answer(found.text or "The map is empty.", found.model_dump(mode="json"))


async def counted_map(
    draw: Callable[[int], Awaitable[RepoMap]], budget: int, count: Callable[[str], Awaitable[int | None]]
) -> RepoMap:
    """The largest map within ``budget`` tokens of a model, whose tokenizer ``count`` asks.

    The index estimates; where that is wrong the map is drawn again to a budget that makes up for it. Without an
    answer of the tokenizer the estimate counts.
    """
    estimated = budget
    while True:
        found = await draw(estimated)
        tokens = await count(found.text) if found.text else 0
        if tokens is None:
            return found if estimated == budget else await draw(budget)
        if tokens <= budget:
            return found.model_copy(update={"tokens": tokens, "budget": budget, "exact": True})
        estimated = max(1, min(estimated * 9 // 10, estimated * budget // tokens))


async def readable_map(
    index: CodeIndex, may_read: Callable[[str], bool], budget: int, focus: Sequence[str] = (), query: str = ""
) -> RepoMap:
    """A map without the files that the policy keeps from the reader: it shows lines of them.

    Drawn again without those that turned up, until none does; what is left after the last time is cut out.
    """
    hidden: list[str] = []
    for _ in range(DRAWS):
        found = await index.repo_map(budget, focus, query, hidden)
        forbidden = [path for path in _files_of(found.text) if not may_read(path)]
        if not forbidden:
            return found
        hidden += forbidden
    kept = tuple(entry for entry in found.entries if entry.path not in forbidden)
    return found.model_copy(update={"text": _without(found.text, set(forbidden)), "entries": kept})


def _files_of(text: str) -> list[str]:
    return [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]


def _without(text: str, paths: set[str]) -> str:
    kept, shown = [], True
    for line in text.splitlines():
        if not line.startswith(" "):
            shown = line.removesuffix(":") not in paths
        if shown:
            kept.append(line)
    return "\n".join(kept)


REPO_MAP = ToolKind(
    Tool.REPO_MAP,
    "Show the most important files and definitions of the repository.",
    RepoMapArguments,
    effects,
    prepare,
)
