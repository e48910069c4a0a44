"""Opening the folder of a path below a root without following a link: one call of the kernel, or part by part.

A part that was swapped for a link since the path was judged makes the operation fail, not go astray.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import sys
from collections.abc import Callable
from functools import cache

# O_PATH (Linux) also passes folders that may be crossed but not listed.
_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPENAT2 = 437  # the same number on every architecture of Linux but alpha
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08  # linux/openat2.h
_TRIES = 8  # EAGAIN: something was renamed meanwhile; then part by part


class _OpenHow(ctypes.Structure):
    """``struct open_how`` of ``openat2(2)``."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_parent(root: str, path: str, *, create: bool = False) -> tuple[int, str]:
    """A descriptor of the folder that holds ``path`` (relative, no ``..``) below ``root``, and the last part of it.

    It serves to work on names in that folder, which need not be readable for that. With ``create`` missing folders are
    made. Raises ``OSError``: ``ELOOP`` or ``ENOTDIR`` where a part is a link or a file, ``EXDEV`` where it would leave.
    """
    above, _, name = path.rpartition("/")
    top = os.open(root, _FLAGS)
    try:
        return _open_folder(top, above, create=create), name
    finally:
        os.close(top)


def _open_folder(top: int, path: str, *, create: bool) -> int:
    if not path:
        return os.dup(top)
    if has_openat2():
        try:
            return _openat2(top, path)
        except FileNotFoundError:
            if not create:
                raise
        except BlockingIOError:
            pass  # EAGAIN, again and again
    return _by_parts(top, path.split("/"), create=create)


@cache
def has_openat2() -> bool:
    """Whether this kernel has the call and lets us use it (old kernels and some containers do not)."""
    if sys.platform != "linux" or platform.machine() == "alpha":
        return False
    try:
        os.close(_openat2(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), ".", own=True))
    except OSError:
        return False
    return True


@cache
def _syscall() -> Callable[..., int]:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    call.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
    return call


def _openat2(top: int, path: str, *, own: bool = False) -> int:
    how = _OpenHow(_FLAGS, 0, _BENEATH | _NO_MAGICLINKS | _NO_SYMLINKS)
    name = os.fsencode(path)
    try:
        for _ in range(_TRIES):
            found = _syscall()(_OPENAT2, top, name, ctypes.byref(how), ctypes.sizeof(how))
            if found >= 0:
                return int(found)
            if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
                break
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    finally:
        if own:
            os.close(top)


def _by_parts(top: int, parts: list[str], *, create: bool) -> int:
    folder = os.dup(top)
    try:
        for part in parts:
            if part in ("", ".."):  # an absolute path, or one that leaves
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), part)
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            inner = os.open(part, _FLAGS, dir_fd=folder)
            os.close(folder)
            folder = inner
    except BaseException:
        os.close(folder)
        raise
    return folder
