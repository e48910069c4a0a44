"""A language server of plain pygls, to stand beside ours: one command that echoes, documents kept by pygls."""

from __future__ import annotations

from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

server = LanguageServer("plain-pygls", "1")


@server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
def changed(_params: types.DidChangeTextDocumentParams) -> None:
    """Nothing beyond what pygls does by itself."""


@server.command("echo")
def echo(*arguments: Any) -> Any:
    """The arguments."""
    return list(arguments)


if __name__ == "__main__":
    server.start_io()
