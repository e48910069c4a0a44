"""Landlock: what a command may read and write, where namespaces are not to be had (Linux 6.2, no privilege needed).

Rights hold for a folder and all below it; none can be taken away again inside. So where something protected lies in a
folder, the rights go to its other entries one by one, and nothing new can be made directly in that folder: in the
root of a workspace, which holds ``.git``, commands change what is there and create nothing beside it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from codeforge_ls.sandbox import seccomp

OLDEST = 3  # the first version that holds truncate(2): before it, a command could empty any file of the user
_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, the same on every machine
_VERSION, _BENEATH = 1, 1
_READ_FILE = 1 << 2
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_WRITE = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14))
_TCP = 3  # bind and connect, from version 4
_SCOPED = 3  # abstract sockets and signals, from version 6
_NO_NEW_PRIVS, _DROP_FROM_BOUNDING_SET = 38, 24
_CAPABILITY_VERSION = 0x20080522  # 3, of capset(2)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def version() -> int:
    """The version of Landlock in this kernel, 0 for none."""
    try:
        return _call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except OSError:
        return 0


def problem() -> str:
    """Why it cannot be used here; empty if it can."""
    found = version()
    if not seccomp.supported():
        return "seccomp is not known for this machine"
    if not found:
        return "this kernel has no Landlock"
    if found < OLDEST:
        return f"Landlock has version {found} here; {OLDEST} is needed (Linux 6.2)"
    return ""


@dataclass(frozen=True)
class Rights:
    """What a command may do. All folders and programs may be listed and run; ``closed`` files may not be read."""

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    network: bool

    def take(self) -> None:
        """Restrict this thread, and all it starts, to these rights, for good. Raises ``OSError``."""
        abi = version()
        handled = _WRITE | _READ_FILE
        network = _TCP if abi >= 4 and not self.network else 0
        attributes = struct.pack("QQQ", handled, network, _SCOPED if abi >= 6 else 0)
        size = 24 if abi >= 6 else 16 if abi >= 4 else 8
        ruleset = _call(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
        try:
            for paths, access in ((self.readable, _READ_FILE), (self.writable, _WRITE | _READ_FILE)):
                for path in paths:
                    _allow(ruleset, path, access)
            for name in _DEVICES:
                _allow(ruleset, f"/dev/{name}", _WRITE_FILE | _READ_FILE)
            _drop_capabilities()
            _libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
            _call(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
        finally:
            os.close(ruleset)
        seccomp.apply(network=self.network)


def _drop_capabilities() -> None:
    """Landlock holds root too, but not what root may do beside files: read the memory of others, load modules."""
    libc = _libc()
    for capability in range(64):
        if libc.prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0):
            break  # the kernel knows no more of them, or there is nothing that we could drop
    header, none = struct.pack("Ii", _CAPABILITY_VERSION, 0), bytes(24)
    if libc.capset(header, none):
        raise OSError(ctypes.get_errno(), "the capabilities cannot be dropped")


def without(top: str, closed: Iterable[str]) -> Iterator[str]:
    """``top``, or those of its entries, at any depth, that together are all of it but ``closed`` (which may be absent).

    Links are left out: a right belongs to what a link leads to, which has its own place.
    """
    below = top.rstrip("/") + "/"
    inside = [place for place in closed if place == top or place.startswith(below)]
    if not inside:
        yield top
    elif top not in inside:
        try:
            entries = list(os.scandir(top))
        except OSError:
            return
        for entry in entries:
            if not entry.is_symlink():
                yield from without(entry.path, inside)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # gone meanwhile, or not ours to see: no right
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _READ_FILE | _WRITE_FILE | _TRUNCATE
        rule = struct.pack("=Qi", access, descriptor)
        _call(_ADD, ctypes.c_int(ruleset), ctypes.c_int(_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc().syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
