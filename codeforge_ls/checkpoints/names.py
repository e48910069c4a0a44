"""Names: paths as bytes inside, as text outside; streams as references; which roots are refused."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from codeforge_ls.model.errors import InvalidInput

REFS = "refs/codeforge/"


def shown(path: bytes) -> str:
    """A path for people and for JSON: bytes that are not UTF-8 appear as ``\\xNN``."""
    return path.decode("utf-8", "backslashreplace")


def quoted(path: bytes) -> str:
    """A path as plain ASCII that ``unquoted`` turns back without loss, for files of ours."""
    return quote_from_bytes(path)


def unquoted(text: str) -> bytes:
    """The path that ``quoted`` wrote."""
    return unquote_to_bytes(text)


def as_bytes(path: str) -> bytes:
    """The bytes of a path given as text. Raises InvalidInput for NUL and for half of a surrogate pair."""
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise InvalidInput("A path holds half of a surrogate pair.", data={"field": "path"}) from error
    if b"\0" in raw:
        raise InvalidInput("A path holds a NUL character.", data={"field": "path"})
    return raw


def stream_ref(stream: str) -> str:
    """The reference of a stream: readable, legal for git, and different for different streams."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", stream)[:80].strip("-")
    digest = hashlib.sha256(stream.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{REFS}{readable or 'stream'}-{digest}"


def checked_root(root: Path) -> bytes:
    """The real path of a workspace. Raises InvalidInput for ``/``, the home folder and what is no folder."""
    real = Path(os.path.realpath(root))
    if real in (Path("/"), Path(os.path.realpath(Path.home()))):
        raise InvalidInput(
            f"{real} cannot be a workspace: a snapshot of it would hold far more than a project.",
            hint="Open the folder of the project.",
        )
    if not real.is_dir():
        raise InvalidInput(f"{root} is not a folder.")
    return os.fsencode(real)


def joined(base: bytes, path: bytes) -> bytes:
    """``path`` below ``base``; an empty part adds nothing, an absolute path stays."""
    if not base or path.startswith(b"/"):
        return path
    return base + b"/" + path if path else base


def lexical(roots: tuple[bytes, ...], raw: bytes) -> bytes | None:
    """A path relative to the workspace as it is written, whatever lies there; None when it leads outside."""
    written = os.path.normpath(joined(roots[0], raw))
    return next((written[len(root) + 1 :] for root in roots if written.startswith(root + b"/")), None)


def below(roots: tuple[bytes, ...], path: str) -> set[bytes]:
    """``path`` relative to the workspace, as written and with links resolved; empty when outside or in a ``.git``.

    ``roots`` are the spellings of the workspace's root, the real one first.
    """
    raw = as_bytes(path)
    written = {os.path.normpath(joined(root, raw)) for root in roots}
    found = {
        spelling[len(root) + 1 :]
        for spelling in written | {os.path.realpath(name) for name in written}
        for root in roots
        if spelling.startswith(root + b"/")
    }
    return {relative for relative in found if b".git" not in relative.split(b"/")}


def parent_of(path: bytes) -> bytes:
    """The folder of a relative path, empty for the root."""
    return path.rpartition(b"/")[0]


def parents(path: bytes) -> list[bytes]:
    """The folders above a relative path, nearest first, without the root."""
    parts = path.split(b"/")[:-1]
    return [b"/".join(parts[:count]) for count in range(len(parts), 0, -1)]
