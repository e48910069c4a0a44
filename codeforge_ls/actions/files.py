"""Files of the workspace as the gate sees them: the editor's text before the disk's, and atomic writes."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.actions.beneath import read_file, sweep, write_file
from codeforge_ls.actions.documents import DocumentHub, DocumentSource, OpenDocument
from codeforge_ls.actions.text import Text, decode
from codeforge_ls.model.actions import AccessKind, PathEffect, content_hash
from codeforge_ls.model.errors import Conflict, InvalidInput, NotFound
from codeforge_ls.policy.paths import ResolvedPath, resolve_path


@dataclass(frozen=True)
class Current:
    """What a path holds now. ``data`` None: there is no file. ``held_by`` is the editor that has it open.

    ``real`` is where the path led when it was read; a write goes there and nowhere else.
    """

    path: str
    data: bytes | None
    real: str = ""
    document: OpenDocument | None = None
    held_by: DocumentSource | None = None

    @property
    def hash(self) -> str | None:
        """blake2b-128 of the bytes, None when there is no file."""
        return None if self.data is None else content_hash(self.data)

    @property
    def exists(self) -> bool:
        """Whether there is something to read."""
        return self.data is not None

    def text(self) -> Text:
        """The decoded text; empty for a file that does not exist."""
        return Text("") if self.data is None else decode(self.data)


class WorkspaceFiles:
    """Reads and writes below one root. Paths are workspace-relative; nothing outside the root is ever touched.

    ``journal``, a file in the state folder, names what a write that is killed would leave; one writer at a time.
    """

    def __init__(self, root: Path, documents: DocumentHub, journal: Path) -> None:
        self.root = root
        self._journal = journal
        self._real_root = os.path.realpath(root)
        self._documents = documents

    async def recover(self) -> None:
        """Remove what a write left that died with its daemon; to be called when a workspace is opened."""
        await asyncio.to_thread(sweep, self._real_root, self._journal)

    def resolve(self, path: str) -> ResolvedPath:
        """The path, lexically normal and resolved. Raises ``InvalidInput`` for one that leaves the workspace."""
        resolved = resolve_path(self.root, path)
        if not resolved.inside:
            raise InvalidInput(
                f"{path!r} is outside the workspace.",
                hint="Use a path relative to its root.",
                data={"field": "path"},
            )
        return resolved

    def effect(self, path: str, access: AccessKind) -> PathEffect:
        """What touching that path means, as the policy is to judge it."""
        resolved = self.resolve(path)
        return PathEffect(path=resolved.lexical, access=access, real=resolved.real)

    def open_document(self, path: str) -> tuple[DocumentSource, OpenDocument] | None:
        """The editor that has this file open, also under another name of the same file; nothing is read."""
        resolved = resolve_path(self.root, path)
        found = self._documents.find(resolved.lexical)
        if found or not resolved.inside:
            return found
        return self._documents.find(self._inside(resolved.real))

    async def current(self, path: str) -> Current:
        """What the path holds now, unsaved text included."""
        resolved = self.resolve(path)
        data = await asyncio.to_thread(read_file, self._real_root, self._inside(resolved.real))
        if found := self.open_document(path):
            source, document = found
            like = decode(data) if data is not None else Text("")
            return Current(resolved.lexical, like.encode(document.text), resolved.real, document, source)
        return Current(resolved.lexical, data, resolved.real)

    def _inside(self, real: str) -> str:
        """A real path relative to the real root."""
        return os.path.relpath(real, self._real_root)

    async def disk_hash(self, path: str) -> str | None:
        """The hash of what is on disk, whatever an editor holds."""
        real = self._inside(self.resolve(path).real)
        data = await asyncio.to_thread(read_file, self._real_root, real)
        return None if data is None else content_hash(data)

    def open_texts(self) -> dict[str, str]:
        """What editors hold now, by path."""
        return self._documents.texts()

    async def existing(self, path: str) -> Current:
        """Like ``current``, but raises ``NotFound`` when there is no such file."""
        now = await self.current(path)
        if not now.exists:
            raise NotFound(f"There is no file {now.path!r}.", hint="Use Glob to find its name.")
        return now

    async def put(self, now: Current, data: bytes | None, *, save: bool = True) -> None:
        """Replace what ``now`` describes by ``data`` (None deletes). Raises ``Conflict`` when it changed meanwhile.

        A document that an editor holds is edited there; if it was saved before, the editor is asked to save it
        again (``save``), so that commands see the new text. Unsaved text stays a person's to save.
        """
        latest = await self.current(now.path)
        if latest.hash != now.hash:
            raise Conflict(
                f"{now.path} changed meanwhile; nothing was written.", hint="Read it again and retry."
            )
        if latest.held_by and latest.document and data is not None:
            was_saved = await self.disk_hash(now.path) == latest.hash
            if not await latest.held_by.apply(
                latest.document.path, latest.document.version, decode(data).text
            ):
                raise Conflict(
                    f"The editor did not take the edit of {now.path}.",
                    hint="The document changed; read it and retry.",
                )
            if was_saved and save:
                await latest.held_by.save(latest.document.path)
            return
        real = self._inside(now.real)
        await asyncio.to_thread(write_file, self._real_root, real, data, now.hash, self._journal)
