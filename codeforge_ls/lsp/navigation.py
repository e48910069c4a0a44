"""Definition, references and the call hierarchy from the index, for files that no other language server serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from codeforge_ls.lsp.symbols import KINDS
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import NotFound
from codeforge_ls.model.index import CallAnswer, CallSite, Reference, Symbol, SymbolAnswer

if TYPE_CHECKING:
    from pygls.lsp.server import LanguageServer

    from codeforge_ls.lsp.places import Places

MANY = 100  # definitions of a name that could not be told apart

At = types.DefinitionParams | types.ReferenceParams | types.CallHierarchyPrepareParams
Ask = Callable[[str, JsonObject], Awaitable[JsonObject]]


class Navigation:
    """The providers. ``ask`` runs an operation; ``is_on`` is the setting ``lsp.symbols``."""

    def __init__(self, places: Places, ask: Ask, is_on: Callable[[], Awaitable[bool]]) -> None:
        self._places, self._ask, self._is_on = places, ask, is_on

    def serve(self, server: LanguageServer) -> None:
        """Answer the requests, also where they are not offered: see ``SymbolFeatures.serve_outline``."""

        @server.feature(types.TEXT_DOCUMENT_DEFINITION)
        async def definition(params: types.DefinitionParams) -> list[dict[str, Any]]:
            return [self._location(symbol) for symbol in await self._definitions(params)]

        @server.feature(types.TEXT_DOCUMENT_REFERENCES)
        async def references(params: types.ReferenceParams) -> list[dict[str, Any]]:
            wanted = await self._position(params)
            if wanted is None:
                return []
            found = await self._about({"position": wanted, "relation": "references"})
            named = found.definitions if found and params.context.include_declaration else ()
            uses = [self._use(use) for use in found.references] if found else []
            return [*(self._location(symbol) for symbol in named), *uses]

        @server.feature(types.TEXT_DOCUMENT_PREPARE_CALL_HIERARCHY)
        async def prepare(params: types.CallHierarchyPrepareParams) -> list[dict[str, Any]]:
            found = await self._calls(await self._position(params), "none")
            return [self._item(found.symbol)] if found and found.symbol else []

        @server.feature(types.CALL_HIERARCHY_INCOMING_CALLS)
        async def incoming(params: types.CallHierarchyIncomingCallsParams) -> list[dict[str, Any]]:
            found = await self._calls(await self._item_position(params.item), "incoming")
            return [{"from": self._item(one.symbol), "fromRanges": _ranges(one)} for one in _sites(found)]

        @server.feature(types.CALL_HIERARCHY_OUTGOING_CALLS)
        async def outgoing(params: types.CallHierarchyOutgoingCallsParams) -> list[dict[str, Any]]:
            found = await self._calls(await self._item_position(params.item), "outgoing")
            return [{"to": self._item(one.symbol), "fromRanges": _ranges(one)} for one in _sites(found)]

    # -- questions to the index

    async def _position(self, params: At) -> JsonObject | None:
        return await self._at(params.text_document.uri, params.position)

    async def _item_position(self, item: types.CallHierarchyItem) -> JsonObject | None:
        return await self._at(item.uri, item.selection_range.start)

    async def _at(self, uri: str, position: types.Position) -> JsonObject | None:
        path = self._places.relative(uri)
        if path is None or not await self._is_on():
            return None
        return {"path": path, "line": position.line + 1, "column": position.character}

    async def _definitions(self, params: types.DefinitionParams) -> tuple[Symbol, ...]:
        """The nearest definition, or all of that name when none is nearer than the others."""
        wanted = await self._position(params)
        nearest = await self._calls(wanted, "none")
        if nearest and nearest.symbol:
            return (nearest.symbol,)
        found = await self._about({"position": wanted, "relation": "definition"}) if wanted else None
        return found.definitions[:MANY] if found else ()

    async def _about(self, question: JsonObject) -> SymbolAnswer | None:
        try:
            return SymbolAnswer.model_validate(await self._ask("symbol.info", question))
        except NotFound:
            return None

    async def _calls(self, position: JsonObject | None, direction: str) -> CallAnswer | None:
        if position is None:
            return None
        question: dict[str, JsonValue] = {**position, "direction": direction}
        try:
            return CallAnswer.model_validate(await self._ask("symbol.calls", question))
        except NotFound:
            return None

    # -- answers as plain dicts: there may be thousands

    def _location(self, symbol: Symbol) -> dict[str, Any]:
        return {"uri": self._places.uri(symbol.path), "range": _name_range(symbol)}

    def _use(self, use: Reference) -> dict[str, Any]:
        return {"uri": self._places.uri(use.path), "range": _use_range(use)}

    def _item(self, symbol: Symbol) -> dict[str, Any]:
        return {
            "name": symbol.name,
            "kind": KINDS[symbol.kind].value,
            "detail": symbol.scope or symbol.path,
            "uri": self._places.uri(symbol.path),
            "range": whole_range(symbol),
            "selectionRange": _name_range(symbol),
        }


def whole_range(symbol: Symbol) -> dict[str, Any]:
    """All lines of a definition, from its first column to the beginning of the line after."""
    return {
        "start": {"line": symbol.start_line - 1, "character": 0},
        "end": {"line": symbol.end_line, "character": 0},
    }


def _sites(found: CallAnswer | None) -> tuple[CallSite, ...]:
    return found.calls if found else ()


def _ranges(site: CallSite) -> list[dict[str, Any]]:
    return [_use_range(place) for place in site.places]


def _name_range(symbol: Symbol) -> dict[str, Any]:
    return _range(symbol.name_line, symbol.name_column, symbol.name)


def _use_range(use: Reference) -> dict[str, Any]:
    return _range(use.line, use.column, use.name)


def _range(line: int, column: int, name: str) -> dict[str, Any]:
    width = len(name.encode("utf-16-le", "surrogatepass")) // 2
    return {
        "start": {"line": line - 1, "character": column},
        "end": {"line": line - 1, "character": column + width},
    }
