"""A workspace of one test: its own home, runtime and state folders, and the processes that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2]
SHIM = PACKAGE / "codeforge_ls" / "shim.py"


class Place:
    """Folders, environment, and clean-up by process id."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "ws"
        for name in ("home", "run", "state", "config", "ws"):
            (base / name).mkdir(mode=0o700)
        self.env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("CODEFORGE", "XDG_", "PYTHON"))
        } | {
            "HOME": str(base / "home"),
            "XDG_RUNTIME_DIR": str(base / "run"),
            "XDG_STATE_HOME": str(base / "state"),
            "XDG_CONFIG_HOME": str(base / "config"),
        }
        self.git(self.root)

    @staticmethod
    def git(folder: Path) -> None:
        subprocess.run(["git", "init", "-q", str(folder)], check=True, timeout=20)

    def shim(self, role: str, *options: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[bytes]:
        """A front end as an agent starts it."""
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(SHIM), role, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd or self.root,
            env=self.env | env,
        )

    def daemon(self, root: Path | None = None, *options: str, **env: str) -> subprocess.Popen[bytes]:
        """A daemon as a front end starts it, but as our child."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "codeforge_ls.daemon", "--root", str(root or self.root), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=self.env | env,
        )

    @property
    def sockets(self) -> list[Path]:
        return sorted((self.base / "run" / "codeforge").glob("*.sock"))

    def daemons(self) -> list[int]:
        """The pids of daemons with this place's folders, found in /proc."""
        return [pid for pid in self.processes() if b"codeforge_ls.daemon" in _read(f"/proc/{pid}/cmdline")]

    def processes(self) -> list[int]:
        """Every living process that carries this place's home in its environment."""
        mark = f"HOME={self.base / 'home'}".encode()
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return [
            pid
            for pid in pids
            if mark in _read(f"/proc/{pid}/environ").split(b"\0")
            and b") Z " not in _read(f"/proc/{pid}/stat")
        ]

    def wait(self, what: Any, seconds: float = 15.0) -> Any:
        """Poll until ``what()`` is true; fails after so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if result := what():
                return result
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s; daemon said: {self.daemon_log()}")

    def daemon_log(self) -> str:
        return "".join(path.read_text() for path in (self.base / "state").rglob("daemon.stderr"))

    def clear(self) -> None:
        """End all of them; those too that one has started just now, and the last write of each."""
        end = time.monotonic() + 5
        while (pids := set(self.processes()) - {os.getpid()}) and time.monotonic() < end:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


class Line:
    """A raw connection to a daemon's socket."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(path))
        self.file = self.sock.makefile("rwb")

    def hello(self, **changes: Any) -> dict[str, Any]:
        fields = {"role": "cli", "protocol": 1, "cwd": "/", "pid": os.getpid(), "version": "0.1.0"} | changes
        return self.ask(fields)

    def ask(self, message: Any) -> dict[str, Any]:
        self.file.write(json.dumps(message).encode() + b"\n")
        self.file.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        line = self.file.readline()
        assert line, "the daemon closed the connection"
        return json.loads(line)

    def close(self) -> None:
        self.file.close()
        self.sock.close()


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def places(base: Path) -> Iterator[Place]:
    place = Place(base)
    try:
        yield place
    finally:
        place.clear()
