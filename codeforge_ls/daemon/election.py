"""The election of one daemon for one workspace: two locks, and a socket that appears once it answers."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path

from codeforge_ls import __version__

DRAIN_WAIT = 15.0  # seconds a newcomer waits for a predecessor that is leaving (it has 10 to do so)
STATE_LOCK = "daemon.lock"


class NotElected(Exception):
    """Another daemon serves the workspace. ``report`` is what a waiting front end is told."""

    def __init__(self, report: str) -> None:
        super().__init__(report)
        self.report = report


class Lock:
    """An exclusive ``flock`` on a file that is never removed. It ends with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether it is ours now; never waits."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def note(self, **facts: str | int) -> None:
        """Write down who holds it, for people and for front ends that look elsewhere."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(facts).encode(), 0)

    def holder(self) -> dict[str, object]:
        """What the holder noted; empty when nothing readable is there."""
        try:
            facts = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def release(self) -> None:
        """Give it up."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Claim:
    """The right to serve one workspace: a lock in the runtime folder, one in the state folder, the socket.

    It is held until the process ends: a thread that hangs may still be writing.

    The second lock is there because two runtime folders (an editor's, a bare login's) share one state.
    """

    def __init__(self, socket_path: Path | None, state: Path) -> None:
        self.path = socket_path
        self.socket: socket.socket | None = None
        self._runtime = Lock(socket_path.with_suffix(".lock")) if socket_path else None
        self._state = Lock(state / STATE_LOCK)
        self._inode: tuple[int, int] | None = None

    def win(self) -> None:
        """Take both locks and open the socket. Raises ``NotElected``; waits for a predecessor that drains."""
        deadline = time.monotonic() + DRAIN_WAIT
        while not self._take_both():
            if time.monotonic() > deadline:
                raise NotElected(
                    f"error Another daemon ({self._state.holder()}) holds this workspace silently."
                )
            time.sleep(0.05)
        self._state.note(pid=os.getpid(), version=__version__, socket=str(self.path or ""))
        if self.path is not None:
            self.socket = self._listen(self.path)

    def _take_both(self) -> bool:
        if self._runtime is not None and self.path is not None and not self._runtime.take():
            if _answers(self.path):
                raise NotElected("served")
            return False
        if self._state.take():
            return True
        if self._runtime is not None:
            self._runtime.release()
        self._give_way()
        return False

    def _give_way(self) -> None:
        """The state is held by somebody with another runtime folder, or by one who is just leaving."""
        holder = self._state.holder()
        path, pid = str(holder.get("socket", "")), holder.get("pid")
        if not path and isinstance(pid, int) and _lives(pid):
            raise NotElected(f"error An embedded session (pid {pid}) holds this workspace; end it first.")
        if path and path != str(self.path) and _answers(Path(path)):
            if self._runtime is not None:
                raise NotElected(f"elsewhere {path}")
            raise NotElected(
                f"error A daemon (pid {pid}) serves this workspace; end it: codeforge daemon stop"
            )

    def _listen(self, path: Path) -> socket.socket:
        """A listening socket under its final name; whoever can connect is answered."""
        beside = f"{path}.{os.getpid()}"
        listening = socket.socket(socket.AF_UNIX)
        umask = os.umask(0o177)
        try:
            with contextlib.suppress(FileNotFoundError):
                Path(beside).unlink()
            listening.bind(beside)
        finally:
            os.umask(umask)
        listening.listen(128)
        listening.setblocking(False)
        found = os.lstat(beside)
        self._inode = (found.st_dev, found.st_ino)
        Path(beside).rename(path)
        return listening

    def remove_socket(self) -> None:
        """Take the socket's file away, if it is still ours, so that nobody new connects."""
        if self.path is None or self._inode is None:
            return
        with contextlib.suppress(FileNotFoundError):
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self._inode:
                self.path.unlink()
        self._inode = None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
