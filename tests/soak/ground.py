"""A temporary workspace with a home, runtime, state and configuration of its own, and the processes that live there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BIN = Path(sys.executable).parent
FOLDERS = {
    "home": "HOME",
    "run": "XDG_RUNTIME_DIR",
    "state": "XDG_STATE_HOME",
    "config": "XDG_CONFIG_HOME",
}
OURS = ("CODEFORGE", "XDG_", "PYTHON", "GIT_")
GIT_USER = ("-c", "user.name=soak", "-c", "user.email=soak@localhost", "-c", "commit.gpgsign=false")


class Ground:
    """The folder of one proof. ``close`` ends what still runs there, by process id, and removes it."""

    def __init__(self, prefix: str) -> None:
        # Short, as the name of a socket has 107 bytes.
        self.base = Path(tempfile.mkdtemp(prefix=f"cf{prefix}", dir="/tmp")).resolve()
        self.root = self.base / "ws"
        self.root.mkdir(mode=0o700)
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
        for name, variable in FOLDERS.items():
            (self.base / name).mkdir(mode=0o700)
            self.env[variable] = str(self.base / name)
        self.env["CODEFORGE_RATE_LIMIT_PER_SECOND"] = "0"  # thousands of calls through one connection
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        """Git as the user of this workspace."""
        command = ["git", *GIT_USER, *arguments]
        done = subprocess.run(
            command, cwd=self.root, env=self.env, check=True, timeout=60, capture_output=True, text=True
        )
        return done.stdout

    def codeforge(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A verb of the command line."""
        command = [str(BIN / "codeforge"), *arguments]
        return subprocess.run(
            command, cwd=self.root, env=self.env, timeout=timeout, capture_output=True, text=True, check=False
        )

    @property
    def state(self) -> Path:
        """The state folder of the workspace; there is one as soon as a daemon was there."""
        return next((self.base / "state" / "codeforge").iterdir())

    def picture(self, folder: Path | None = None, skip: str = ".git") -> dict[str, str]:
        """The digest of every file, by path below the root, without ``skip``."""
        top = folder or self.root
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(top.rglob("*"))
            if path.is_file() and skip not in path.relative_to(top).parts
        }

    def git_picture(self) -> dict[str, str]:
        """The digest of every file of the user's ``.git``."""
        return self.picture(self.root / ".git", skip="")

    def processes(self) -> dict[int, str]:
        """Every living process of this ground: by its home, its folder or its command line. pid -> command line."""
        mark, found = os.fsencode(self.base), dict[int, str]()
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            folder = Path("/proc") / name
            with contextlib.suppress(OSError):
                if b") Z " in (folder / "stat").read_bytes():
                    continue
                command = (folder / "cmdline").read_bytes()
                here = mark in command or mark in (folder / "environ").read_bytes()
                if here or os.readlink(folder / "cwd").startswith(str(self.base)):
                    found[int(name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def pids(self, word: str) -> list[int]:
        """The processes whose command line holds the word, without forks of theirs that run another program in a
        moment."""
        found = {pid for pid, command in self.processes().items() if word in command}
        return [pid for pid in found if parent_of(pid) not in found]

    def tools(self) -> list[int]:
        """The commands that agents run now, whole sandbox included."""
        marked = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                if b"CODEFORGE_TOOL=1" in Path(f"/proc/{pid}/environ").read_bytes():
                    marked.append(pid)
        return marked

    def stop(self) -> bool:
        """End the daemon in order; whether it went. By signal: this process started agents, so it is no person."""
        for pid in self.pids("codeforge_ls.daemon"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        return wait_until(lambda: not self.pids("codeforge_ls.daemon"), 20)

    def close(self) -> None:
        """Stop the daemon, end the rest, remove the folder."""
        self.stop()
        for pid in self.processes():
            kill(pid)
        shutil.rmtree(self.base, ignore_errors=True)


def parent_of(pid: int) -> int:
    """The parent of a process; 0 when it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def kill(pid: int) -> bool:
    """SIGKILL; False when it was gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def wait_until(what: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true within that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return what()


@contextlib.contextmanager
def ground_with_code(name: str, files: int, *, committed: bool = True) -> Iterator[Ground]:
    """A ground with so many files of real code."""
    ground = Ground(name)
    try:
        copy_python_files(ground.root, files)
        if committed:
            ground.git("add", "-A")
            ground.git("commit", "-qm", "start")
        yield ground
    finally:
        ground.close()


def copy_python_files(root: Path, count: int) -> int:
    """Fill a folder with real code: so many files of the installed packages. Returns how many there were."""
    packages, taken = Path(sysconfig.get_paths()["purelib"]), 0
    for source in sorted(packages.rglob("*.py")):
        if taken >= count:
            break
        if source.stat().st_size < 200_000:
            target = root / source.relative_to(packages)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            taken += 1
    return taken
