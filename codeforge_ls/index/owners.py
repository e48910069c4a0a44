"""Who answers for which file: CODEOWNERS, and the top authors of the latest commits, from one bounded call of git."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from pathlib import Path

from pathspec import PathSpec
from pathspec.pattern import Pattern

from codeforge_ls.git import Git, GitFailed, worktree_root
from codeforge_ls.model.base import JsonValue
from codeforge_ls.model.index import FileOwners

Rule = tuple[PathSpec[Pattern], tuple[str, ...]]

PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS")  # the first one counts
MAX_BYTES = 1 << 20
COMMITS = 2_000  # so far back the log is read
WIDE = 100  # a commit of more files is a rename, a format or a merge: it says nothing of who knows them
AUTHORS = 3  # of one file
LOG_SECONDS = 20.0
MARK = "\x01"


class Owners:
    """Lazily read, and again when HEAD or CODEOWNERS is another one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._key = ""
        self._rules: list[Rule] = []
        self._authors: dict[str, tuple[str, ...]] = {}
        self._reading = asyncio.Lock()

    async def key(self) -> str:
        """Names the present state; reads it when it is a new one."""
        async with self._reading:
            place, text = await asyncio.to_thread(_code_owners, self._root)
            repository = await asyncio.to_thread(worktree_root, self._root)
            head = ""
            if repository is not None:
                head = await Git(self._root).head()
            key = f"{head}:{place}:{hash(text)}"
            if key != self._key:
                self._rules = await asyncio.to_thread(_rules, text)
                self._authors = await self._read_log() if head else {}
                self._key = key
            return key

    async def of(self, path: str) -> FileOwners:
        """The owners of one file. Raises ``GitFailed``."""
        await self.key()
        return FileOwners(path=path, owners=self._owners(path), authors=self._authors.get(path, ()))

    async def table(self) -> dict[str, JsonValue]:
        """``{path: [owners and authors]}`` of all files that have any in the log."""
        return await asyncio.to_thread(
            lambda: {path: [*self._owners(path), *authors] for path, authors in self._authors.items()}
        )

    def _owners(self, path: str) -> tuple[str, ...]:
        for spec, owners in reversed(self._rules):  # the last pattern that matches counts
            if spec.match_file(path):
                return owners
        return ()

    async def _read_log(self) -> dict[str, tuple[str, ...]]:
        """The authors of each file, the most frequent first."""
        arguments = (
            "log", f"--max-count={COMMITS}", "--no-merges", "--no-renames", "--name-only", "-z",
            f"--format={MARK}%an <%ae>", "--relative", "HEAD", "--", ".",
        )  # fmt: skip
        try:
            output = await Git(self._root).run(*arguments, timeout=LOG_SECONDS)
        except GitFailed:
            return {}  # CODEOWNERS still answers
        return await asyncio.to_thread(_authors, output)


def _code_owners(root: Path) -> tuple[str, str]:
    for place in PLACES:
        path = root / place
        try:
            if path.is_file() and not path.is_symlink():
                return place, path.read_bytes()[:MAX_BYTES].decode("utf-8", "replace")
        except OSError:
            continue
    return "", ""


def _rules(text: str) -> list[Rule]:
    """Lines of a pattern and owners; sections of other hosts and lines without meaning are left out."""
    rules: list[Rule] = []
    for line in text.splitlines():
        pattern, *owners = line.partition(" #")[0].split() or [""]
        if not pattern or pattern.startswith(("#", "[", "^[", "!")):
            continue
        try:
            spec = PathSpec.from_lines("gitignore", [pattern])
        except ValueError:
            continue
        rules.append((spec, tuple(owners)))
    return rules


def _authors(output: bytes) -> dict[str, tuple[str, ...]]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for commit in output.decode("utf-8", "surrogateescape").split(MARK)[1:]:
        author, _, listed = commit.partition("\0")
        author = author.partition("\n")[0]
        paths = [path.lstrip("\n") for path in listed.split("\0") if path.strip("\n")]
        if len(paths) <= WIDE:
            for path in paths:
                counts[path][author] += 1
    return {
        path: tuple(
            author for author, _ in sorted(found.items(), key=lambda one: (-one[1], one[0]))[:AUTHORS]
        )
        for path, found in counts.items()
    }
