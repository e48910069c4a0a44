"""``workspace/symbol`` and ``textDocument/documentSymbol`` from the index, for editors that have nothing better."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
    """Both providers. ``find`` is the operation ``symbol.find``; ``is_on`` the setting ``lsp.symbols``."""

    def __init__(self, places: Places, find: Find, is_on: Callable[[], Awaitable[bool]]) -> None:
        self._places, self._find, self._is_on = places, find, is_on

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
