"""BM25 over chunks: a saved base segment, mapped by readers, and a small delta for files that changed since."""

from __future__ import annotations

import json
import logging
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import numpy.typing as npt

from codeforge_ls.index.tokens import path_tokens

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG when imported

FORMAT = 1
K1, B = 1.5, 0.75  # the defaults of Lucene's variant as bm25s has it; the delta must use the same
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ChunkPlace:
    """Where a searchable chunk is and what it starts with."""

    path: str
    content: int
    start_line: int
    end_line: int
    symbol: str
    kind: str


def documents(path: str, packed: bytes) -> list[list[str]]:
    """The token lists of a file's chunks as they are searched: their own words and those of the path."""
    extra = path_tokens(path)
    return [line.split() + extra for line in zlib.decompress(packed).decode().split("\n")]


def write_segment(folder: Path, rows: Iterable[tuple[str, int, list[Any], bytes]]) -> int:
    """Build a base segment in ``folder`` from ``(path, content, chunks, packed tokens)``; returns its chunks."""
    vocabulary: dict[str, int] = {}
    ids: list[list[int]] = []
    files: list[tuple[str, int]] = []
    places: list[tuple[int, int, int]] = []
    names: list[tuple[str, str]] = []
    for path, content, chunks, packed in rows:
        if not chunks:
            continue
        for (start, end, symbol, kind), words in zip(chunks, documents(path, packed), strict=True):
            ids.append([vocabulary.setdefault(word, len(vocabulary)) for word in words])
            places.append((len(files), start, end))
            names.append((symbol, kind))
        files.append((path, content))
    folder.mkdir(parents=True)
    if ids:
        index = bm25s.BM25(k1=K1, b=B)
        index.index((ids, vocabulary), show_progress=False)
        index.save(str(folder / "bm25"), show_progress=False)
    np.save(folder / "places.npy", np.array(places, dtype=np.int32).reshape(-1, 3))
    lengths = sum(map(len, ids)) / len(ids) if ids else 1.0
    about = {"format": FORMAT, "chunks": len(ids), "mean_length": lengths, "files": files, "names": names}
    (folder / "segment.json").write_text(json.dumps(about), encoding="utf-8")
    return len(ids)


class BadSegment(Exception):
    """A segment on disk cannot be used; it has to be written anew."""


class Segment:
    """A base segment, mapped from disk. ``files`` are ``(path, content)``; ``places`` are (file, start, end)."""

    def __init__(self, folder: Path) -> None:
        """Map it. Raises ``BadSegment`` when it is missing, damaged or of another format."""
        try:
            about = json.loads((folder / "segment.json").read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise BadSegment(f"format {about['format']}")
            self.files: list[tuple[str, int]] = [(path, content) for path, content in about["files"]]
            self.names: list[list[str]] = about["names"]
            self.count: int = about["chunks"]
            self.mean_length: float = about["mean_length"]
            self.places: npt.NDArray[np.int32] = np.load(folder / "places.npy", mmap_mode="r")
            self._bm25 = (
                bm25s.BM25.load(str(folder / "bm25"), mmap=True, show_progress=False) if self.count else None
            )
            self._check()
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise BadSegment(f"{folder.name}: {error}") from error

    def _check(self) -> None:
        sizes = {len(self.names), len(self.places), self.count}
        if self._bm25 is not None:
            sizes.add(int(self._bm25.scores["num_docs"]))
            pointers = self._bm25.scores["indptr"]
            if int(pointers[-1]) != len(self._bm25.scores["data"]):
                raise BadSegment("its arrays do not fit each other")
        if len(sizes) != 1:
            raise BadSegment("its parts do not fit each other")

    def scores(self, words: Sequence[str]) -> Scores:
        """BM25 of every chunk; zero where no word occurs."""
        if self._bm25 is None:
            return np.zeros(0, np.float32)
        known = [self._bm25.vocab_dict[word] for word in words if word in self._bm25.vocab_dict]
        if not known:
            return np.zeros(self.count, np.float32)
        result: Scores = self._bm25.get_scores_from_ids(known)
        return result

    def idf(self, word: str) -> float:
        """Lucene's idf of a word in this segment; that of a word in one chunk when it is unknown."""
        key = None if self._bm25 is None else self._bm25.vocab_dict.get(word)
        frequency = 1
        if self._bm25 is not None and key is not None:
            pointers = self._bm25.scores["indptr"]
            frequency = int(pointers[key + 1] - pointers[key])
        return math.log(1 + (max(self.count, frequency) - frequency + 0.5) / (frequency + 0.5))

    def place(self, chunk: int) -> ChunkPlace:
        """Where chunk number ``chunk`` is."""
        file, start, end = (int(value) for value in self.places[chunk])
        path, content = self.files[file]
        symbol, kind = self.names[chunk]
        return ChunkPlace(path, content, start, end, symbol, kind)


class Delta:
    """Chunks of files that are newer than the base segment, scored with the base's statistics."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[list[ChunkPlace], list[Counter[str]], list[int]]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def put(self, path: str, content: int, chunks: Sequence[Any], packed: bytes) -> None:
        """Add or replace a file."""
        words = documents(path, packed)[: len(chunks)]
        places = [ChunkPlace(path, content, *chunk) for chunk in chunks]
        self._files[path] = places, [Counter(one) for one in words], [len(one) for one in words]

    def drop(self, path: str) -> None:
        """Take a file out."""
        self._files.pop(path, None)

    def scores(self, words: Sequence[str], base: Segment) -> list[tuple[float, ChunkPlace]]:
        """The chunks in which a word occurs, with scores comparable to those of ``base``."""
        weights = {word: base.idf(word) for word in words}
        found: list[tuple[float, ChunkPlace]] = []
        for places, counters, lengths in self._files.values():
            for place, counter, length in zip(places, counters, lengths, strict=True):
                damp = K1 * (1 - B + B * length / base.mean_length)
                score = sum(
                    weight * counter[word] / (counter[word] + damp)
                    for word, weight in weights.items()
                    if word in counter
                )
                if score > 0:
                    found.append((score, place))
        return found
