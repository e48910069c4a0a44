"""What the code graph is asked for: symbols, calls, walks, owners, and a picture of its top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from codeforge_ls.index.asking import (
    MAX_LIMIT,
    MAX_NAME,
    MAX_QUERY,
    MAX_SYMBOLS,
    Asking,
    items,
    only,
    text,
    within,
)
from codeforge_ls.index.changes import relative_path
from codeforge_ls.index.owners import Owners
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.model.index import (
    CallAnswer,
    EdgeKind,
    FileOwners,
    GraphAnswer,
    GraphPicture,
    Reference,
    Relation,
    Symbol,
    SymbolAnswer,
)

# What a walk follows unless it is told; owners cost a call of git.
WALKED = (EdgeKind.CALL, EdgeKind.IMPORT, EdgeKind.INHERIT, EdgeKind.TEST, EdgeKind.PAIR)


class GraphQuestions:
    """The questions about the graph of one workspace; part of ``Index``, which says how paths are given."""

    def __init__(self, root: Path, asking: Asking) -> None:
        self._root, self._asking = root, asking
        self._owners = Owners(root)

    async def picture(
        self, files: int = 30, focus: Sequence[str] = (), query: str = "", exclude: Sequence[str] = ()
    ) -> GraphPicture:
        """The top of the file graph: at most ``files`` files, as the map ranks them, and the edges between them."""
        near = [relative_path(self._root, path) for path in focus]
        params: JsonObject = {
            "files": within("files", files, 2, 200),
            "focus": [path for path in near if path],
            "open": [*sorted(self._asking.feed.open)],
            "query": text("query", query, MAX_QUERY) if query else "",
            "exclude": list(exclude),
        }
        raw = await self._asking.ask("picture", params)
        return GraphPicture.model_validate({**only(raw, GraphPicture), "index": self._asking.condition(raw)})

    async def graph_search(
        self,
        query: str | None = None,
        *,
        symbol: str | None = None,
        path: str | None = None,
        edges: Sequence[EdgeKind] = WALKED,
        hops: int = 2,
        limit: int = 10,
        most: int = 200,
    ) -> GraphAnswer:
        """What is reached from the hits of a query, from a symbol (of a path), or from a path.

        Each hop, at most ``hops`` (1 to 4), keeps 0.7 of the score; at most ``most`` nodes are visited. Raises
        ``NotFound`` and ``InvalidInput``; ``Unavailable`` when owners are asked for and git cannot tell.
        """
        inside = relative_path(self._root, path) if path else None
        if path and not inside:
            raise InvalidInput(f"{path} is outside the workspace.", data={"field": "path"})
        if not (query or symbol or path):
            raise InvalidInput("A query, a symbol or a path is needed.", data={"field": "query"})
        params: JsonObject = {
            "query": text("query", query, MAX_QUERY) if query else "",
            "symbol": text("symbol", symbol, MAX_NAME) if symbol else "",
            "path": inside,
            "edges": [EdgeKind(kind).value for kind in edges],
            "hops": within("hops", hops, 1, 4),
            "limit": within("limit", limit, 1, MAX_LIMIT),
            "most": within("most", most, 1, 2_000),
        }
        if EdgeKind.OWNER in edges:
            params["owners_key"] = await self._owners.key()
        raw = await self._asking.ask("walk", params)
        if raw.get("needs_owners"):
            table = await self._owners.table()
            await self._asking.reader.call(
                "owners", {"key": params["owners_key"], "owners": table}, repeat=True
            )
            raw = await self._asking.ask("walk", params)
        return GraphAnswer.model_validate({**only(raw, GraphAnswer), "index": self._asking.condition(raw)})

    async def owners(self, path: str) -> FileOwners:
        """Who owns a file by CODEOWNERS, and who changed it most lately. Costs one call of git a commit."""
        inside = relative_path(self._root, path)
        if not inside:
            raise InvalidInput(f"{path} is outside the workspace.", data={"field": "path"})
        return await self._owners.of(inside)

    async def calls(
        self,
        path: str,
        line: int,
        column: int,
        direction: Literal["none", "incoming", "outgoing"] = "none",
        limit: int = 200,
    ) -> CallAnswer:
        """The definition at a position (line 1-based, column 0-based UTF-16), or the one that the name there means;
        and who calls it or whom it calls. Raises ``NotFound``."""
        inside = relative_path(self._root, path)
        if not inside:
            raise InvalidInput(f"{path} is outside the workspace.", data={"field": "path"})
        params: JsonObject = {
            "path": inside,
            "line": within("line", line, 1, 10_000_000),
            "column": within("column", column, 0, 10_000_000),
            "direction": direction,
            "limit": within("limit", limit, 1, MAX_SYMBOLS),
        }
        raw = await self._asking.ask("calls", params)
        return CallAnswer.model_validate({**only(raw, CallAnswer), "index": self._asking.condition(raw)})

    async def symbols(
        self, name: str | None = None, path: str | None = None, limit: int = 100, prefix: bool = False
    ) -> SymbolAnswer:
        """Definitions called ``name`` (``prefix``: that start with it, contain it, or have its letters in order),
        or the outline of ``path``.

        Raises ``NotFound`` for a path that is not indexed, ``Unavailable`` before the index exists.
        """
        if not name and not path:
            raise InvalidInput("A name or a path is needed.", data={"field": "name"})
        inside = relative_path(self._root, path) if path else None
        if path and not inside:
            raise InvalidInput(f"{path} is outside the workspace.", data={"field": "path"})
        params: JsonObject = {
            "name": text("name", name, MAX_NAME) if name else None,
            "path": inside,
            "limit": within("limit", limit, 1, MAX_SYMBOLS),
            "prefix": prefix,
        }
        return self._symbol_answer(await self._asking.ask("symbols", params))

    async def symbol_info(
        self,
        name: str | None = None,
        *,
        path: str | None = None,
        line: int | None = None,
        column: int | None = None,
        relation: Relation = "definition",
        limit: int = 100,
    ) -> SymbolAnswer:
        """What a name, or the name at a position (line 1-based, column 0-based UTF-16), means and who uses it.

        ``references`` adds all uses of the name; ``callers`` gives the calls as references and the functions they
        are in as definitions; the others give as definitions what it calls (``callees``), what extends it
        (``implementations``), or all that is one edge away (``neighbours``). Uses are found by name, not by binding.
        Raises ``NotFound``, ``InvalidInput``.
        """
        if relation not in get_args(Relation):
            raise InvalidInput(
                f"relation is one of {', '.join(get_args(Relation))}.", data={"field": "relation"}
            )
        inside = relative_path(self._root, path) if path else None
        if not name and (inside is None or line is None or column is None):
            raise InvalidInput("A name, or path, line and column, are needed.", data={"field": "name"})
        params: JsonObject = {
            "name": text("name", name, MAX_NAME) if name else "",
            "path": inside,
            "line": within("line", line or 1, 1, 10_000_000),
            "column": within("column", column or 0, 0, 10_000_000),
            "relation": relation,
            "limit": within("limit", limit, 1, MAX_SYMBOLS),
        }
        return self._symbol_answer(await self._asking.ask("symbol_info", params))

    def _symbol_answer(self, raw: JsonObject) -> SymbolAnswer:
        return SymbolAnswer(
            definitions=tuple(Symbol.model_validate(one) for one in items(raw, "definitions")),
            references=tuple(Reference.model_validate(one) for one in items(raw, "references")),
            index=self._asking.condition(raw),
        )
