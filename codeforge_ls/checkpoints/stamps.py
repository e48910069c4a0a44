"""The stat cache of one unit: which files surely did not change since the last snapshot.

Git's own cache compares whole seconds in common builds and so misses an edit that keeps size and time
(``cp -p``, ``touch -r``). This one has nanoseconds, change time and inode, and distrusts the too recent.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[int, int, int, int, int]  # mtime ns, ctime ns, size, inode, mode

DISTRUSTED: Stamp = (0, 0, 0, 0, 0)  # no file has mode 0, so it never matches
# A change time this close to the scan may hide a later write in the same tick of the clock.
CLOCK_TICK_NS = 20_000_000
MAGIC = b"CFSTAMP1"
HEAD = struct.Struct("=qqqqq")  # index mtime, index inode, index size, entries, bytes of paths
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
    """The stamps of all paths in one private index; ``entries`` has exactly the paths of that index."""

    entries: dict[bytes, Stamp] = field(default_factory=dict)

    @staticmethod
    def load(file: Path, index: Path) -> Stamps | None:
        """The saved stamps, or None when they are missing, damaged or of another state of the index."""
        try:
            raw = file.read_bytes()
        except OSError:
            return None
        body = raw[len(MAGIC) + 4 :]
        if raw[: len(MAGIC)] != MAGIC or raw[len(MAGIC) : len(MAGIC) + 4] != _checksum(body):
            return None
        *signature, count, length = HEAD.unpack_from(body)
        if tuple(signature) != _signature(index):
            return None
        paths = body[HEAD.size : HEAD.size + length].split(b"\0")[:count]
        numbers = array("q", body[HEAD.size + length :])
        columns = [numbers[start * count : (start + 1) * count] for start in range(5)]
        return Stamps(dict(zip(paths, zip(*columns, strict=True), strict=True)))

    def save(self, file: Path, index: Path) -> None:
        """Write the stamps beside the index whose present state they describe."""
        paths = b"\0".join(self.entries)
        numbers = array("q")
        for column in range(5):
            numbers.extend(stamp[column] for stamp in self.entries.values())
        body = HEAD.pack(*_signature(index), len(self.entries), len(paths)) + paths + numbers.tobytes()
        partial = file.with_suffix(".new")
        partial.write_bytes(MAGIC + _checksum(body) + body)
        partial.replace(file)


def _checksum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "big")


def _signature(index: Path) -> tuple[int, int, int]:
    with contextlib.suppress(OSError):
        status = index.stat()
        return (status.st_mtime_ns, status.st_ino & INODE_MASK, status.st_size)
    return (0, 0, 0)
