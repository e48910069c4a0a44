"""Files of the workspace as the gate sees them: the editor's text before the disk's, and atomic writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.actions.documents import DocumentHub, DocumentSource, OpenDocument
from codeforge_ls.actions.text import Text, decode
from codeforge_ls.model.actions import content_hash
from codeforge_ls.model.errors import Conflict, InvalidInput, LimitReached, NotFound
from codeforge_ls.policy.paths import ResolvedPath, resolve_path

MAX_FILE = 8 << 20  # bytes; a larger file is not read or edited by a tool


@dataclass(frozen=True)
class Current:
    """What a path holds now. ``data`` None: there is no file. ``held_by`` is the editor that has it open."""

    path: str
    data: bytes | None
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
    """Reads and writes below one root. Paths are workspace-relative; nothing outside the root is ever touched."""

    def __init__(self, root: Path, documents: DocumentHub) -> None:
        self.root = root
        self._documents = documents

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

    async def current(self, path: str) -> Current:
        """What the path holds now, unsaved text included."""
        resolved = self.resolve(path)
        data = await asyncio.to_thread(_read, Path(resolved.real), resolved.lexical)
        if found := self._documents.find(resolved.lexical):
            source, document = found
            like = decode(data) if data is not None else Text("")
            return Current(resolved.lexical, like.encode(document.text), document, source)
        return Current(resolved.lexical, data)

    async def disk_hash(self, path: str) -> str | None:
        """The hash of what is on disk, whatever an editor holds."""
        resolved = self.resolve(path)
        data = await asyncio.to_thread(_read, Path(resolved.real), resolved.lexical)
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
            if not await latest.held_by.apply(now.path, latest.document.version, decode(data).text):
                raise Conflict(
                    f"The editor did not take the edit of {now.path}.",
                    hint="The document changed; read it and retry.",
                )
            if was_saved and save:
                await latest.held_by.save(now.path)
            return
        await asyncio.to_thread(_write, Path(self.resolve(now.path).real), data, now.hash)


def _read(path: Path, shown: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidInput(f"{shown} cannot be read: {error.strerror}.") from error
    try:
        _refuse_odd(os.fstat(descriptor), shown)  # first: a directory cannot even be opened as a file object
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_FILE + 1)
    finally:
        os.close(descriptor)


def _refuse_odd(status: os.stat_result, shown: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(f"{shown} is not a regular file.", hint="Only files can be read and edited.")
    if status.st_size > MAX_FILE:
        raise LimitReached(
            f"{shown} has {status.st_size:,} bytes; the limit is {MAX_FILE:,}.",
            hint="Use Grep or Search on it.",
        )


def _write(path: Path, data: bytes | None, base_hash: str | None) -> None:
    """Write beside and rename, so that a reader sees the old or the new file and never a torn one."""
    present = _read(path, str(path))
    if (None if present is None else content_hash(present)) != base_hash:
        raise Conflict(
            f"{path.name} changed meanwhile; nothing was written.", hint="Read it again and retry."
        )
    if data is None:
        path.unlink(missing_ok=True)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if present is not None else None
        temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.codeforge")
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                temporary.chmod(mode)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise Conflict(
            f"{path.name} could not be written: {error.strerror}.", hint="Nothing was changed."
        ) from error
