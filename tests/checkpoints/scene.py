"""What the checkpoint tests share: real repositories, and pictures of a tree and of a .git to compare."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind

IDENTITY = {
    "GIT_AUTHOR_NAME": "u",
    "GIT_AUTHOR_EMAIL": "u@localhost",
    "GIT_COMMITTER_NAME": "u",
    "GIT_COMMITTER_EMAIL": "u@localhost",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}


def git(folder: Path, *arguments: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=folder,
        env={**clean, **IDENTITY},
        check=True,
        capture_output=True,
        timeout=60,
    )
    return done.stdout.decode(errors="replace")


def write(path: Path, content: str | bytes, mode: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if mode is not None:
        path.chmod(mode)
    return path


def repository(folder: Path) -> Path:
    """A repository with two commits, then staged, unstaged and untracked work on top."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for number in range(6):
        write(folder / f"src/m{number}.py", f"value = {number}\n")
    write(folder / "README", "one\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    write(folder / "README", "two\n")
    git(folder, "commit", "-q", "-a", "-m", "second")
    write(folder / "src/m0.py", "staged = 1\n")
    git(folder, "add", "src/m0.py")
    write(folder / "src/m0.py", "staged = 1\nunstaged = 2\n")
    write(folder / "src/m1.py", "unstaged = 3\n")
    git(folder, "rm", "-q", "--cached", "src/m2.py")
    write(folder / "notes.txt", "untracked\n")
    return folder


def tree(root: Path) -> dict[bytes, tuple[Any, ...]]:
    """Every path outside .git folders: kind, permission bits and content."""
    found: dict[bytes, tuple[Any, ...]] = {}
    for folder, folders, names in os.walk(os.fsencode(root)):
        folders[:] = [name for name in folders if name != b".git"]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        if not folders and not names:
            found[os.path.relpath(folder, os.fsencode(root))] = ("empty folder",)
        for name in [*names, *links]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            key = os.path.relpath(path, os.fsencode(root))
            if stat.S_ISLNK(status.st_mode):
                found[key] = ("link", os.readlink(path))
            elif stat.S_ISREG(status.st_mode) and name != b".git":
                with open(path, "rb") as handle:
                    found[key] = ("file", stat.S_IMODE(status.st_mode), handle.read())
            elif name != b".git":
                found[key] = ("special",)
    return found


def dot_git(folder: Path) -> dict[str, str]:
    """Every file below a git folder (objects, refs, index, HEAD, logs, config) by its digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


async def take(checkpoints: Checkpoints, stream: str = "run:1", **more: Any) -> Checkpoint:
    return await checkpoints.create(stream, label="test", kind=CheckpointKind.ACTION, **more)
