"""The stat cache of one unit: which files surely did not change since the last snapshot.

Git's own cache compares whole seconds in common builds and so misses an edit that keeps size and time
(``cp -p``, ``touch -r``). This one has nanoseconds, change time and inode, and distrusts the too recent.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from codeforge_ls.checkpoints.shadow import EMPTY_TREE

FileSignature: TypeAlias = tuple[int, int, int, int] | None
Stamp: TypeAlias = tuple[int, int, int, int, int]  # mtime ns, ctime ns, size, inode, mode

DISTRUSTED: Stamp = (0, 0, 0, 0, 0)  # no file has mode 0, so it never matches
# A change time this close to the scan may hide a later write in the same tick of the clock.
CLOCK_TICK_NS = 20_000_000
MAGIC = b"CFSTAMP2"
HEAD = struct.Struct("=40sqq")  # tree, entries, bytes of paths
INODE_MASK = (1 << 63) - 1


def stamp_of(status: os.stat_result) -> Stamp:
    """What of a stat result must be equal for a file to be unchanged."""
    return (
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_size,
        status.st_ino & INODE_MASK,
        status.st_mode,
    )


def trusted(stamp: Stamp, scan_started: int) -> Stamp:
    """``stamp``, or DISTRUSTED when its change time is not surely before ``scan_started`` (ns since 1970)."""
    return stamp if stamp[1] < scan_started - CLOCK_TICK_NS else DISTRUSTED


def permissions(stamp: Stamp) -> int:
    """The permission bits in a stamp."""
    return stat.S_IMODE(stamp[4]) & 0o777


@dataclass
class Stamps:
    """What is in ``tree``, the newest picture of a unit: the stamp of every path when it was read.

    ``unsaved`` counts the changes since ``file``, what is known of the saved file, was written.
    """

    tree: str = EMPTY_TREE
    entries: dict[bytes, Stamp] = field(default_factory=dict)
    file: FileSignature = None
    unsaved: int = 0

    @staticmethod
    def load(file: Path) -> Stamps:
        """The saved stamps; none, and so the empty tree, when they are missing or damaged."""
        signature = file_signature(file)
        try:
            raw = file.read_bytes()
        except OSError:
            return Stamps(file=signature)
        body = raw[len(MAGIC) + 4 :]
        if raw[: len(MAGIC)] != MAGIC or raw[len(MAGIC) : len(MAGIC) + 4] != _checksum(body):
            return Stamps(file=signature)
        tree, count, length = HEAD.unpack_from(body)
        paths = body[HEAD.size : HEAD.size + length].split(b"\0")[:count]
        numbers = array("q", body[HEAD.size + length :])
        columns = [numbers[start * count : (start + 1) * count] for start in range(5)]
        entries = dict(zip(paths, zip(*columns, strict=True), strict=True))
        return Stamps(tree.decode(), entries, signature)

    def save(self, file: Path) -> None:
        """Write the stamps, once their tree is stored."""
        paths = b"\0".join(self.entries)
        numbers = array("q")
        for column in zip(*self.entries.values(), strict=True):
            numbers.extend(column)
        body = HEAD.pack(self.tree.encode(), len(self.entries), len(paths)) + paths + numbers.tobytes()
        partial = file.with_suffix(".new")
        partial.write_bytes(MAGIC + _checksum(body) + body)
        partial.replace(file)
        self.file, self.unsaved = file_signature(file), 0


def file_signature(file: Path) -> FileSignature:
    """What tells a file from what it was before it was written anew; None without a file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino & INODE_MASK)


def _checksum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "big")
