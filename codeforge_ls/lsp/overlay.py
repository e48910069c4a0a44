"""The documents that this editor has open, by URI and by path, and who wants to know when one changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from enum import Enum, auto
from urllib.parse import unquote

from lsprotocol import types

from codeforge_ls.lsp.documents import Document, Encoding, OutOfStep, sanitised, split_lines
from codeforge_ls.lsp.places import Places, file_path
from codeforge_ls.model.base import JsonObject

log = logging.getLogger(__name__)


class Happened(Enum):
    """What happened to a document."""

    OPENED = auto()
    CHANGED = auto()
    CLOSED = auto()


Listener = Callable[[Document, Happened], None]


class Overlay:
    """The open documents of one session. ``warn`` tells the editor's log what went out of step."""

    def __init__(self, places: Places, encoding: Encoding, warn: Callable[[str], None]) -> None:
        self.places, self.encoding, self._warn = places, encoding, warn
        self._documents: dict[str, Document] = {}
        self._by_path: dict[str, Document] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Be told of every opening, change and closing; returns a function that ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def __iter__(self) -> Iterator[Document]:
        return iter(list(self._documents.values()))

    def at(self, path: str) -> Document | None:
        """The open document of a workspace-relative path."""
        return self._by_path.get(path)

    def named(self, uri: str) -> Document | None:
        """The open document of a URI, in the workspace or not."""
        return self._documents.get(_key(uri))

    def paths(self) -> list[str]:
        """The workspace-relative paths of all open documents."""
        return list(self._by_path)

    def open(self, item: types.TextDocumentItem) -> None:
        """``didOpen``; a second one for the same document replaces it."""
        document = Document(
            uri=item.uri,
            path=self.places.relative(item.uri),
            language=item.language_id,
            version=item.version,
            encoding=self.encoding,
            lines=split_lines(sanitised(item.text)),
        )
        self._documents[_key(item.uri)] = document
        if document.path is not None:
            self._by_path[document.path] = document
        self._tell(document, Happened.OPENED)

    def change(self, params: JsonObject) -> None:
        """``didChange``, as it came off the wire."""
        named = params.get("textDocument")
        uri = named.get("uri") if isinstance(named, dict) else None
        document = self._documents.get(_key(uri)) if isinstance(uri, str) else None
        if document is None or not isinstance(named, dict):
            log.warning("a change of a document that is not open: %.200r", uri)
            return
        try:
            document.change(named.get("version"), params.get("contentChanges"))
        except OutOfStep as error:
            self._warn(
                f"{document.uri} is out of step with the editor ({error}). "
                "CodeForge does not edit it until it is closed and opened again."
            )
        self._tell(document, Happened.CHANGED)

    def close(self, uri: str) -> None:
        """``didClose``."""
        document = self._documents.pop(_key(uri), None)
        if document is None:
            log.warning("a document was closed that is not open: %.200r", uri)
            return
        if document.path is not None and self._by_path.get(document.path) is document:
            del self._by_path[document.path]
        self._tell(document, Happened.CLOSED)

    def _tell(self, document: Document, happened: Happened) -> None:
        for listener in list(self._listeners):
            listener(document, happened)


def _key(uri: str) -> str:
    """One key for all spellings of a URI: the path for files, else the URI without percent signs."""
    return file_path(uri) or unquote(uri)
