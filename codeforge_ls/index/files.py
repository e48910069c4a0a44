"""Which files belong to the workspace: git's own list, else a walk; ignore rules, caps, and what was left out."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from codeforge_ls.git import GitFailed, finished
from codeforge_ls.index.limits import MAX_DEPTH, Limits
from codeforge_ls.index.reading import beyond_link

if TYPE_CHECKING:
    from pathspec import PathSpec
    from pathspec.pattern import Pattern

log = logging.getLogger(__name__)

IGNORE_FILE = ".codeforgeignore"
GIT_SECONDS = 120.0
MAX_LISTED_SKIPS = 10_000  # more are counted, not listed
# Never source of the project, even where somebody forgot to ignore them.
ALWAYS_SKIPPED = {
    ".git",
    "node_modules",
    "__pycache__",
    ".venv",
    ".tox",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
}
# Without git nobody says what is built and what is written.
SKIPPED_WITHOUT_GIT = ALWAYS_SKIPPED | {
    "vendor",
    "dist",
    "build",
    "target",
    "venv",
    ".hg",
    ".svn",
    ".idea",
    ".cache",
}


@dataclass
class Listing:
    """The files to index, ``path -> (mtime_ns, size)``, and the ones left out, ``path -> (reason, size)``."""

    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    skipped: dict[str, tuple[str, int]] = field(default_factory=dict)
    not_listed: int = 0  # skips beyond MAX_LISTED_SKIPS
    by_git: bool = False

    def skip(self, path: str, reason: str, size: int = 0) -> None:
        """Note a file that is left out."""
        if len(self.skipped) < MAX_LISTED_SKIPS:
            self.skipped[path.encode("utf-8", "backslashreplace").decode()] = (reason, size)
        else:
            self.not_listed += 1


def list_files(root: Path, limits: Limits) -> Listing:
    """List the workspace. Blocking: call it from a worker. A missing root gives an empty listing."""
    listing = Listing()
    names = _git_names(root, limits.exclude)
    listing.by_git = names is not None
    candidates = sorted(set(names)) if names is not None else _walk(root, limits.exclude)
    real_root = os.path.realpath(root)
    inside: dict[str, bool] = {}
    ignored = IgnoreFiles(root, limits.exclude)
    for path in candidates:
        if not _acceptable_name(path, listing) or ignored.matches(path):
            continue
        folder = path.rpartition("/")[0]
        if folder not in inside:
            real = os.path.realpath(root / folder)
            inside[folder] = real == real_root or real.startswith(real_root.rstrip("/") + "/")
        if not inside[folder]:
            listing.skip(path, "outside the workspace")
            continue
        if len(listing.files) >= limits.max_files:
            listing.skip(path, f"over the limit of {limits.max_files} files")
            continue
        _admit(root, path, listing)
    return listing


def _acceptable_name(path: str, listing: Listing) -> bool:
    parts = path.split("/")
    if not ALWAYS_SKIPPED.isdisjoint(parts[:-1]) or parts[-1] == ".git":
        return False
    if len(parts) - 1 > MAX_DEPTH:
        listing.skip(path, f"deeper than {MAX_DEPTH} folders")
        return False
    try:
        path.encode()
    except UnicodeEncodeError:
        listing.skip(path, "name is not UTF-8")
        return False
    return True


def _admit(root: Path, path: str, listing: Listing) -> None:
    try:
        facts = os.lstat(f"{root}/{path}")
    except OSError:
        return  # listed by git but deleted from disk
    if stat.S_ISREG(facts.st_mode):
        listing.files[path] = (facts.st_mtime_ns, facts.st_size)
    elif stat.S_ISLNK(facts.st_mode):
        listing.skip(path, "symlink", facts.st_size)
    elif stat.S_ISDIR(facts.st_mode):
        listing.skip(path, "another repository")
    else:
        listing.skip(path, "not a regular file")


class IgnoreFiles:
    """The ``.codeforgeignore`` files of a workspace, and ``index.exclude``: git's pattern language.

    Each file speaks of its own folder, ``exclude`` of the root.
    """

    def __init__(self, root: Path, exclude: Sequence[str] = ()) -> None:
        self._root = root
        self._exclude = _patterns(exclude)
        self._rules: dict[str, list[tuple[int, PathSpec[Pattern]]]] = {}

    def matches(self, path: str) -> bool:
        """Whether one of the ignore files above ``path``, or the setting, excludes it."""
        if self.excluded(path):
            return True
        rules = self._above(path.rpartition("/")[0])
        return any(spec.match_file(path[start:]) for start, spec in rules)

    def excluded(self, path: str) -> bool:
        """Whether the setting excludes ``path``."""
        return self._exclude is not None and self._exclude.match_file(path)

    def _above(self, folder: str) -> list[tuple[int, PathSpec[Pattern]]]:
        """The rules in this folder and those above it, the outermost first; where the paths they speak of begin."""
        if folder not in self._rules:
            rules = self._above(folder.rpartition("/")[0]) if folder else []
            spec = read_ignore_file(self._root / folder / IGNORE_FILE)
            self._rules[folder] = [*rules, (len(folder) + bool(folder), spec)] if spec else rules
        return self._rules[folder]


def read_ignore_file(file: Path) -> PathSpec[Pattern] | None:
    """The patterns of an ignore file; None when there is none or it cannot be read."""
    try:
        # O_NONBLOCK: opening a pipe must not wait for a writer
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, encoding="utf-8", errors="replace", closefd=False) as opened:
            return _patterns(opened.read().splitlines())
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _patterns(lines: Sequence[str]) -> PathSpec[Pattern] | None:
    """The patterns of these lines; None when there are none or they cannot be read."""
    if not lines:
        return None
    from pathspec import PathSpec

    try:
        return PathSpec.from_lines("gitignore", lines)
    except ValueError:
        return None


def ignored_paths(root: Path, paths: Iterable[str], exclude: Sequence[str] = ()) -> set[str]:
    """Which of ``paths`` the ignore rules and ``exclude`` leave out; they need not exist.

    Tracked files are never ignored by git.
    """
    wanted = list(paths)
    own = IgnoreFiles(root, exclude)
    result = {
        path
        for path in wanted
        if own.matches(path) or beyond_link(root, path) or not _acceptable_name(path, Listing())
    }
    rest = [path for path in wanted if path not in result]
    if not rest:
        return result
    answer = names = None
    if _is_worktree(root):
        answer = _git(root, "check-ignore", "-z", "--stdin", data="\0".join(rest).encode() + b"\0")
        if answer is None:
            names = _git_names(root)
    if answer is None and names is None:
        walk_rules = _WalkRules(root)
        return result | {path for path in rest if walk_rules.excludes(path)}
    if answer is None:
        # One path that git refuses fails the whole question; then only what git lists is let in.
        return result | set(rest).difference(names or ())
    return result | {os.fsdecode(name) for name in answer.split(b"\0") if name}


def ignored_folders(root: Path) -> set[str] | None:
    """The topmost folders that git ignores and in which it tracks nothing; None where git cannot tell."""
    if not _is_worktree(root):
        return None
    listed = _git(root, "ls-files", "-oi", "--directory", "--exclude-standard", "-z")
    if listed is None:
        return None
    return {os.fsdecode(name[:-1]) for name in listed.split(b"\0") if name.endswith(b"/")}


def ignore_rule(root: Path, path: str) -> str:
    """The ignore file, line and pattern by which git ignores a path, ``file:line: pattern``; empty when it does not."""
    data = os.fsencode(path) + b"\0"
    answer = _git(root, "check-ignore", "-v", "-z", "--stdin", data=data) if _is_worktree(root) else None
    parts = [os.fsdecode(part) for part in answer.split(b"\0")] if answer else []
    return f"{parts[0]}:{parts[1]}: {parts[2]}" if len(parts) > 3 else ""


def _git_names(root: Path, exclude: Sequence[str] = ()) -> list[str] | None:
    if not _is_worktree(root):
        return None
    # Known to git already, so that it does not walk what is excluded; tracked files are left out later.
    own = [f"--exclude={pattern}" for pattern in exclude]
    listed = _git(root, "ls-files", "-co", "--exclude-standard", *own, "-z")
    return None if listed is None else [os.fsdecode(name).rstrip("/") for name in listed.split(b"\0") if name]


def _is_worktree(root: Path) -> bool:
    """Whether ``root`` is the top of a worktree; below one, an outer ignore rule could hide everything."""
    if not (root / ".git").exists():
        return False
    top = _git(root, "rev-parse", "--show-toplevel")
    return top is not None and os.path.realpath(os.fsdecode(top.rstrip(b"\n"))) == os.path.realpath(root)


def _git(root: Path, *arguments: str, data: bytes = b"") -> bytes | None:
    """Run git without the caller's GIT_* and without hooks of the repository; None when it fails.

    ``check-ignore`` ends with 1 when nothing matches.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    # core.fsmonitor may name a program that the repository chose.
    command = ["git", "-C", str(root), "-c", "core.fsmonitor=false", *arguments]
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        ) as process:
            try:
                output, _ = finished(process, root, arguments[0], data, GIT_SECONDS)
            finally:
                process.kill()  # nothing, where it has ended
    except GitFailed as error:
        log.warning("%s The files are listed without git.", error.text)
        return None
    except (OSError, subprocess.TimeoutExpired):
        return None
    return output if process.returncode in {0, 1} else None


class _WalkRules:
    """Ignore rules where there is no git: built-in folders and every ``.gitignore`` on the way down."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._specs: dict[str, PathSpec[Pattern] | None] = {}

    def excludes(self, path: str) -> bool:
        parts = PurePosixPath(path).parts
        if not SKIPPED_WITHOUT_GIT.isdisjoint(parts[:-1]):
            return True
        return any(self.excludes_here("/".join(parts[:at]), parts[at:]) for at in range(len(parts)))

    def excludes_here(self, folder: str, rest: tuple[str, ...]) -> bool:
        if folder not in self._specs:
            self._specs[folder] = read_ignore_file(self._root / folder / ".gitignore")
        spec = self._specs[folder]
        return spec is not None and spec.match_file("/".join(rest))


def _walk(root: Path, exclude: Sequence[str]) -> Iterator[str]:
    rules, own = _WalkRules(root), IgnoreFiles(root, exclude)
    for folder, folders, names in os.walk(root, followlinks=False):
        relative = os.path.relpath(folder, root)
        prefix = "" if relative == "." else relative + "/"
        if prefix.count("/") > MAX_DEPTH:
            folders.clear()
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED_WITHOUT_GIT
            and not rules.excludes(f"{prefix}{name}/x")
            and not own.matches(f"{prefix}{name}/x")
        )
        yield from (prefix + name for name in sorted(names) if not rules.excludes(prefix + name))
