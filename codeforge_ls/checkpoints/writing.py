"""What a snapshot is written through: the first one makes its pack itself (``packing``), all others ask git
(``importing``)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

FOLDER, FILE = "040000", "100644"


class Tree(Protocol):
    """A tree on its way; begun by its first change."""

    def put(self, path: bytes, mode: str, content: bytes) -> None:
        """A file or link; parents of ``path`` that are files give way."""
        ...

    def delete(self, path: bytes) -> None:
        """Nothing at this path any more. Before what is put below it."""
        ...

    def holds(self, path: bytes) -> bool:
        """Whether there is something at this path."""
        ...

    def end(self) -> str:
        """The name of the tree as it is now."""
        ...


class Writer(Protocol):
    """Writes into the shadow repository. What it was told can be read after ``finish``."""

    def tree(self, reference: str, base: str) -> Tree:
        """A tree that starts as ``base``; ``reference`` keeps what it becomes from being pruned. One at a time."""
        ...

    def commit(
        self, reference: str, parent: str, trees: Mapping[str, str], files: Mapping[str, bytes], message: str
    ) -> str:
        """Move ``reference`` from ``parent`` to a new commit of trees and files by name; returns the commit."""
        ...

    def finish(self) -> None:
        """Wait until everything is on disk and the references point at it. Raises GitFailed, OSError."""
        ...


def committer() -> bytes:
    """Who makes a commit, and when, as git writes it."""
    return b"codeforge <codeforge@localhost> %d +0000" % int(time.time())
