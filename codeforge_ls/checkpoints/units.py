"""Units: the workspace and every repository nested in it, each with a private index and a stat cache."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls import git
from codeforge_ls.checkpoints.names import joined, shown
from codeforge_ls.checkpoints.shadow import NO_OBJECT, Shadow
from codeforge_ls.checkpoints.stamps import DISTRUSTED, Stamps

log = logging.getLogger(__name__)

GITLINK = "160000"


@dataclass(frozen=True)
class UserIndex:
    """What the user's own repository says: the paths it tracks, and which of them are submodules."""

    tracked: frozenset[bytes] = frozenset()
    submodules: frozenset[bytes] = frozenset()


class Unit:
    """One index over one folder. ``name`` is its path in the workspace, empty for the workspace itself."""

    def __init__(self, shadow: Shadow, root: bytes, name: bytes) -> None:
        self.shadow = shadow
        self.name = name
        self.folder = joined(root, name)
        key = hashlib.sha256(name).hexdigest()[:16] if name else "root"
        self.index = shadow.own / f"index-{key}"
        self._stamps = shadow.own / f"stamps-{key}"
        self.index.with_name(f"{self.index.name}.lock").unlink(
            missing_ok=True
        )  # the flock is ours: it is dead

    def git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """One git command on the private index of this unit."""
        environment = {"GIT_WORK_TREE": os.fsdecode(self.folder), "GIT_INDEX_FILE": str(self.index)}
        return self.shadow.git(
            *arguments, folder=Path(os.fsdecode(self.folder)), stdin=stdin, environment=environment
        )

    def load(self) -> tuple[Stamps, dict[bytes, str]]:
        """The stamps of what the index holds; when they are lost, distrusted ones and the objects of the index."""
        stamps = Stamps.load(self._stamps, self.index)
        if stamps is not None:
            return stamps, {}
        objects = {path: name for _, name, path in _staged(self.git("ls-files", "-z", "--stage"))}
        return Stamps(dict.fromkeys(objects, DISTRUSTED)), objects

    def save(self, stamps: Stamps) -> None:
        """Keep the stamps for the next snapshot; only after the last change of the index."""
        stamps.save(self._stamps, self.index)

    def forget(self) -> None:
        """Drop index and stamps; the next snapshot reads every file again."""
        self.index.unlink(missing_ok=True)
        self._stamps.unlink(missing_ok=True)

    def untracked(self) -> list[bytes]:
        """Paths that are neither in the private index nor ignored; a nested repository ends with a slash."""
        exclude = self._user_exclude()
        more = [f"--exclude-from={os.fsdecode(exclude)}"] if exclude else []
        return self.git("ls-files", "-z", "--others", "--exclude-standard", *more).split(b"\0")[:-1]

    def update(self, gone: list[bytes], stored: dict[bytes, tuple[str, str]]) -> None:
        """Take ``gone`` out of the index, then put in ``stored``: path -> (mode, object)."""
        lines = [b"0 %s\t%s\0" % (NO_OBJECT.encode(), path) for path in gone]
        lines += [
            b"%s %s\t%s\0" % (mode.encode(), name.encode(), path) for path, (mode, name) in stored.items()
        ]
        if lines:
            self.git("update-index", "-z", "--index-info", stdin=b"".join(lines))

    def tree(self) -> str:
        """Write the index as a tree; returns its name."""
        return self.git("write-tree").decode().strip()

    def user_index(self) -> UserIndex:
        """What the user tracks here, although ignored perhaps; nothing when there is no readable repository."""
        repository = git.git_folder(Path(os.fsdecode(self.folder)))
        if repository is None:
            return UserIndex()
        try:
            listed = self._user_git(repository, "ls-files", "-z", "--stage")
        except git.GitFailed as error:
            log.warning(
                "The index of the repository at %s cannot be read: %s", shown(self.folder), error.message
            )
            return UserIndex()
        rows = _staged(listed)
        return UserIndex(
            tracked=frozenset(path for mode, _, path in rows if mode != GITLINK),
            submodules=frozenset(path for mode, _, path in rows if mode == GITLINK),
        )

    def user_head(self) -> tuple[str, str]:
        """The user's HEAD as (commit, branch), for people; empty where there is none."""
        repository = git.git_folder(Path(os.fsdecode(self.folder)))
        if repository is None:
            return "", ""
        try:
            commit, branch = (
                self._user_git(repository, *asked)
                for asked in (
                    ("rev-parse", "--quiet", "--verify", "HEAD"),
                    ("symbolic-ref", "--quiet", "--short", "HEAD"),
                )
            )
        except git.GitFailed:
            return "", ""
        return commit.decode().strip(), shown(branch.strip())

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


def _staged(listed: bytes) -> list[tuple[str, str, bytes]]:
    rows = (line.split(b"\t", 1) for line in listed.split(b"\0")[:-1])
    split = ((fields.decode().split(" "), path) for fields, path in rows)
    return [(fields[0], fields[1], path) for fields, path in split]
