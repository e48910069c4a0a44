"""Who is at the other end of a loopback TCP connection: the user it must be, and which process holds it."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.daemon.peer import Process, is_inside_tool, lineage, look_at
from codeforge_ls.model.errors import Denied
from codeforge_ls.rendezvous import INSIDE_TOOL

Address = tuple[str, int]
ESTABLISHED = b"01"
UNSEEN = "The system does not show which program connects, so it cannot be told from a tool of an agent."


@dataclass(frozen=True)
class TcpPeer:
    """The program at the other end and its ancestors, nearest first; empty where the system cannot say (no /proc)."""

    lineage: tuple[Process, ...] = ()

    @property
    def key(self) -> str:
        """The same for all connections of one process, and of no other one; empty for all that cannot be seen."""
        return "{}.{}".format(*self.lineage[0].identity) if self.lineage else ""

    @property
    def name(self) -> str:
        """In words, for logs."""
        return f"{self.lineage[0].name} (pid {self.lineage[0].pid})" if self.lineage else "an unseen program"

    def is_alive(self) -> bool:
        """Whether the process is still there; one that cannot be seen is."""
        if not self.lineage:
            return True
        seen = look_at(self.lineage[0].pid)
        return seen is not None and seen.identity == self.lineage[0].identity


def find(ours: Address, theirs: Address, likely: Iterable[int] = ()) -> TcpPeer:
    """The peer of a connection to ``ours`` from ``theirs``. Reads much of ``/proc``: not for the event loop.

    ``likely`` are process ids to look at first. Raises ``Denied`` for another user, for a command of an agent, and
    for what is out of sight: a process can hide its files, and then it may be such a command. Where there is no
    ``/proc`` everybody may connect who has the token.
    """
    if sys.platform != "linux":
        return TcpPeer()
    held = _socket(theirs, ours)
    if held is None:
        raise Denied(UNSEEN)
    uid, inode = held
    if uid != os.getuid():
        raise Denied(f"This daemon serves user {os.getuid()} only, not {uid}.")
    pid = _holder(inode, likely)
    if pid is None:
        raise Denied(UNSEEN)
    if is_inside_tool(pid):
        raise Denied(INSIDE_TOOL)
    if not (found := lineage(pid)):
        raise Denied(UNSEEN)
    return TcpPeer(found)


def _socket(local: Address, remote: Address) -> tuple[int, int] | None:
    """User id and inode of the socket with these ends, as the kernel's table has it; also of a mapped IPv6 socket."""
    for table, form in (("tcp", _plain), ("tcp6", _mapped)):
        with contextlib.suppress(OSError):
            ends = b" %b %b %b " % (form(local), form(remote), ESTABLISHED)
            for line in Path(f"/proc/net/{table}").read_bytes().splitlines():
                if ends in line:
                    fields = line.split()
                    return int(fields[7]), int(fields[9])
    return None


def _plain(end: Address) -> bytes:
    word = struct.unpack("=I", socket.inet_aton(end[0]))[0]
    return b"%08X:%04X" % (word, end[1])


def _mapped(end: Address) -> bytes:
    marker = struct.unpack("=I", b"\0\0\xff\xff")[0]
    return b"%016X%08X" % (0, marker) + _plain(end)


def _holder(inode: int, likely: Iterable[int]) -> int | None:
    wanted = f"socket:[{inode}]"
    return next((pid for pid in (*likely, *_own_processes()) if _holds(pid, wanted)), None)


def _own_processes() -> Iterator[int]:
    """The user's processes, the newest numbers first."""
    numbers = sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True)  # noqa: PTH208 - names are enough
    for pid in numbers:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}").stat().st_uid == os.getuid():
                yield pid


def _holds(pid: int, wanted: str) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - thousands of them, each only a name
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{name}") == wanted:  # noqa: PTH115 - as above
                    return True
    return False
