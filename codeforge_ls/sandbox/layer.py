"""The layer of a command in hybrid mode: an overlay's upper folder, and what in it differs from the workspace.

The workspace is the lower folder and is only read. An overlay notes a deletion as a device 0:0 and a folder that
replaces another one by an attribute; both are read back here as changes of single files.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")


class Layers(StrEnum):
    """How a backend can run commands in hybrid mode."""

    NONE = "none"
    OVERLAY = "overlay"
    COPY = "copy"


class ChangeKind(StrEnum):
    """What a layer does to a path."""

    FILE = "file"
    LINK = "link"
    FOLDER = "folder"
    DELETE = "delete"
    REMOVE_FOLDER = "remove_folder"
    SPECIAL = "special"  # a pipe, socket or device: it is not merged


@dataclass(frozen=True)
class LayerChange:
    """One path, relative to the workspace, and what the layer does to it. ``mode`` are permission bits of a file."""

    path: str
    kind: ChangeKind
    mode: int = 0


@dataclass(frozen=True)
class Layer:
    """Two empty folders on one file system, outside the workspace."""

    folder: Path

    @property
    def upper(self) -> Path:
        """Where changes go."""
        return self.folder / "upper"

    @property
    def work(self) -> Path:
        """What the overlay needs for itself."""
        return self.folder / "work"

    @classmethod
    def make(cls, within: Path) -> Layer:
        """A new layer in a folder of ours. Raises ``OSError``."""
        within.mkdir(mode=0o700, parents=True, exist_ok=True)
        layer = cls(Path(tempfile.mkdtemp(prefix="layer-", dir=within)))
        layer.upper.mkdir()
        layer.work.mkdir()
        return layer

    def remove(self) -> None:
        """Remove it. The overlay's own folder in ``work`` has no permission bits at all."""
        inner = self.work / "work"
        if inner.is_dir():
            inner.chmod(0o700)
        shutil.rmtree(self.folder, ignore_errors=True)

    def changes(self, workspace: Path) -> list[LayerChange]:
        """Everything that differs: deletions first, the deepest folder before what holds it, then what is new."""
        found = list(dict.fromkeys(_changes(os.fspath(self.upper), os.fspath(workspace), "")))
        gone = (ChangeKind.DELETE, ChangeKind.REMOVE_FOLDER)
        deletions = sorted(
            (one for one in found if one.kind in gone),
            key=lambda one: (one.kind is ChangeKind.REMOVE_FOLDER, -one.path.count("/"), one.path),
        )
        return deletions + sorted((one for one in found if one.kind not in gone), key=lambda one: one.path)


def _changes(upper: str, workspace: str, folder: str) -> Iterator[LayerChange]:
    with os.scandir(f"{upper}/{folder}" if folder else upper) as entries:
        names = sorted(entries, key=lambda entry: entry.name)
    for entry in names:
        path = f"{folder}/{entry.name}" if folder else entry.name
        status = entry.stat(follow_symlinks=False)
        mode, host = status.st_mode, f"{workspace}/{path}"
        if stat.S_ISCHR(mode) and status.st_rdev == 0:
            yield from _deleted(workspace, path, keep="")
        elif stat.S_ISDIR(mode):
            if os.path.islink(host) or not os.path.isdir(host):  # noqa: PTH112, PTH114 - text is faster
                yield from _deleted(workspace, path, keep="")
                yield LayerChange(path, ChangeKind.FOLDER, stat.S_IMODE(mode))
            elif _opaque(entry.path):
                yield from _deleted(workspace, path, keep=upper)
            yield from _changes(upper, workspace, path)
        else:
            if os.path.isdir(host) and not os.path.islink(host):  # noqa: PTH112, PTH114
                yield from _deleted(workspace, path, keep="")
            if stat.S_ISREG(mode):
                yield LayerChange(path, ChangeKind.FILE, stat.S_IMODE(mode))
            else:
                yield LayerChange(path, ChangeKind.LINK if stat.S_ISLNK(mode) else ChangeKind.SPECIAL)


def _deleted(workspace: str, path: str, keep: str) -> Iterator[LayerChange]:
    """Everything at or below a path of the workspace; ``keep`` is an upper folder whose entries stay."""
    host = f"{workspace}/{path}"
    if os.path.islink(host) or not os.path.isdir(host):  # noqa: PTH112, PTH114
        if os.path.lexists(host):
            yield LayerChange(path, ChangeKind.DELETE)
        return
    for name in sorted(os.listdir(host)):  # noqa: PTH208
        inner = f"{path}/{name}"
        if not keep or not os.path.lexists(f"{keep}/{inner}"):
            yield from _deleted(workspace, inner, keep)
    if not keep:
        yield LayerChange(path, ChangeKind.REMOVE_FOLDER)


def _opaque(folder: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(folder, name, follow_symlinks=False) in (b"y", b"x"):
                return True
        except OSError:
            continue
    return False


def sweep(within: Path) -> None:
    """Remove the layers that killed daemons left."""
    for folder in within.glob("layer-*"):
        Layer(folder).remove()
