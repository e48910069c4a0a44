"""Where things are: URIs of an editor and paths of the workspace, both ways."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit


def file_path(uri: str) -> str | None:
    """The absolute path of a ``file:`` URI, lexically normal; None for any other URI and for NUL."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    path = unquote(parts.path, errors="surrogateescape")
    return os.path.normpath(path) if path.startswith("/") and "\0" not in path else None


def file_uri(path: str | os.PathLike[str]) -> str:
    """The ``file:`` URI of an absolute path."""
    return "file://" + quote(os.fsencode(path))


class Places:
    """Paths of one workspace. An editor may have reached the root through a symlink: both spellings are known."""

    def __init__(self, root: Path, opened_as: str | None) -> None:
        self.root = root
        self._prefixes = [str(root)]
        if opened_as and opened_as not in self._prefixes and os.path.realpath(opened_as) == str(root):
            self._prefixes.insert(0, opened_as)
        self._uri_prefixes = [file_uri(prefix) + "/" for prefix in self._prefixes]

    def relative(self, uri: str) -> str | None:
        """The workspace-relative path of a URI, None when it lies outside. No file is touched."""
        for prefix in self._uri_prefixes:  # the usual spelling, fast: bursts of 10,000 come here
            if (
                uri.startswith(prefix)
                and "%" not in uri
                and "/." not in uri
                and "//" not in uri[len(prefix) :]
            ):
                if "?" in uri or "#" in uri:
                    break
                return uri[len(prefix) :].rstrip("/") or None
        path = file_path(uri)
        return None if path is None else self.relative_path(path)

    def relative_path(self, path: str) -> str | None:
        """The workspace-relative form of an absolute path, None when it lies outside."""
        for prefix in self._prefixes:
            if path.startswith(prefix + "/"):
                return path[len(prefix) + 1 :]
        return None

    def uri(self, relative: str) -> str:
        """The URI of a path of the workspace, spelled as the editor spells the root."""
        return file_uri(f"{self._prefixes[0]}/{relative}")


def is_watched(relative: str) -> bool:
    """Whether a change of that path can matter: nothing inside ``.git`` does."""
    return ".git" not in PurePosixPath(relative).parts if ".git" in relative else True
