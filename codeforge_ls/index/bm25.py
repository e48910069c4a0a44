"""BM25 over several segments and the newest files, some of which replace older ones: one set of statistics."""

from __future__ import annotations

import importlib
import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.lexical import ChunkPlace, Postings
from codeforge_ls.index.tokens import forms

K1, B = 1.5, 0.75  # Lucene's variant with the defaults of bm25s
Scores = npt.NDArray[np.float32]
FORM = 0.5  # what a grammatical form of a query's word counts beside the word itself
FILE_K1, FILE_B = 1.2, 0.75  # of whole files
CHUNK_SHARES = np.array([1.0, 0.5, 0.25], np.float32)  # what the best chunks of a file count
MOST_TIMES = 3  # a word that a text says more often counts no more
LONG = 24  # words from which on their forms are not looked up


@cache
def load_bm25s() -> ModuleType:
    """The library, with scipy behind it: half a second that an answer without an index need not wait for."""
    library = importlib.import_module("bm25s")
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG when imported
    return library


@dataclass(frozen=True)
class FileEvidence:
    """What speaks for a file: its best chunk, its best chunks' scores summed, and the score of the file as a whole."""

    place: ChunkPlace
    chunks: float
    whole: float


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
        self._files = np.zeros(0, np.int64)  # by chunk, the number of its file
        self._lengths = np.zeros(0, np.float32)  # by chunk, 0 for the dead
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
        firsts = np.cumsum([0, *(len(part.contents) for part in parts)], dtype=np.int64)
        numbered = [part.places[:, 0] + first for part, first in zip(parts, firsts, strict=False)]
        self._files = np.concatenate(numbered) if numbered else np.zeros(0, np.int64)
        self._lengths = np.where(self._alive, lengths, 0).astype(np.float32)

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

    def rarity(self, word: str) -> float:
        """Inverse document frequency between 0 and 1, as ``WordVectors.rarity``: 1 for a token that occurs nowhere."""
        return math.log1p(self._alive_count / (1 + self.document_frequency(word))) / math.log1p(
            max(1, self._alive_count)
        )

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
        scorer = load_bm25s().BM25(k1=K1, b=B, method="lucene")
        scorer.scores = {
            "data": np.concatenate(data),
            "indices": np.concatenate([chunks for chunks, _ in lists]),
            "indptr": np.cumsum([0, *(len(one) for one in data)]),
            "num_docs": total,
        }
        scorer.nonoccurrence_array = None  # Lucene's variant has none
        result: Scores = scorer.get_scores_from_ids(list(range(len(lists))))
        return result

    def files(self, counts: Mapping[str, int]) -> list[FileEvidence]:
        """What the words of a long text, and how often each is in it, say for each file in which one occurs."""
        if self._norms is None or not self._alive_count:
            return []
        every = int(self._files.max()) + 1
        lengths = np.bincount(self._files, self._lengths, every)
        living = np.count_nonzero(lengths)
        damp = FILE_K1 * (1 - FILE_B + FILE_B * lengths * living / max(float(lengths.sum()), 1e-9))
        chunk_scores = np.zeros(len(self._files), np.float32)
        whole = np.zeros(every)
        for word, count in counts.items():
            times = min(count, MOST_TIMES)
            chunks, worth = self._weighed(word, with_forms=len(counts) <= LONG)
            chunk_scores[chunks] += times * worth
            chunks, often = self._lists([word])[0]
            summed = np.bincount(self._files[chunks], often, every)
            having = np.count_nonzero(summed)
            idf = math.log(1 + (living - having + 0.5) / (having + 0.5))
            whole += times * idf * summed / (summed + damp)
        found = np.flatnonzero(chunk_scores)
        if not len(found):
            return []
        found = found[np.lexsort((found, -chunk_scores[found], self._files[found]))]
        firsts = np.unique(self._files[found], return_index=True)[1]
        best: list[FileEvidence] = []
        for first, end in zip(firsts.tolist(), [*firsts[1:].tolist(), len(found)], strict=True):
            top = chunk_scores[found[first : min(end, first + len(CHUNK_SHARES))]]
            sum_of_best = float((top * CHUNK_SHARES[: len(top)]).sum())
            chunk = int(found[first])
            best.append(FileEvidence(self.place(chunk), sum_of_best, float(whole[self._files[chunk]])))
        return best

    def _weighed(self, word: str, *, with_forms: bool = True) -> tuple[npt.NDArray[np.int64], Scores]:
        """The living chunks that have a word or a form of it, and what it is worth in each; a form counts half."""
        assert self._norms is not None  # noqa: S101 - there are parts
        found: list[tuple[npt.NDArray[np.int64], Scores]] = []
        asked = (word, *forms(word)) if with_forms else (word,)
        for form, (chunks, often) in zip(asked, self._lists(asked), strict=True):
            share = 1.0 if form == word else FORM
            worth = share * self._idf(len(chunks)) * often / (often + self._norms[chunks])
            found.append((chunks, worth.astype(np.float32)))
        if sum(len(chunks) > 0 for chunks, _ in found) <= 1:
            return max(found, key=lambda one: len(one[0]))
        every, at = np.unique(np.concatenate([chunks for chunks, _ in found]), return_inverse=True)
        best = np.zeros(len(every), np.float32)
        np.maximum.at(best, at, np.concatenate([worth for _, worth in found]))
        return every, best

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
