"""BM25 over several segments and the newest files, some of which replace older ones: one set of statistics."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence

import bm25s
import numpy as np
import numpy.typing as npt

from codeforge_ls.index.lexical import ChunkPlace, Postings
from codeforge_ls.index.tokens import forms

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG when imported

K1, B = 1.5, 0.75  # Lucene's variant with the defaults of bm25s
Scores = npt.NDArray[np.float32]
FORM = 0.5  # what a grammatical form of a query's word counts beside the word itself
WIDEN = 8  # with a filter, so many times as many chunks are looked at before all are


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

    def set(self, parts: Sequence[Postings], alive: Iterable[npt.NDArray[np.bool_]]) -> None:
        """Take these parts; ``alive`` says of each file of each part whether it counts."""
        self._parts = list(parts)
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
        lists = [one for one in map(self._weighed, words) if len(one[0])]
        if not lists:
            return np.zeros(total, np.float32)
        data = [weights for _, weights in lists]
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

    def _weighed(self, word: str) -> tuple[npt.NDArray[np.int64], Scores]:
        """The living chunks that have a word or a form of it, and what it is worth in each; a form counts half."""
        assert self._norms is not None  # noqa: S101 - there are parts
        found: list[tuple[npt.NDArray[np.int64], Scores]] = []
        for form, (chunks, often) in zip(
            (word, *forms(word)), self._lists((word, *forms(word))), strict=True
        ):
            share = 1.0 if form == word else FORM
            worth = share * self._idf(len(chunks)) * often / (often + self._norms[chunks])
            found.append((chunks, worth.astype(np.float32)))
        if sum(len(chunks) > 0 for chunks, _ in found) == 1:
            return max(found, key=lambda one: len(one[0]))
        every, at = np.unique(np.concatenate([chunks for chunks, _ in found]), return_inverse=True)
        best = np.zeros(len(every), np.float32)
        np.maximum.at(best, at, np.concatenate([worth for _, worth in found]))
        return every, best

    def search(
        self, words: Sequence[str], count: int, wanted: Callable[[str], bool] | None = None
    ) -> list[tuple[float, ChunkPlace]]:
        """The best chunks, best first, equal ones by path and line; never one with score zero."""
        scores = self.scores(words)
        every = int(np.count_nonzero(scores))
        take = min(every, count if wanted is None else count * WIDEN)
        while True:
            found = self._best(scores, take, wanted)
            if len(found) >= count or take >= every:
                return found[:count]
            take = every if take >= count * WIDEN * WIDEN else min(every, take * WIDEN)

    def _best(
        self, scores: Scores, take: int, wanted: Callable[[str], bool] | None
    ) -> list[tuple[float, ChunkPlace]]:
        if not take:
            return []
        least = -np.partition(-scores, take - 1)[take - 1]
        best = np.flatnonzero(scores >= least) if least > 0 else np.flatnonzero(scores)
        found = [(float(scores[at]), self.place(int(at))) for at in best]
        if wanted is not None:
            found = [one for one in found if wanted(one[1].path)]
        found.sort(key=lambda one: (-one[0], one[1].path, one[1].start_line))
        return found

    def place(self, chunk: int) -> ChunkPlace:
        """Where a chunk of the common numbering is."""
        part = int(np.searchsorted(self._offsets, chunk, side="right")) - 1
        return self._parts[part].place(chunk - int(self._offsets[part]))
