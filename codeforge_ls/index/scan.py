"""Search without an index: read the files themselves for the words of the query. Answers while the first build runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codeforge_ls.index.files import list_files
from codeforge_ls.index.grammars import PLAIN, language_of
from codeforge_ls.index.lexical import ChunkPlace
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.ranking import path_weight
from codeforge_ls.index.reading import LinkCheck, Source, read_source

SCAN_SECONDS = 0.5  # of reading; then the files seen so far must do
LIST_SECONDS = 5.0  # a listing is used again for so long
AROUND = 10  # lines shown above and below the best line
SLICE = 20  # files read between two looks at whether the caller is still there


class Scanner:
    """Reads the workspace for one query after the other; keeps only the list of files."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root, self._limits, self._links = root, limits, LinkCheck(root)
        self._files: list[str] = []
        self._listed = float("-inf")
        self._listing = asyncio.Lock()

    async def search(
        self,
        words: Sequence[str],
        unsaved: Mapping[str, str],
        wanted: Callable[[str], bool],
        limit: int,
    ) -> tuple[list[tuple[float, ChunkPlace, str]], bool]:
        """The best place of each file in which words occur, ``(score, place, text)``; False when time ran out."""
        await self.list_files()
        found: list[tuple[float, ChunkPlace, str]] = []
        began, spent, complete = time.monotonic(), 0.0, True
        # What is named after the query comes first, in case there is no time for the rest.
        order = sorted(self._files, key=lambda path: -_named(path, words))
        for number, path in enumerate(dict.fromkeys([*unsaved, *order])):
            if number % SLICE == 0:
                spent += time.monotonic() - began
                if spent > SCAN_SECONDS:
                    complete = False
                    break
                await asyncio.sleep(0)
                began = time.monotonic()  # what others did meanwhile is not ours
            if wanted(path) and (text := self._text(path, unsaved)) is not None:
                hit = _match(path, text, words)
                if hit:
                    found.append(hit)
        found.sort(key=lambda one: (-one[0], one[1].path))
        return found[:limit], complete

    async def list_files(self) -> None:
        """List the workspace, unless that was done just now; questions that come meanwhile wait for the same list."""
        async with self._listing:
            if time.monotonic() - self._listed > LIST_SECONDS:
                listing = await asyncio.to_thread(list_files, self._root, self._limits)
                self._files = sorted(listing.files, key=lambda path: (language_of(path) in PLAIN, path))
                self._listed = time.monotonic()

    def _text(self, path: str, unsaved: Mapping[str, str]) -> str | None:
        if path in unsaved:
            return unsaved[path]
        source = read_source(self._root, path, self._limits, self._links)
        return source.data.decode() if isinstance(source, Source) else None


def _match(path: str, text: str, words: Sequence[str]) -> tuple[float, ChunkPlace, str] | None:
    low = text.lower()
    counts = [low.count(word) for word in words]
    present = sum(1 for count in counts if count)
    if not present:
        return None
    # Each further occurrence counts less; a word in the path counts like another word found.
    score = present + _named(path, words) + sum(count / (count + 4) for count in counts)
    lines = low.split("\n")
    best = max(range(len(lines)), key=lambda at: sum(word in lines[at] for word in words))
    start, end = max(0, best - AROUND), min(len(lines), best + AROUND + 1)
    shown = "\n".join(text.split("\n")[start:end])
    return score * path_weight(path), ChunkPlace(path, -1, start + 1, end, "", ""), shown


def _named(path: str, words: Sequence[str]) -> int:
    """How many of the words are in the path."""
    low = path.lower()
    return sum(word in low for word in words)
