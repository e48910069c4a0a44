"""Open documents: the port through which the gate reads unsaved text and edits what an editor holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class OpenDocument:
    """A file as an editor holds it now. ``path`` is workspace-relative; ``text`` may be unsaved."""

    path: str
    version: int
    text: str


class DocumentSource(Protocol):
    """One editor session."""

    def document(self, path: str) -> OpenDocument | None:
        """The open document of that path, or None."""
        ...

    def paths(self) -> Iterable[str]:
        """The workspace-relative paths of all open documents."""
        ...

    async def apply(self, path: str, version: int, new_text: str) -> bool:
        """Edit it by a versioned ``workspace/applyEdit`` and read it back. False: refused, stale or not verified."""
        ...

    async def save(self, path: str) -> bool:
        """Ask the editor to save it. False: it cannot be asked, or did not."""
        ...


class DocumentHub:
    """All editors of a workspace. The editor that attached last and has the file open is asked."""

    def __init__(self) -> None:
        self._sources: list[DocumentSource] = []

    def attach(self, source: DocumentSource) -> Callable[[], None]:
        """Add an editor; returns a function that detaches it."""
        self._sources.append(source)

        def detach() -> None:
            with contextlib.suppress(ValueError):
                self._sources.remove(source)

        return detach

    def find(self, path: str) -> tuple[DocumentSource, OpenDocument] | None:
        """The editor that has this file open, and the document; None when the disk is the truth."""
        for source in reversed(self._sources):
            if document := source.document(path):
                return source, document
        return None

    def texts(self) -> dict[str, str]:
        """All open documents by path."""
        found: dict[str, str] = {}
        for source in self._sources:
            for path in source.paths():
                if document := source.document(path):
                    found[path] = document.text
        return found
