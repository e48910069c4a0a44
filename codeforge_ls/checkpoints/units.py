"""Units: the workspace and every repository nested in it, each with a tree of its own and a stat cache."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from codeforge_ls import git
from codeforge_ls.checkpoints.names import joined, shown
from codeforge_ls.checkpoints.shadow import NOW, Shadow
from codeforge_ls.checkpoints.stamps import Stamps, file_signature

log = logging.getLogger(__name__)

GITLINK = b"160000"
MAX_UNSAVED = 100  # paths that are cheaper to read again than all stamps are to write
MAX_NAME = 4096  # bytes of a reference's file that are read


@dataclass(frozen=True)
class UserIndex:
    """What the user's own repository says: the paths it tracks, and which of them are submodules."""

    tracked: frozenset[bytes] = frozenset()
    submodules: frozenset[bytes] = frozenset()


@dataclass
class Cache:
    """What one process need not read again, by the key of a unit."""

    stamps: dict[str, Stamps] = field(default_factory=dict)
    users: dict[str, tuple[bytes, UserIndex]] = field(default_factory=dict)

    def flush(self, shadow: Shadow) -> None:
        """Write down what is not yet. Under the lock."""
        for key, stamps in self.stamps.items():
            if stamps.unsaved:
                stamps.save(shadow.own / f"stamps-{key}")


class Unit:
    """One picture over one folder. ``name`` is its path in the workspace, empty for the workspace itself; ``part``
    tells a picture of a part of it from that of the whole."""

    def __init__(self, shadow: Shadow, root: bytes, name: bytes, part: str = "") -> None:
        self.shadow = shadow
        self.name = name
        self.folder = joined(root, name)
        self.key = (hashlib.sha256(name).hexdigest()[:16] if name else "root") + part
        self.reference = NOW + self.key
        self._stamps = shadow.own / f"stamps-{self.key}"
        self._user = shadow.own / f"user-{self.key}"

    def take(self, cache: Cache) -> Stamps:
        """What is known of the files since the last snapshot; out of the cache until it is kept again."""
        stamps = cache.stamps.pop(self.key, None)
        if stamps is not None and stamps.file == file_signature(self._stamps):
            return stamps
        return Stamps.load(self._stamps)

    def keep(self, stamps: Stamps, cache: Cache) -> None:
        """For the next snapshot; only once their tree is stored. A few changes are not written down yet: whoever
        comes after a crash finds them again."""
        cache.stamps[self.key] = stamps
        if stamps.unsaved > MAX_UNSAVED:
            stamps.save(self._stamps)

    def listed(self) -> list[bytes]:
        """The paths that are not ignored; a nested repository ends with a slash."""
        exclude = self._user_exclude()
        more = [f"--exclude-from={os.fsdecode(exclude)}"] if exclude else []
        folder = os.fsdecode(self.folder)
        # Without an index every file counts as untracked.
        environment = {"GIT_WORK_TREE": folder, "GIT_INDEX_FILE": str(self.shadow.own / "none")}
        output = self.shadow.git(
            "ls-files", "-z", "--others", "--exclude-standard", *more, folder=Path(folder), environment=environment
        )  # fmt: skip
        return output.split(b"\0")[:-1]

    def ignored(self, paths: list[bytes]) -> set[bytes]:
        """Which of these paths the ignore files leave out as they are now."""
        if not paths:
            return set()
        folder = os.fsdecode(self.folder)
        output = self.shadow.git(
            "check-ignore", "-z", "--stdin", "--no-index", folder=Path(folder), stdin=b"\0".join(paths) + b"\0",
            accept=(0, 1), environment={"GIT_WORK_TREE": folder},
        )  # fmt: skip
        return set(output.split(b"\0")[:-1])

    def user_index(self, cache: Cache) -> UserIndex:
        """What the user tracks here, although ignored perhaps; nothing when there is no readable repository.

        Their git is asked only when the file of their index is another one than the last time.
        """
        repository = git.git_folder(Path(os.fsdecode(self.folder)))
        if repository is None:
            return UserIndex()
        signature = b"%r" % (file_signature(repository / "index"),)
        if (cached := cache.users.get(self.key)) and cached[0] == signature:
            return cached[1]
        found = self._user_index(repository, signature)
        cache.users[self.key] = signature, found
        return found

    def _user_index(self, repository: Path, signature: bytes) -> UserIndex:
        try:
            head, tracked, submodules = self._user.read_bytes().split(b"\0\0")
            if head == signature:
                return UserIndex(_paths(tracked), _paths(submodules))
        except (OSError, ValueError):
            pass  # never asked before
        try:
            listed = self._user_git(repository, "ls-files", "-z", "--stage")
        except git.GitFailed as error:
            log.warning(
                "The index of the repository at %s cannot be read: %s", shown(self.folder), error.message
            )
            return UserIndex()
        rows = [row.split(b"\t", 1) for row in listed.split(b"\0")[:-1]]
        found = UserIndex(
            tracked=frozenset(path for fields, path in rows if not fields.startswith(GITLINK)),
            submodules=frozenset(path for fields, path in rows if fields.startswith(GITLINK)),
        )
        partial = self._user.with_suffix(".new")
        partial.write_bytes(
            b"\0\0".join([signature, b"\0".join(found.tracked), b"\0".join(found.submodules)])
        )
        partial.replace(self._user)
        return found

    def user_head(self) -> tuple[str, str]:
        """The user's HEAD as (commit, branch), for people; empty where there is none."""
        repository = git.git_folder(Path(os.fsdecode(self.folder)))
        if repository is None:
            return "", ""
        head = _line(repository / "HEAD")
        name = head.removeprefix("ref: ").strip()
        if name == head:
            return head, ""
        if ".." in name or not name.startswith("refs/"):
            return "", ""
        commit = _line(git.common_folder(repository) / name)
        if not commit:  # packed, or there is none yet
            try:
                found = self._user_git(repository, "rev-parse", "--quiet", "--verify", "HEAD")
            except git.GitFailed:
                found = b""
            commit = found.decode().strip()
        return commit, name.removeprefix("refs/heads/")

    def _user_git(self, repository: Path, *arguments: str) -> bytes:
        # Both are named, so neither core.worktree nor the owner check of the user's repository has a say.
        folder = Path(os.fsdecode(self.folder))
        environment = {"GIT_DIR": str(repository.absolute()), "GIT_WORK_TREE": str(folder)}
        return git.call(
            folder, *arguments, accept=(0, 1), environment=environment, cancellation=self.shadow.cancellation
        )

    def _user_exclude(self) -> bytes | None:
        repository = git.git_folder(Path(os.fsdecode(self.folder)))
        if repository is None:
            return None
        exclude = git.common_folder(repository).absolute() / "info" / "exclude"
        return os.fsencode(exclude) if exclude.is_file() else None


def _paths(listed: bytes) -> frozenset[bytes]:
    return frozenset(listed.split(b"\0")) if listed else frozenset()


def _line(file: Path) -> str:
    """The one line of a file of the user's repository, "" when there is none. Nobody is waited for."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(descriptor, MAX_NAME).decode("utf-8", "backslashreplace").strip()
        finally:
            os.close(descriptor)
    except OSError:
        return ""
