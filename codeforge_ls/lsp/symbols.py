"""``workspace/symbol`` and ``textDocument/documentSymbol`` from the index, for editors that have nothing better."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.index import Symbol, SymbolAnswer, SymbolKind

if TYPE_CHECKING:
    from pygls.lsp.server import LanguageServer

    from codeforge_ls.lsp.places import Places

LIMIT = 200  # symbols of one answer; pickers ask again with a longer name
OUTLINE_LIMIT = 2000
KINDS = {
    SymbolKind.FUNCTION: types.SymbolKind.Function,
    SymbolKind.METHOD: types.SymbolKind.Method,
    SymbolKind.CLASS: types.SymbolKind.Class,
    SymbolKind.INTERFACE: types.SymbolKind.Interface,
    SymbolKind.STRUCT: types.SymbolKind.Struct,
    SymbolKind.ENUM: types.SymbolKind.Enum,
    SymbolKind.TYPE: types.SymbolKind.Class,
    SymbolKind.MODULE: types.SymbolKind.Module,
    SymbolKind.CONSTANT: types.SymbolKind.Constant,
    SymbolKind.VARIABLE: types.SymbolKind.Variable,
    SymbolKind.FIELD: types.SymbolKind.Field,
    SymbolKind.MACRO: types.SymbolKind.Constant,
}

Find = Callable[[JsonObject], Awaitable[JsonObject]]


class SymbolFeatures:
    """Both providers. ``find`` is the operation ``symbol.find``; ``is_on`` the setting ``lsp.symbols``; ``nested``:
    the client takes outlines as trees."""

    def __init__(
        self, places: Places, find: Find, is_on: Callable[[], Awaitable[bool]], *, nested: bool = False
    ) -> None:
        self._places, self._find, self._is_on, self._nested = places, find, is_on, nested

    def offer_workspace(self, server: LanguageServer) -> None:
        """Register ``workspace/symbol``."""

        @server.feature(types.WORKSPACE_SYMBOL)
        async def workspace_symbol(params: types.WorkspaceSymbolParams) -> list[dict[str, Any]]:
            if not await self._is_on():
                return []
            wanted: JsonObject = {"name": params.query[:500] or None, "limit": LIMIT}
            found = SymbolAnswer.model_validate(await self._find(wanted))
            return [self._entry(symbol) for symbol in found.definitions]

    def serve_outline(self, server: LanguageServer) -> None:
        """Answer ``textDocument/documentSymbol``, also where it is not offered: the settings file may say ``on``
        after ``initialize`` was answered, and some clients cannot be told then."""

        @server.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
        async def document_symbol(params: types.DocumentSymbolParams) -> list[dict[str, Any]]:
            path = self._places.relative(params.text_document.uri)
            if path is None or not await self._is_on():
                return []
            found = SymbolAnswer.model_validate(await self._find({"path": path, "limit": OUTLINE_LIMIT}))
            if self._nested:
                return nest(found.definitions)
            return [self._entry(symbol) for symbol in found.definitions]

    def _entry(self, symbol: Symbol) -> dict[str, Any]:
        """A ``SymbolInformation`` as a plain dict: for thousands of them an object each would cost the loop."""
        line, column = symbol.name_line - 1, symbol.name_column
        start = {"line": line, "character": column}
        end = {"line": line, "character": column + len(symbol.name)}
        return {
            "name": symbol.name,
            "kind": KINDS[symbol.kind].value,
            "containerName": symbol.scope or symbol.path,
            "location": {"uri": self._places.uri(symbol.path), "range": {"start": start, "end": end}},
        }


def nest(symbols: Sequence[Symbol]) -> list[dict[str, Any]]:
    """An outline as a tree of ``DocumentSymbol``: each definition below the innermost one that has all its lines."""
    top: list[dict[str, Any]] = []
    around: list[tuple[Symbol, list[dict[str, Any]]]] = []
    for symbol in symbols:
        while around and not _holds(around[-1][0], symbol):
            around.pop()
        line, column = symbol.name_line - 1, symbol.name_column
        entry: dict[str, Any] = {
            "name": symbol.name,
            "kind": KINDS[symbol.kind].value,
            "detail": symbol.signature,
            "range": {
                "start": {"line": symbol.start_line - 1, "character": 0},
                "end": {"line": symbol.end_line, "character": 0},
            },
            "selectionRange": {
                "start": {"line": line, "character": column},
                "end": {"line": line, "character": column + len(symbol.name)},
            },
            "children": [],
        }
        (around[-1][1] if around else top).append(entry)
        around.append((symbol, entry["children"]))
    return top


def _holds(outer: Symbol, inner: Symbol) -> bool:
    """Whether ``inner`` lies in ``outer``; of two on the same lines the scope decides."""
    if not (outer.start_line <= inner.start_line and inner.end_line <= outer.end_line):
        return False
    same = (outer.start_line, outer.end_line) == (inner.start_line, inner.end_line)
    return not same or inner.scope.split(".")[-1] == outer.name
