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
from codeforge_ls.index.path_rules import path_weight
from codeforge_ls.index.reading import LinkCheck, Refusal, read_text

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
        found: list[tuple[float, str, bytes]] = []
        began, spent, complete = time.monotonic(), 0.0, True
        sought = [word.encode() for word in words]
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
            if wanted(path) and (data := self._data(path, unsaved)) is not None:
                score = _score(path, data, words, sought)
                if score and (len(found) < limit or score >= found[-1][0]):
                    found.append((score, path, data))
                    found.sort(key=lambda one: (-one[0], one[1]))
                    del found[limit:]
        return [(score, *_best_place(path, data, words)) for score, path, data in found], complete

    async def list_files(self) -> None:
        """List the workspace, unless that was done just now; questions that come meanwhile wait for the same list."""
        async with self._listing:
            if time.monotonic() - self._listed > LIST_SECONDS:
                listing = await asyncio.to_thread(list_files, self._root, self._limits)
                self._files = sorted(listing.files, key=lambda path: (language_of(path) in PLAIN, path))
                self._listed = time.monotonic()

    def _data(self, path: str, unsaved: Mapping[str, str]) -> bytes | None:
        if path in unsaved:
            return unsaved[path].encode("utf-8", "replace")
        read = read_text(self._root, path, self._limits, self._links)
        return None if isinstance(read, Refusal) else read[0]


def _score(path: str, data: bytes, words: Sequence[str], sought: Sequence[bytes]) -> float:
    """How well a file fits; 0 without any of the words. ``sought`` are the words in UTF-8."""
    # The lower case of bytes is that of ASCII; a word of other letters needs the text.
    low = data.lower() if all(map(str.isascii, words)) else data.decode("utf-8", "replace").lower().encode()
    counts = [low.count(word) for word in sought]
    present = sum(1 for count in counts if count)
    if not present:
        return 0.0
    # Each further occurrence counts less; a word in the path counts like another word found.
    score = present + _named(path, words) + sum(count / (count + 4) for count in counts)
    return score * path_weight(path)


def _best_place(path: str, data: bytes, words: Sequence[str]) -> tuple[ChunkPlace, str]:
    """The lines around the one with most of the words, and their text."""
    lines = data.decode("utf-8", "replace").split("\n")
    best = max(range(len(lines)), key=lambda at: sum(word in lines[at].lower() for word in words))
    start, end = max(0, best - AROUND), min(len(lines), best + AROUND + 1)
    return ChunkPlace(path, -1, start + 1, end, "", ""), "\n".join(lines[start:end])


def _named(path: str, words: Sequence[str]) -> int:
    """How many of the words are in the path."""
    low = path.lower()
    return sum(word in low for word in words)
