"""What the daemon knows to have changed and the index does not have yet: unsaved texts, closings, paths."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import InvalidInput


@dataclass
class Changes:
    """Changes by path; the latest of each path counts."""

    texts: dict[str, str] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.texts or self.closed or self.paths)

    def __len__(self) -> int:
        return len(self.texts.keys() | self.closed | self.paths)

    def write(self, path: str, text: str) -> None:
        """A document has unsaved text."""
        self.texts[path] = text
        self.closed.discard(path)

    def close(self, path: str) -> None:
        """A document was closed: what is on disk counts."""
        self.texts.pop(path, None)
        self.closed.add(path)
        self.paths.add(path)

    def touch(self, paths: Iterable[str]) -> None:
        """Files were made, changed or deleted."""
        self.paths.update(paths)

    def add_older(self, other: Changes) -> None:
        """Take back changes that could not be delivered; what came meanwhile is newer."""
        for path, text in other.texts.items():
            if path not in self.closed:
                self.texts.setdefault(path, text)
        self.closed |= other.closed - self.texts.keys()
        self.paths |= other.paths

    def message(self) -> JsonObject:
        """For the index worker's ``change``."""
        return {"overlays": {**self.texts}, "closed": [*sorted(self.closed)], "paths": [*sorted(self.paths)]}


def relative_path(root: Path, path: str) -> str | None:
    """The path below ``root`` with ``/``; None when it is outside. Raises ``InvalidInput`` for what is no path."""
    if not isinstance(path, str) or "\0" in path or lone_surrogate(path):
        raise InvalidInput(f"Not a usable path: {path!r:.200}", data={"field": "path"})
    full = os.path.normpath(os.path.join(root, path))  # noqa: PTH118 - lexical, nothing is followed
    if full == str(root):
        return ""
    return os.path.relpath(full, root) if full.startswith(f"{str(root).rstrip('/')}/") else None


def lone_surrogate(text: str) -> bool:
    """Whether a text cannot be written as UTF-8: JSON can carry such, SQLite and files cannot."""
    return any("\ud800" <= character <= "\udfff" for character in text)
