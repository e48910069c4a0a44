"""Whether a file system changes the change time of a folder with every entry that comes, goes or is renamed.

Local ones of Linux do. Where that is not known (network, FUSE, shared folders of a virtual machine), a folder's time
says nothing about what is in it.
"""

from __future__ import annotations

import os
from pathlib import Path

LOCAL = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "overlay", "zfs", "bcachefs", "jfs"}
)
COARSE_NS = 2_500_000_000  # what such a file system may round a time to, and its clock lag behind ours
_MOUNTS = Path("/proc/self/mountinfo")


def trusted_device(root: str) -> int | None:
    """The device of the file system at a real path if its change times can be relied on, else None.

    A folder of another device below it (something else is mounted there) is not covered.
    """
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        device = os.lstat(root).st_dev
    except OSError:
        return None
    best, kind = "", ""
    for line in mounts.splitlines():
        where, _, what = line.partition(" - ")
        fields = where.split(" ")
        if len(fields) < 5:
            continue
        point = _plain(fields[4])
        above = point if point.endswith("/") else f"{point}/"
        if f"{root}/".startswith(above) and len(point) >= len(
            best
        ):  # of two at one place the later covers the other
            best, kind = point, what.split(" ", 1)[0]
    return device if kind in LOCAL else None


def _plain(path: str) -> str:
    """A path of mountinfo, where blanks and such are octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path
