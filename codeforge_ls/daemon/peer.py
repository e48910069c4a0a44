"""Who is at the other end of the socket: the user it must be, and the tool process it must not be."""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path

MAX_ANCESTORS = 256
TOOL_MARK = b"CODEFORGE_TOOL=1"


def credentials(sock: socket.socket) -> tuple[int, int]:
    """Process id and user id of the peer, as the kernel knows them. Raises ``OSError`` if it cannot tell."""
    if sys.platform == "linux":
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return pid, uid
    # macOS: struct xucred (LOCAL_PEERCRED) has the uid after its version; LOCAL_PEERPID is a number
    (uid,) = struct.unpack_from("I", sock.getsockopt(0, 1, 76), 4)
    (pid,) = struct.unpack("i", sock.getsockopt(0, 2, 4))
    return pid, uid


def is_inside_tool(pid: int) -> bool:
    """Whether a process is a command that an agent runs, or descends from one or from this daemon.

    The mark is looked for in every ancestor, because a command can clear its own environment; the daemon
    adopts orphans of its tools (``processes.adopt_orphans``), because a command can leave its parent. A
    process that is gone or out of sight counts as inside: the answer guards approvals. Where there is no
    ``/proc`` this cannot be seen, and the sandbox must do.
    """
    if sys.platform != "linux":
        return False
    for _ in range(MAX_ANCESTORS):
        if pid == 1:
            return False
        if pid in (0, os.getpid()):
            return True
        try:
            status = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return True
        if TOOL_MARK in _environment(pid):
            return True
        pid = int(status.rpartition(b")")[2].split()[1])
        if pid == 0:
            return False  # the top of a process tree whose root is not ours to see
    return True


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []  # another user's process (login, sudo): none of our tools
