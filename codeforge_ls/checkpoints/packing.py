"""Write the first objects of a shadow repository: a pack that is made here, as git would take twice as long for it.

Git compresses with the system's zlib and hashes with a SHA-1 that looks for attacks. The format is git's own:
https://git-scm.com/docs/gitformat-pack (version 2 of the pack and of its index).
"""

from __future__ import annotations

import bisect
import hashlib
import os
import struct
import zlib
from collections.abc import Mapping
from io import BufferedRandom
from pathlib import Path
from typing import TypeAlias

from isal import isal_zlib

from codeforge_ls.checkpoints.names import parent_of, shown
from codeforge_ls.checkpoints.shadow import EMPTY_TREE, Shadow
from codeforge_ls.checkpoints.writing import FILE, FOLDER, committer
from codeforge_ls.git import GitFailed

LEVEL = 1  # of 0 to 3; the bytes of zlib's level 1 in a quarter of its time
MOST = 1 << 30  # bytes of one pack: the index has 31 bits for an offset
PACK_HEAD, INDEX_HEAD = struct.Struct(">4sII"), b"\377tOc\0\0\0\2"
KINDS = {b"commit": 1, b"tree": 2, b"blob": 3}
Folder: TypeAlias = dict[bytes, tuple[str, bytes]]
"""What is in a folder: by name the mode and the 20 bytes of the object's name."""


class Pack:
    """One pack on its way, beside its place; ``finish`` puts it there."""

    def __init__(self, folder: Path) -> None:
        self.size = PACK_HEAD.size
        self._folder = folder
        self._objects: dict[bytes, tuple[int, int]] = {}  # name -> checksum, offset
        self._file = self._new()
        self._file.write(PACK_HEAD.pack(b"PACK", 2, 0))

    def add(self, kind: bytes, content: bytes) -> bytes:
        """Store an object unless it is here; returns the 20 bytes of its name."""
        digest = hashlib.sha1(b"%s %d\0" % (kind, len(content)), usedforsecurity=False)
        digest.update(content)
        name = digest.digest()
        if name not in self._objects:
            head, packed = _entry_head(KINDS[kind], len(content)), isal_zlib.compress(content, LEVEL)
            self._objects[name] = zlib.crc32(packed, zlib.crc32(head)), self.size
            self._file.write(head)
            self._file.write(packed)
            self.size += len(head) + len(packed)
        return name

    def finish(self) -> None:
        """Everything is on disk, and git sees it. Raises OSError."""
        pack = self._file
        pack.seek(0)
        pack.write(PACK_HEAD.pack(b"PACK", 2, len(self._objects)))
        pack.seek(0)
        checksum = hashlib.file_digest(pack, _sha1).digest()
        pack.write(checksum)
        place = self._folder / f"pack-{checksum.hex()}.pack"
        _put(pack, place)
        index = self._new()
        body = self._index() + checksum
        index.write(body + _sha1(body).digest())
        _put(index, place.with_suffix(".idx"))  # last: git knows a pack by its index
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _new(self) -> BufferedRandom:
        """A file beside its place, named as what the next sweep removes when nobody finished it."""
        return (self._folder / "tmp_pack_first").open("w+b")

    def _index(self) -> bytes:
        names = sorted(self._objects)
        found = [self._objects[name] for name in names]
        upto = [bisect.bisect_left(names, bytes([first + 1])) for first in range(255)]
        numbers = [*upto, len(names)], [crc for crc, _ in found], [offset for _, offset in found]
        fan_out, checksums, offsets = (struct.pack(f">{len(column)}I", *column) for column in numbers)
        return b"".join([INDEX_HEAD, fan_out, *names, checksums, offsets])


class Packer:
    """Writes packs and references of a repository that has none yet."""

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow
        self._folder = shadow.folder / "objects" / "pack"
        self._pack: Pack | None = None
        self._references: dict[str, str] = {}

    def tree(self, reference: str, base: str) -> PackedTree:
        """A new tree: there is no ``base`` yet but the empty one."""
        if base != EMPTY_TREE:
            raise GitFailed("The first snapshot has nothing to begin with.")
        return PackedTree(self, reference)

    def commit(
        self, reference: str, parent: str, trees: Mapping[str, str], files: Mapping[str, bytes], message: str
    ) -> str:
        """Set ``reference`` to a commit without a parent, of trees and files by name; returns the commit."""
        if parent:
            raise GitFailed("The first snapshot has nothing before it.")
        top: Folder = {}
        for name, tree in trees.items():
            if tree != EMPTY_TREE:  # git stores no empty folder in another
                top[name.encode()] = FOLDER, bytes.fromhex(tree)
        for name, content in files.items():
            top[name.encode()] = FILE, self.add(b"blob", content)
        who, root = committer(), self.folder(top).hex().encode()
        text = b"tree %s\nauthor %s\ncommitter %s\n\n%s" % (root, who, who, message.encode())
        return self.refer(reference, self.add(b"commit", text))

    def finish(self) -> None:
        """Wait until everything is on disk and the references point at it. Raises GitFailed, OSError."""
        if self._pack is None:
            return
        self._pack.finish()
        orders = [f"update {reference} {name}\n" for reference, name in self._references.items()]
        self._shadow.git("update-ref", "--stdin", stdin="".join(orders).encode())

    def add(self, kind: bytes, content: bytes) -> bytes:
        """Store an object; returns the 20 bytes of its name."""
        if self._pack is not None and self._pack.size > MOST:
            self._pack.finish()
            self._pack = None
        if self._pack is None:
            self._folder.mkdir(exist_ok=True)
            self._pack = Pack(self._folder)
        return self._pack.add(kind, content)

    def folder(self, folder: Folder) -> bytes:
        """Store what is in a folder; returns the 20 bytes of its name."""
        rows = []
        for name, (mode, stored) in folder.items():
            row = b"%s %s\0%s" % (mode.lstrip("0").encode(), name, stored)
            rows.append((name + b"/" if mode == FOLDER else name, row))  # the order in which git wants them
        return self.add(b"tree", b"".join(row for _, row in sorted(rows)))

    def refer(self, reference: str, name: bytes) -> str:
        """Let a reference point at an object once all is stored; returns the object's name."""
        self._references[reference] = name.hex()
        return name.hex()


class PackedTree:
    """A tree on its way, in memory; its files are in the pack."""

    def __init__(self, packer: Packer, reference: str) -> None:
        self._packer = packer
        self._reference = reference
        self._folders: dict[bytes, Folder] = {b"": {}}

    def put(self, path: bytes, mode: str, content: bytes) -> None:
        """A file or link; parents of ``path`` that are files give way."""
        parent, _, name = path.rpartition(b"/")
        if parent not in self._folders:
            self._begin(parent)
        self._folders[parent][name] = mode, self._packer.add(b"blob", content)

    def _begin(self, folder: bytes) -> None:
        while folder not in self._folders:
            self._folders[folder] = {}
            folder = parent_of(folder)

    def delete(self, path: bytes) -> None:
        """There is nothing to delete yet."""
        raise GitFailed(f"The first snapshot does not hold {shown(path)}.")

    def holds(self, path: bytes) -> bool:
        """Nobody asks: only what is known before can hold something."""
        raise GitFailed(f"The first snapshot does not hold {shown(path)}.")

    def end(self) -> str:
        """The name of the tree as it is now."""
        top = self._folders.pop(b"")
        if not top and not self._folders:
            return EMPTY_TREE
        for path in sorted(self._folders, key=lambda path: path.count(b"/"), reverse=True):
            parent, _, name = path.rpartition(b"/")
            above = self._folders[parent] if parent else top
            above[name] = FOLDER, self._packer.folder(self._folders[path])
        return self._packer.refer(self._reference, self._packer.folder(top))


def _entry_head(kind: int, size: int) -> bytes:
    """Kind and size of an object as a pack has them: four bits of the size, then seven at a time."""
    head, byte = bytearray(), kind << 4 | size & 15
    size >>= 4
    while size:
        head.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    head.append(byte)
    return bytes(head)


def _sha1(content: bytes = b"") -> hashlib._Hash:
    return hashlib.sha1(content, usedforsecurity=False)


def _put(file: BufferedRandom, place: Path) -> None:
    """Close a file that is on disk and in its place."""
    with file:
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
    Path(file.name).replace(place)
