"""Search: ranked code search over the whole repository."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.tool import Answer, CodeIndex, ToolContext, ToolKind, clip
from codeforge_ls.model.actions import AccessKind, Effects, PathEffect, Tool
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.index import Hit, SearchAnswer, SymbolKind


class SearchArguments(Frozen):
    """What to look for."""

    query: str = Field(min_length=1, max_length=2000, description="Words, identifiers or a question")
    limit: int = Field(default=10, ge=1, le=50)
    path_glob: str | None = Field(default=None, max_length=500, description="Only files that match")
    group_by: Literal["chunk", "file"] = Field(default="chunk", description="One hit per chunk or per file")
    language: str | None = Field(default=None, max_length=50, description="Only files of this language")
    kind: SymbolKind | None = Field(default=None, description="Only hits in such a definition")
    explain: bool = Field(default=False, description="Say of each hit why it is there")


def effects(_arguments: SearchArguments, _files: WorkspaceFiles) -> Effects:
    """It reads the index of the whole workspace."""
    return Effects(paths=(PathEffect(path=".", access=AccessKind.READ),))


async def ask_index(index: CodeIndex, arguments: SearchArguments) -> SearchAnswer:
    """What the index answers, whatever of it may be shown."""
    return await index.search(
        arguments.query,
        arguments.limit,
        arguments.path_glob,
        arguments.group_by,
        language=arguments.language,
        kind=arguments.kind,
        explain=arguments.explain,
    )


async def prepare(arguments: SearchArguments, context: ToolContext) -> Answer:
    """Search, and leave out what the policy does not let be read."""
    found = await ask_index(context.index, arguments)
    hits = tuple(hit for hit in found.hits if context.may_read(hit.path))
    allowed = found.model_copy(update={"hits": hits})
    state = "" if found.index.percent >= 100 else f"[index {found.index.percent:.0f} % complete]\n"
    return Answer(clip(state + "\n\n".join(map(show, hits)) or "No hits."), allowed.model_dump(mode="json"))


def show(hit: Hit) -> str:
    """One hit as ``path:start-end  symbol`` and its text."""
    return f"{hit.path}:{hit.start_line}-{hit.end_line}  {hit.symbol}\n{hit.text}".rstrip()


SEARCH = ToolKind(
    Tool.SEARCH,
    "Find code by words, names or meaning. Best first step: it knows the whole repository.",
    SearchArguments,
    effects,
    prepare,
)
