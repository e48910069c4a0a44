"""A seccomp filter: no sockets but those of the internet (and none where the network is cut), no way around Landlock.

Sockets of the file system stay closed in any case: Landlock does not hold them, and behind them are container engines,
desktops and our own daemon.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2  # of prctl(2)
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_INTERNET = (2, 10, 16)  # AF_INET, AF_INET6, AF_NETLINK (which programs ask for the addresses of the machine)
_X32 = 0x40000000
_MACHINES = {
    "x86_64": (
        0xC000003E,
        {"socket": 41, "ptrace": 101, "mount": 165, "bpf": 321, "io_uring_setup": 425, "keyctl": 250,
         "userfaultfd": 323, "process_vm_writev": 311},
    ),
    "aarch64": (
        0xC00000B7,
        {"socket": 198, "ptrace": 117, "mount": 40, "bpf": 280, "io_uring_setup": 425, "keyctl": 219,
         "userfaultfd": 282, "process_vm_writev": 271},
    ),
}  # fmt: skip


def supported() -> bool:
    """Whether the system calls of this machine are known here."""
    return platform.machine() in _MACHINES


def apply(*, network: bool) -> None:
    """Restrict this thread and all it starts, for good. Raises ``OSError``."""
    program = _program(network=network)
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    descriptor = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(_SET_SECCOMP, _FILTER, ctypes.create_string_buffer(descriptor, len(descriptor)), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp refuses the filter")


def _program(*, network: bool) -> list[tuple[int, int, int, int]]:
    """The steps: operation, how many to skip if so, how many if not, operand. See seccomp(2)."""
    architecture, calls = _MACHINES[platform.machine()]
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    if platform.machine() == "x86_64":
        steps += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for name, number in calls.items():
        if name != "socket":
            steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    families = _INTERNET if network else ()
    steps += [(_EQUAL, 1, 0, calls["socket"]), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 16)]
    for family in families:
        steps += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    return [*steps, (_RETURN, 0, 0, _REFUSE)]
