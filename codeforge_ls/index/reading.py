"""Read one file of the workspace, or say why it does not belong into the index."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from codeforge_ls.index.limits import DATA_BYTES, Limits

BINARY_PROBE = 8 << 10
DATA_SUFFIXES = {".json", ".csv", ".tsv", ".svg", ".xml", ".lock", ".ipynb", ".geojson", ".jsonl", ".ndjson"}
GENERATED_SUFFIXES = (".min.js", ".min.css", ".map", ".bundle.js")
GENERATED_NAMES = {
    "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "poetry.lock", "uv.lock", "Cargo.lock",
    "Gemfile.lock", "composer.lock", "go.sum", "Pipfile.lock",
}  # fmt: skip
# A file written this shortly before it was read may change again within one tick of its time stamp.
RACY_NS = 20_000_000
LINK_SECONDS = 0.5


@dataclass(frozen=True)
class Source:
    """The text of a file in UTF-8 without a byte order mark, its hash, and what ``stat`` said of the file."""

    data: bytes
    digest: str
    mtime_ns: int
    size: int


@dataclass(frozen=True)
class Refusal:
    """Why a file is not indexed. ``gone`` means that there is no such file any more."""

    reason: str
    size: int = 0
    mtime_ns: int = 0
    gone: bool = False


def read_source(root: Path, path: str, limits: Limits, links: LinkCheck | None = None) -> Source | Refusal:
    """Read ``path`` below ``root``. Links, devices, pipes, binary, huge and generated files are refused."""
    read = read_text(root, path, limits, links)
    if isinstance(read, Refusal):
        return read
    text, mtime_ns, size = read
    return Source(text, content_digest(text), mtime_ns, size)


def read_text(
    root: Path, path: str, limits: Limits, links: LinkCheck | None = None
) -> tuple[bytes, int, int] | Refusal:
    """The same without the hash: text, time of change, size."""
    name = path.rpartition("/")[2]
    if name in GENERATED_NAMES or name.endswith(GENERATED_SUFFIXES):
        return _stat_refusal(root / path, "generated")
    if links.beyond(path) if links else beyond_link(root, path):
        return Refusal("symlink")
    try:
        # O_NONBLOCK: opening a pipe must not wait for a writer; O_NOFOLLOW: links are not read.
        descriptor = os.open(f"{root}/{path}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return Refusal("gone", gone=True)
    except (OSError, ValueError) as error:
        link = (root / path).is_symlink()
        return _stat_refusal(root / path, "symlink" if link else f"unreadable: {type(error).__name__}")
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return Refusal("not a regular file", facts.st_size, facts.st_mtime_ns)
        cap = (
            min(limits.max_file_bytes, DATA_BYTES)
            if os.path.splitext(name)[1].lower() in DATA_SUFFIXES  # noqa: PTH122 - ten times as fast
            else limits.max_file_bytes
        )
        if facts.st_size > cap:
            return Refusal("size", facts.st_size, facts.st_mtime_ns)
        try:
            raw = _read(descriptor, facts.st_size, cap)
        except OSError as error:
            return Refusal(f"unreadable: {type(error).__name__}", facts.st_size, facts.st_mtime_ns)
    finally:
        os.close(descriptor)
    mtime = facts.st_mtime_ns if time.time_ns() - facts.st_mtime_ns > RACY_NS else 0
    checked = check_text(raw, limits, cap)
    if isinstance(checked, Refusal):
        return Refusal(checked.reason, facts.st_size, mtime)
    return checked, mtime, facts.st_size


def _read(descriptor: int, size: int, cap: int) -> bytes:
    """The content of a file, but of one that has grown since its size was asked at most a byte more than ``cap``.

    A file object would make room for ``cap`` bytes each time, which costs more than the reading.
    """
    raw = os.read(descriptor, size + 1)
    while len(raw) > size and len(raw) <= cap and (more := os.read(descriptor, cap + 1 - len(raw))):
        raw += more
    return raw


def beyond_link(root: Path, path: str) -> bool:
    """Whether a folder above ``path``, which is relative to ``root``, is a symbolic link."""
    return LinkCheck(root).beyond(path)


class LinkCheck:
    """``beyond_link`` for many files: what was found out about a folder holds for ``LINK_SECONDS``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, bool] = {"": False}
        self._until = 0.0

    def beyond(self, path: str) -> bool:
        """Whether a folder above ``path``, which is relative to the root, is a symbolic link."""
        if time.monotonic() > self._until:
            self._known = {"": False}
            self._until = time.monotonic() + LINK_SECONDS
        folder, unknown = path.rpartition("/")[0], []
        while (known := self._known.get(folder)) is None:
            unknown.append(folder)
            folder = folder.rpartition("/")[0]
        for folder in reversed(unknown):
            known = known or os.path.islink(f"{self._root}/{folder}")  # noqa: PTH114 - ten times as fast
            self._known[folder] = known
        return known


def check_text(raw: bytes, limits: Limits, cap: int | None = None) -> bytes | Refusal:
    """The bytes as valid UTF-8 without a byte order mark, or why they are refused."""
    if len(raw) > (cap or limits.max_file_bytes):
        return Refusal("size", len(raw))
    if b"\0" in raw[:BINARY_PROBE]:
        return Refusal("binary", len(raw))
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in raw:
        raw = raw.replace(b"\0", b" ")
    if _has_long_line(raw, limits.max_line):
        return Refusal("line", len(raw))
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace").encode()
    return raw


def _has_long_line(raw: bytes, most: int) -> bool:
    """Whether some line is longer than ``most`` bytes; looks at one place in each ``most`` bytes."""
    at = 0
    while len(raw) - at > most:
        end = raw.rfind(b"\n", at, at + most + 1)
        if end < 0:
            return True
        at = end + 1
    return False


def content_digest(data: bytes) -> str:
    """BLAKE2b-128 in hex: the key under which tags and chunks of a content are kept."""
    return blake2b(data, digest_size=16).hexdigest()


def _stat_refusal(path: Path, reason: str) -> Refusal:
    try:
        facts = path.lstat()
    except (OSError, ValueError):
        return Refusal("gone", gone=True)
    return Refusal(reason, facts.st_size, facts.st_mtime_ns)
