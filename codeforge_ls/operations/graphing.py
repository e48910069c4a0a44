"""Operations over the code graph: walks, owners, the call hierarchy, and why a file is in the index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from codeforge_ls.actions.judge import Readable
from codeforge_ls.index.graph_questions import WALKED
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.errors import Denied
from codeforge_ls.model.index import CallAnswer, EdgeKind, GraphAnswer
from codeforge_ls.operations.operation import Call, Operation

SPARE = 5  # so many times the nodes asked for are fetched for an agent: some may not be shown to it


class GraphQuery(Frozen):
    """Where the walk begins (the hits of a query, a symbol, a path, or a symbol of a path) and how far it goes."""

    query: str | None = Field(default=None, min_length=1, max_length=2000)
    symbol: str | None = Field(default=None, min_length=1, max_length=500)
    path: str | None = Field(default=None, min_length=1, max_length=4096)
    edges: tuple[EdgeKind, ...] = WALKED
    hops: int | None = Field(default=None, ge=1, le=4, description="Else the setting search.walk_hops")
    limit: int = Field(default=10, ge=1, le=40)
    most: int | None = Field(
        default=None, ge=1, le=2000, description="Nodes visited; else the setting search.walk_nodes"
    )


async def graph_search(call: Call, arguments: GraphQuery) -> JsonObject:
    """Definitions and files that the graph leads to; for an agent none that it may not read, nor a way over such."""
    person, settings = call.actor.is_person, call.workspace.settings.search
    found = await call.workspace.index.graph_search(
        arguments.query,
        symbol=arguments.symbol,
        path=arguments.path,
        edges=arguments.edges,
        hops=arguments.hops or settings.walk_hops,
        limit=arguments.limit if person else arguments.limit * SPARE,
        most=arguments.most or settings.walk_nodes,
    )
    if not person:
        found = _readable(call, found, arguments.limit)
    return found.model_dump(mode="json")


def _readable(call: Call, found: GraphAnswer, limit: int) -> GraphAnswer:
    may_read = _reader(call)

    def readable(name: str) -> bool:
        return may_read(name.partition("::")[0])

    nodes = [
        node
        for node in found.nodes
        if readable(node.path) and all(readable(step.source) and readable(step.target) for step in node.why)
    ]
    start = tuple(name for name in found.start if readable(name))
    return found.model_copy(update={"nodes": tuple(nodes[:limit]), "start": start})


def _reader(call: Call) -> Callable[[str], bool]:
    """Whether whoever asks may read a path; a person may."""
    if call.actor.is_person:
        return lambda _path: True
    return Readable(call.workspace.root, call.workspace.authority.layers(call.actor))


class OnePath(Frozen):
    """A file of the workspace."""

    path: str = Field(min_length=1, max_length=4096)


async def owners(call: Call, arguments: OnePath) -> JsonObject:
    """Who owns a file and who changed it most."""
    _must_read(call, arguments.path)
    return (await call.workspace.index.owners(arguments.path)).model_dump(mode="json")


class CallQuestion(Frozen):
    """A position (1-based line, 0-based UTF-16 column), and which calls are asked for."""

    path: str = Field(min_length=1, max_length=4096)
    line: int = Field(ge=1)
    column: int = Field(default=0, ge=0)
    direction: Literal["none", "incoming", "outgoing"] = "none"


async def calls(call: Call, arguments: CallQuestion) -> JsonObject:
    """The definition at a position, who calls it, or whom it calls."""
    found = await call.workspace.index.calls(
        arguments.path, arguments.line, arguments.column, arguments.direction
    )
    return _readable_calls(call, found).model_dump(mode="json")


def _readable_calls(call: Call, found: CallAnswer) -> CallAnswer:
    if call.actor.is_person:
        return found
    readable = _reader(call)
    symbol = found.symbol if found.symbol and readable(found.symbol.path) else None
    sites = tuple(
        site
        for site in found.calls
        if readable(site.symbol.path) and all(readable(place.path) for place in site.places)
    )
    return found.model_copy(update={"symbol": symbol, "calls": sites if symbol else ()})


async def explain(call: Call, arguments: OnePath) -> JsonObject:
    """Why a file is, or is not, in the index."""
    _must_read(call, arguments.path)
    return (await call.workspace.index.explain(arguments.path)).model_dump(mode="json")


def _must_read(call: Call, path: str) -> None:
    if not _reader(call)(path):
        raise Denied(
            f"{path} may not be read.", hint="`codeforge policy explain` says which rule forbids it."
        )


OPERATIONS = (
    Operation("graph.search", "Walk the code graph from hits, a symbol or a file", GraphQuery, graph_search),
    Operation("graph.owners", "Who answers for a file", OnePath, owners),
    Operation("symbol.calls", "Who calls a definition, or whom it calls", CallQuestion, calls),
    Operation("index.explain", "Why a file is, or is not, in the index", OnePath, explain),
)
