"""A daemon that writes down each change of a file and each process it makes, and which rooms of ours were at it.

Arguments: the file to write to, then those of ``python -m codeforge_ls.daemon``. A line of JSON for each event: what,
on which path or program, and the rooms on the stack, innermost first.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
from types import FrameType
from typing import Any

PACKAGES = ("/codeforge_ls/", "/mcp_server/")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# The positions of a path and of the descriptor of its folder in the arguments of each event.
PATHS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.symlink": ((1, 2),),
    "os.link": ((1, 3),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
}
STARTS = {"subprocess.Popen", "os.posix_spawn", "os.exec", "os.system", "os.fork", "os.forkpty"}
inside = threading.local()


def rooms(frame: FrameType | None) -> list[str]:
    """The modules of ours on the stack, innermost first."""
    found: list[str] = []
    while frame is not None:
        for package in PACKAGES:
            before, here, after = frame.f_code.co_filename.rpartition(package)
            if here and "site-packages" not in before:
                module = f"{package.strip('/')}/{after}".removesuffix(".py")
                if module not in found:
                    found.append(module)
        frame = frame.f_back
    return found


def full(path: Any, folder: Any) -> str:
    """The path, absolute where its folder is known, also for a descriptor in its place."""
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    name = os.fsdecode(path) if isinstance(path, (str, bytes)) else str(path)
    if isinstance(folder, int) and folder >= 0 and not name.startswith("/"):
        return f"{os.readlink(f'/proc/self/fd/{folder}')}/{name}"
    return name


def seen(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """What an event changes or starts; nothing when it does neither."""
    if event == "open":
        path, _, flags = arguments
        return (
            [full(path, None)]
            if isinstance(flags, int) and flags & WRITING and not isinstance(path, int)
            else []
        )
    if event in PATHS:
        return [full(arguments[at], arguments[of] if of is not None else None) for at, of in PATHS[event]]
    if event in STARTS:
        return [" ".join(os.fsdecode(word) for word in arguments[1]) if len(arguments) > 1 else event]
    return []


def main() -> None:
    """Listen, then be the daemon."""
    log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if (event != "open" and event not in PATHS and event not in STARTS) or getattr(inside, "busy", False):
            return
        inside.busy = True
        try:
            for what in seen(event, arguments):
                line = {"event": event, "what": what, "rooms": rooms(sys._getframe(1))}
                os.write(log, json.dumps(line).encode("utf-8", "replace") + b"\n")
        finally:
            inside.busy = False

    sys.addaudithook(hook)
    runpy.run_module("codeforge_ls.daemon", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
