"""BM25 over several segments and the newest files, some of which replace older ones: one set of statistics."""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

import bm25s
import numpy as np
import numpy.typing as npt

from codeforge_ls.index.lexical import ChunkPlace, Postings

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG when imported

K1, B = 1.5, 0.75  # Lucene's variant with the defaults of bm25s
Scores = npt.NDArray[np.float32]


class Collection:
    """Chunks of several ``Postings`` under one numbering; a chunk counts while its file is alive.

    Document frequencies and the mean length are those of the chunks that are alive, so scores do not depend on how
    the chunks are spread over segments.
    """

    def __init__(self) -> None:
        self._parts: list[Postings] = []
        self._offsets = np.zeros(1, np.int64)
        self._alive = np.zeros(0, bool)  # by chunk
        self._norms: Scores | None = None  # by chunk, for the present mean length
        self._alive_count, self._alive_length = 0, 0.0
        self._filter: tuple[Callable[[str], bool], npt.NDArray[np.bool_]] | None = None

    def set(self, parts: Sequence[Postings], alive: Iterable[npt.NDArray[np.bool_]]) -> None:
        """Take these parts; ``alive`` says of each file of each part whether it counts."""
        self._parts = list(parts)
        self._filter = None
        self._offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        flags = [living[part.places[:, 0]] for part, living in zip(parts, alive, strict=True)]
        self._alive = np.concatenate(flags) if flags else np.zeros(0, bool)
        lengths = np.concatenate([part.lengths for part in parts]) if parts else np.zeros(0, np.float32)
        self._alive_count = int(self._alive.sum())
        self._alive_length = float(lengths[self._alive].sum(dtype=np.float64))
        mean = self._alive_length / self._alive_count if self._alive_count else 1.0
        self._norms = (K1 * (1 - B + B * lengths / max(mean, 1e-9))).astype(np.float32)

    def __len__(self) -> int:
        return self._alive_count

    def _lists(self, words: Sequence[str]) -> list[tuple[npt.NDArray[np.int64], Scores]]:
        """For each word, the living chunks in which it occurs and how often."""
        found = []
        for word in words:
            chunks, weights = [], []
            for part, offset in zip(self._parts, self._offsets, strict=False):
                numbers, counts = part.list_of(word)
                if len(numbers):
                    chunks.append(numbers + offset)
                    weights.append(counts.astype(np.float32))
            every = np.concatenate(chunks) if chunks else np.zeros(0, np.int64)
            often = np.concatenate(weights) if weights else np.zeros(0, np.float32)
            living = self._alive[every]
            found.append((every[living], often[living]))
        return found

    def document_frequency(self, word: str) -> int:
        """In how many living chunks a token occurs."""
        return len(self._lists([word])[0][0])

    def idf(self, word: str) -> float:
        """Lucene's inverse document frequency of a token."""
        return self._idf(self.document_frequency(word))

    def _idf(self, frequency: int) -> float:
        return math.log(1 + (self._alive_count - frequency + 0.5) / (frequency + 0.5))

    def scores(self, words: Sequence[str]) -> Scores:
        """BM25 of every chunk for distinct words; zero where none occurs and for the dead."""
        total = int(self._offsets[-1])
        lists = [one for one in self._lists(words) if len(one[0])]
        if not lists or self._norms is None:
            return np.zeros(total, np.float32)
        data = [
            (self._idf(len(chunks)) * often / (often + self._norms[chunks])).astype(np.float32)
            for chunks, often in lists
        ]
        # The columns of the query's words are all of the matrix that this query needs.
        scorer = bm25s.BM25(k1=K1, b=B, method="lucene")
        scorer.scores = {
            "data": np.concatenate(data),
            "indices": np.concatenate([chunks for chunks, _ in lists]),
            "indptr": np.cumsum([0, *(len(one) for one in data)]),
            "num_docs": total,
        }
        scorer.nonoccurrence_array = None  # Lucene's variant has none
        result: Scores = scorer.get_scores_from_ids(list(range(len(lists))))
        return result

    def search(
        self, words: Sequence[str], count: int, wanted: Callable[[str], bool] | None = None
    ) -> list[tuple[float, ChunkPlace]]:
        """The best chunks, best first, equal ones by path and line; never one with score zero.

        What ``wanted`` says of the paths is remembered while the next searches ask with the same function.
        """
        scores = self.scores(words)
        if wanted is not None:
            scores = np.where(self._allowed(wanted), scores, 0)
        take = min(count, int(np.count_nonzero(scores)))
        if not take:
            return []
        least = -np.partition(-scores, take - 1)[take - 1]
        better = np.flatnonzero(scores > least)
        # Copies, such as licence headers, can be equal by the thousand; only those that are returned are opened.
        equal = sorted(np.flatnonzero(scores == least).tolist(), key=self._position)
        chosen = [*better.tolist(), *equal[: take - len(better)]]
        found = [(float(scores[at]), self.place(at)) for at in chosen]
        found.sort(key=lambda one: (-one[0], one[1].path, one[1].start_line))
        return found

    def _position(self, chunk: int) -> tuple[str, int]:
        part, at = self._part_of(chunk)
        file, start, _ = part.places[at].tolist()
        return part.paths[file], start

    def _allowed(self, wanted: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
        if self._filter is None or self._filter[0] is not wanted:
            flags = [
                np.fromiter(map(wanted, part.paths), bool, len(part.paths))[part.places[:, 0]]
                for part in self._parts
            ]
            self._filter = wanted, np.concatenate(flags) if flags else np.zeros(0, bool)
        return self._filter[1]

    def _part_of(self, chunk: int) -> tuple[Postings, int]:
        number = bisect_right(self._offsets, chunk) - 1
        return self._parts[number], chunk - int(self._offsets[number])

    def place(self, chunk: int) -> ChunkPlace:
        """Where a chunk of the common numbering is."""
        part, at = self._part_of(chunk)
        return part.place(at)
