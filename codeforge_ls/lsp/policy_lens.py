"""The lens over each rule of a policy file, and what it does: try the rule out and show what the policy says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from codeforge_ls.lsp.errors import INVALID_PARAMS, Refusal
from codeforge_ls.lsp.places import file_path
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.policy import PolicyScope

if TYPE_CHECKING:
    from pygls.lsp.server import LanguageServer

    from codeforge_ls.lsp.overlay import Overlay
    from codeforge_ls.lsp.protocol import SessionProtocol
    from codeforge_ls.policy.library import PolicyLibrary

TRY = "policy.try"
COMMAND = f"codeforge.{TRY}"
MAX_SHOWN = 2000  # characters of a message; the whole is in the answer

Policies = Callable[[], Awaitable["PolicyLibrary"]]


class PolicyLens:
    """``textDocument/codeLens`` in files of a policy folder, from the text that the editor shows.

    The lens carries ``codeforge.policy.try`` with the URI of the file and the index of the rule. A client that wants to
    ask for a command or a path first adds it as ``input``; without one the rule's own examples are tried.
    """

    def __init__(self, protocol: SessionProtocol, overlay: Overlay, policies: Policies) -> None:
        self._protocol, self._overlay, self._policies = protocol, overlay, policies

    def serve(self, server: LanguageServer) -> None:
        """Register the request."""

        @server.feature(types.TEXT_DOCUMENT_CODE_LENS, types.CodeLensOptions(resolve_provider=False))
        async def code_lens(params: types.CodeLensParams) -> list[dict[str, Any]]:
            uri = params.text_document.uri
            if not uri.endswith((".yaml", ".yml")) or await self._scope(uri) is None:
                return []
            text = await self._text(uri)
            lines = await asyncio.to_thread(_rule_lines, text) if text is not None else []
            return [_lens(uri, index, line) for index, line in enumerate(lines)]

    async def with_text(self, argument: JsonValue) -> JsonValue:
        """The argument of ``policy.try`` with the file's text in place of its URI. One that has none is left alone."""
        if not isinstance(argument, dict) or not isinstance(uri := argument.get("uri"), str):
            return argument
        if await self._scope(uri) is None or (text := await self._text(uri)) is None:
            raise Refusal(INVALID_PARAMS, f"{uri[:300]} is no policy file that can be read", {"field": "uri"})
        rest = {name: value for name, value in argument.items() if name != "uri"}
        return {**rest, "yaml": text, "file": str(self._path(uri))}

    def show(self, trial: JsonObject) -> None:
        """Tell the person what came of it, in whatever way their editor shows messages."""
        tried = trial.get("tried")
        fine = isinstance(tried, list) and all(
            isinstance(one, dict) and one["wanted"] in (None, one["decides"]) for one in tried
        )
        kind = types.MessageType.Info if fine and tried else types.MessageType.Warning
        params: JsonObject = {"type": kind.value, "message": str(trial.get("text"))[:MAX_SHOWN]}
        self._protocol.notify(types.WINDOW_SHOW_MESSAGE, params)

    def _path(self, uri: str) -> Path | None:
        """The file, spelled from the real root where it lies below it."""
        inside = self._overlay.places.relative(uri)
        if inside is not None:
            return self._overlay.places.root / inside
        return Path(found) if (found := file_path(uri)) else None

    async def _scope(self, uri: str) -> PolicyScope | None:
        path = self._path(uri)
        return None if path is None else (await self._policies()).scope_of(path)

    async def _text(self, uri: str) -> str | None:
        """What the editor shows of it, else what the disk holds; None for what is no policy text."""
        from codeforge_ls.policy.loader import Broken, read_text

        if (document := self._overlay.named(uri)) is not None:
            return document.text
        path = self._path(uri)
        try:
            return await asyncio.to_thread(read_text, path) if path is not None else None
        except Broken:
            return None


def _rule_lines(text: str) -> list[int]:
    """The line of each rule, from 1; none where the text is no profile now, which a diagnostic says."""
    from codeforge_ls.policy.loader import MAX_BYTES, Broken, parse_layer

    if len(text) > MAX_BYTES:
        return []
    try:
        return list(parse_layer(text, PolicyScope.USER, "").rule_lines)
    except Broken:
        return []


def _lens(uri: str, index: int, line: int) -> dict[str, Any]:
    start = {"line": max(0, line - 1), "character": 0}
    return {
        "range": {"start": start, "end": start},
        "command": {"title": "Evaluate", "command": COMMAND, "arguments": [{"uri": uri, "rule": index}]},
    }
