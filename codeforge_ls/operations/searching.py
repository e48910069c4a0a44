"""Operations that look: search, map, symbols, code, and the state of the index."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from codeforge_ls.actions.judge import Readable
from codeforge_ls.actions.repo_map import DRAWS
from codeforge_ls.actions.search import SearchArguments, ask_index
from codeforge_ls.index.picture import dot, svg
from codeforge_ls.model.actions import Tool
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.model.index import IndexStatus, Relation, SymbolAnswer
from codeforge_ls.operations.operation import Call, Nothing, Operation, through_gate


async def search(call: Call, arguments: SearchArguments) -> JsonObject:
    """Ranked hits. What an agent may not read is not shown to it."""
    if call.actor.is_person:
        return (await ask_index(call.workspace.index, arguments)).model_dump(mode="json")
    return (await through_gate(call, Tool.SEARCH, arguments.model_dump(mode="json"))).data


class MapQuery(Frozen):
    """How much of the map, and around what."""

    budget_tokens: int = Field(default=1024, ge=64, le=16_384)
    focus: tuple[str, ...] = Field(default=(), max_length=50)
    query: str = Field(default="", max_length=2000)
    format: Literal["text", "svg", "dot"] = Field(
        default="text", description="text with its entries, or a picture of the top of the graph"
    )
    files: int = Field(default=30, ge=2, le=100, description="Files in a picture")


async def repo_map(call: Call, arguments: MapQuery) -> JsonObject:
    """The repo map, or a picture of the top of the graph."""
    if arguments.format != "text":
        return await _picture(call, arguments)
    if call.actor.is_person:
        found = await call.workspace.index.repo_map(arguments.budget_tokens, arguments.focus, arguments.query)
        return found.model_dump(mode="json")
    wanted = arguments.model_dump(mode="json", include={"budget_tokens", "focus", "query"})
    return (await through_gate(call, Tool.REPO_MAP, wanted)).data


async def _picture(call: Call, arguments: MapQuery) -> JsonObject:
    """``{format, picture, files, edges, cut_files, index}``; for an agent, without what it may not read."""
    index, hidden = call.workspace.index, list[str]()
    for _ in range(DRAWS):
        drawn = await index.picture(arguments.files, arguments.focus, arguments.query, hidden)
        forbidden = [] if call.actor.is_person else _forbidden(call, [node.path for node in drawn.nodes])
        if not forbidden:
            break
        hidden += forbidden
    else:
        drawn = drawn.model_copy(update={"nodes": (), "edges": ()})
    picture = await asyncio.to_thread(svg if arguments.format == "svg" else dot, drawn)
    return {
        "format": arguments.format,
        "picture": picture,
        "files": len(drawn.nodes),
        "edges": len(drawn.edges),
        "cut_files": drawn.cut_files,
        "index": drawn.index.model_dump(mode="json"),
    }


def _forbidden(call: Call, paths: Sequence[str]) -> list[str]:
    readable = Readable(call.workspace.root, call.workspace.authority.layers(call.actor))
    return [path for path in paths if not readable(path)]


class CodeRange(Frozen):
    """Lines of a file, 1-based, the end included."""

    path: str = Field(min_length=1, max_length=4096)
    start_line: int = Field(default=1, ge=1)
    end_line: int | None = Field(default=None, ge=1)


async def read(call: Call, arguments: CodeRange) -> JsonObject:
    """Lines of a file as they are now, unsaved text included."""
    if arguments.end_line is not None and arguments.end_line < arguments.start_line:
        raise InvalidInput("end_line is before start_line.", data={"field": "end_line"})
    limit = min(10_000, arguments.end_line - arguments.start_line + 1) if arguments.end_line else 2000
    wanted: JsonObject = {"path": arguments.path, "offset": arguments.start_line, "limit": limit}
    return (await through_gate(call, Tool.READ, wanted)).data


class Position(Frozen):
    """A place in a file: 1-based line, 0-based UTF-16 column."""

    path: str = Field(min_length=1, max_length=4096)
    line: int = Field(ge=1)
    column: int = Field(default=0, ge=0)


class SymbolQuestion(Frozen):
    """A name or a position, and what to know of it."""

    name: str | None = Field(default=None, min_length=1, max_length=500)
    position: Position | None = None
    relation: Relation = "definition"


async def symbol_info(call: Call, arguments: SymbolQuestion) -> JsonObject:
    """Definitions, references or callers."""
    place, wanted = arguments.position, arguments.name
    if place is not None and wanted is None:
        found = await call.workspace.index.symbol_info(
            path=place.path, line=place.line, column=place.column, relation=arguments.relation
        )
    elif wanted is not None and place is None:
        found = await call.workspace.index.symbol_info(wanted, relation=arguments.relation)
    else:
        raise InvalidInput("Give either name or position.", data={"field": "name"})
    return _readable(call, found).model_dump(mode="json")


class SymbolFilter(Frozen):
    """Symbols by the beginning of their name, or all of a file."""

    name: str | None = Field(default=None, max_length=500)
    path: str | None = Field(default=None, max_length=4096)
    limit: int = Field(default=100, ge=1, le=2000)


async def symbol_find(call: Call, arguments: SymbolFilter) -> JsonObject:
    """Symbols for pickers and outlines."""
    found = await call.workspace.index.symbols(arguments.name, arguments.path, arguments.limit, prefix=True)
    return _readable(call, found).model_dump(mode="json")


def _readable(call: Call, found: SymbolAnswer) -> SymbolAnswer:
    if call.actor.is_person:
        return found
    readable = Readable(call.workspace.root, call.workspace.authority.layers(call.actor))
    return found.model_copy(
        update={
            "definitions": tuple(symbol for symbol in found.definitions if readable(symbol.path)),
            "references": tuple(use for use in found.references if readable(use.path)),
        }
    )


class Build(Frozen):
    """``force`` reads every file again."""

    force: bool = False


async def build(call: Call, arguments: Build) -> JsonObject:
    """Bring the index up to date and wait for it."""

    def on_progress(status: IndexStatus) -> None:
        call.progress(status.percent, f"{status.files} files, {status.files_per_second:.0f} files/s")

    status = await call.workspace.index.build(arguments.force, on_progress)
    return status.model_dump(mode="json")


async def status(call: Call, _arguments: Nothing) -> JsonObject:
    """How complete and fresh the index is."""
    return call.workspace.index.status().model_dump(mode="json")


class Page(Frozen):
    """How many."""

    limit: int = Field(default=200, ge=1, le=10_000)


async def skipped(call: Call, arguments: Page) -> JsonObject:
    """Files that are not in the index, and why."""
    found = await call.workspace.index.skipped(arguments.limit)
    return {"skipped": [file.model_dump(mode="json") for file in found]}


OPERATIONS = (
    Operation("search", "Find code", SearchArguments, search),
    Operation("repomap", "Draw the repo map", MapQuery, repo_map),
    Operation("code.read", "Read lines of a file", CodeRange, read),
    Operation("symbol.info", "Definition, references or callers of a symbol", SymbolQuestion, symbol_info),
    Operation("symbol.find", "List symbols by name or file", SymbolFilter, symbol_find),
    Operation("index.build", "Bring the index up to date", Build, build, changes=True),
    Operation("index.status", "State of the index", Nothing, status),
    Operation("index.skipped", "Files left out of the index", Page, skipped),
)
