"""Paths as a policy sees them: lexically normal, resolved through links, inside the workspace or not."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from codeforge_ls.model.errors import InvalidInput

MAX_PATH = 4096  # characters; PATH_MAX of Linux


class ResolvedPath(NamedTuple):
    """One path in both of its readings.

    ``lexical`` is workspace-relative with forward slashes (``.`` is the root); outside it starts with ``..`` or
    ``/``. ``real`` is absolute, links of every existing parent followed. ``inside`` holds only if both readings are.
    """

    lexical: str
    real: str
    inside: bool

    def real_relative(self, root: str) -> str:
        """The resolved path relative to the real ``root``, for matching rules; absolute when outside."""
        return relative_to(self.real, root)


class KnownFolders:
    """What one call has found out about the folders below a root: for many paths, and for no longer than that."""

    def __init__(self, root: Path) -> None:
        """Raises ``OSError`` or ``ValueError`` for a root that cannot be resolved."""
        self.root = os.path.abspath(root)  # noqa: PTH100  Path.resolve would follow links, which is the other reading
        self.real_root = os.path.realpath(root)
        self._plain = {""}

    def real(self, lexical: str) -> str:
        """``os.path.realpath`` of a normal path below the root, which need not be looked at again."""
        if lexical == ".":
            return self.real_root
        looked_at, parts = lexical.rpartition("/")[0], 1
        while looked_at not in self._plain:
            looked_at, parts = looked_at.rpartition("/")[0], parts + 1
        above = self.real_root.rstrip("/")
        for part in lexical.split("/")[-parts:]:
            self._plain.add(looked_at)
            looked_at = f"{looked_at}/{part}" if looked_at else part
            with contextlib.suppress(OSError):  # what is not there is no link
                if stat.S_ISLNK(os.lstat(f"{above}/{looked_at}").st_mode):
                    return os.path.realpath(os.path.join(self.real_root, lexical))  # noqa: PTH118  os.path is 20 times faster
        return f"{above}/{lexical}"


def resolve_path(root: Path, path: str, known: KnownFolders | None = None) -> ResolvedPath:
    """Both readings of a relative path, an absolute path or a ``file:`` URI; ``known`` is for many paths of one root.

    Raises ``InvalidInput`` for an empty path, NUL, undecodable text, a foreign host or over 4,096 characters.
    """
    text = _plain(path)
    known = known or KnownFolders(root)
    base, real_base = known.root, known.real_root
    whole = os.path.normpath(os.path.join(base, text))  # noqa: PTH118  os.path is 20 times faster here
    lexical = relative_to(whole, base)
    if lexical.startswith("/"):
        lexical = relative_to(whole, real_base)
    real = os.path.realpath(whole) if lexical.startswith("/") else known.real(lexical)
    inside = not lexical.startswith("/") and is_within(real, real_base)
    return ResolvedPath(lexical=lexical, real=real, inside=inside)


def relative_to(path: str, base: str) -> str:
    """``path`` relative to ``base`` when it lies below it (``.`` for the same); else unchanged."""
    if path == base:
        return "."
    prefix = base if base.endswith("/") else base + "/"
    return path.removeprefix(prefix)


def is_within(path: str, base: str) -> bool:
    """Whether ``path`` is ``base`` or below it. Compares whole segments (``/ws-evil`` is not below ``/ws``)."""
    return relative_to(path, base) != path or path == base


def _plain(path: str) -> str:
    if not isinstance(path, str) or not path:
        raise _bad("The path is empty.")
    if len(path) > MAX_PATH:
        raise _bad(f"The path has {len(path):,} characters; the limit is {MAX_PATH:,}.")
    text = _from_uri(path) if path[:5].lower() == "file:" else path
    if "\0" in text:
        raise _bad("The path holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _bad("The path is not valid text.") from error
    return text


def _from_uri(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        text = unquote_to_bytes(parts.path).decode()
    except ValueError as error:
        raise _bad("The file: URI cannot be read.") from error
    if parts.netloc not in ("", "localhost"):
        raise _bad(f"The file: URI names another host, {parts.netloc!r}.")
    if parts.query or parts.fragment:
        raise _bad("The file: URI has a query or a fragment.", hint="Encode ? as %3F and # as %23.")
    if not text.startswith("/"):
        raise _bad("The file: URI is not absolute.")
    return text


def _bad(message: str, hint: str = "Give a path relative to the workspace.") -> InvalidInput:
    return InvalidInput(message, hint=hint, data={"field": "path"})
