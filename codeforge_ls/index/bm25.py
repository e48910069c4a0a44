"""BM25 over several segments and the newest files, some of which replace older ones: one set of statistics."""

from __future__ import annotations

import importlib
import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from types import ModuleType

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.file_names import FileNames, as_called, bare_name
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
    """What speaks for each file of a collection: the scores of its best chunks summed, and that of it as a whole.

    ``best`` is its best chunk; -1 and zeros for a file that nothing speaks for.
    """

    chunks: npt.NDArray[np.float64]
    whole: npt.NDArray[np.float64]
    best: npt.NDArray[np.int64]


class Collection:
    """Chunks of several ``Postings`` under one numbering; a chunk counts while its file is alive.

    Document frequencies and the mean length are those of the chunks that are alive, so scores do not depend on how
    the chunks are spread over segments.
    """

    def __init__(self) -> None:
        self._parts: list[Postings] = []
        self._alive: list[npt.NDArray[np.bool_] | None] = []  # by chunk; None for a part that is all alive
        self._offsets = [0]
        self._norms = np.zeros(0, np.float32)  # by chunk, for the present mean length
        self._alive_count, self._mean = 0, 1.0
        self._of_files: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]] | None = None
        self._filter: tuple[Callable[[str], bool], npt.NDArray[np.bool_]] | None = None

    def set(self, parts: Sequence[Postings], alive: Iterable[npt.NDArray[np.bool_]]) -> None:
        """Take these parts; ``alive`` says of each file of each part whether it counts."""
        self._parts = list(parts)
        self._filter = self._of_files = None
        self._offsets = [*accumulate(map(len, parts), initial=0)]
        self._alive = [
            None if living.all() else part.by_chunk(living) for part, living in zip(parts, alive, strict=True)
        ]
        self._alive_count, length = 0, 0.0
        for part, living in zip(parts, self._alive, strict=True):
            lengths = part.lengths if living is None else part.lengths[living]
            self._alive_count += len(lengths)
            length += float(lengths.sum(dtype=np.float64))
        self._mean = max(length / self._alive_count if self._alive_count else 1.0, 1e-9)
        every = [part.lengths for part in parts]
        self._norms = np.concatenate([np.zeros(0, np.float32), *every])
        self._norms *= np.float32(K1 * B / self._mean)
        self._norms += np.float32(K1 * (1 - B))

    def __len__(self) -> int:
        return self._alive_count

    def _list(self, word: str) -> tuple[npt.NDArray[np.int64], Scores]:
        """The living chunks in which a word occurs and how often."""
        chunks, weights = [np.zeros(0, np.int64)], [np.zeros(0, np.float16)]
        for part, offset, living in zip(self._parts, self._offsets, self._alive, strict=False):
            numbers, counts = part.list_of(word)
            if len(numbers) and living is not None:
                kept = living[numbers]
                numbers, counts = numbers[kept], counts[kept]
            if len(numbers):
                chunks.append(numbers + np.int64(offset))
                weights.append(counts)
        if len(chunks) == 2:
            return chunks[1], weights[1].astype(np.float32)
        return np.concatenate(chunks), np.concatenate(weights).astype(np.float32)

    def document_frequency(self, word: str) -> int:
        """In how many living chunks a token occurs."""
        return sum(
            len(numbers) if living is None else int(np.count_nonzero(living[numbers]))
            for (numbers, _), living in zip(
                (part.list_of(word) for part in self._parts), self._alive, strict=True
            )
        )

    def rarity(self, word: str) -> float:
        """Inverse document frequency between 0 and 1, as ``WordVectors.rarity``: 1 for a token that occurs nowhere."""
        return math.log1p(self._alive_count / (1 + self.document_frequency(word))) / math.log1p(
            max(1, self._alive_count)
        )

    def _idf(self, frequency: int) -> float:
        return math.log(1 + (self._alive_count - frequency + 0.5) / (frequency + 0.5))

    def scores(self, words: Sequence[str]) -> Scores:
        """BM25 of every chunk for distinct words; zero where none occurs and for the dead."""
        lists = [one for one in map(self._weighed, words) if len(one[0])]
        if not lists:
            return np.zeros(self._offsets[-1], np.float32)
        chunks, data = zip(*lists, strict=True)
        # The columns of the query's words are all of the matrix that this query needs.
        scorer = load_bm25s().BM25(k1=K1, b=B, method="lucene")
        scorer.scores = {
            "data": np.concatenate(data),
            "indices": np.concatenate(chunks),
            "indptr": np.cumsum([0, *map(len, data)]),
            "num_docs": self._offsets[-1],
        }
        scorer.nonoccurrence_array = None  # Lucene's variant has none
        result: Scores = scorer.get_scores_from_ids(list(range(len(lists))))
        return result

    def _weighed(self, word: str, *, with_forms: bool = True) -> tuple[npt.NDArray[np.int64], Scores]:
        """The living chunks that have a word or a form of it, and what the best is worth in each; a form half."""
        found: list[tuple[npt.NDArray[np.int64], Scores]] = []
        for form in (word, *forms(word)) if with_forms else (word,):
            chunks, often = self._list(form)
            if len(chunks):
                worth = often / (often + self._norms[chunks])
                worth *= np.float32((1.0 if form == word else FORM) * self._idf(len(chunks)))
                found.append((chunks, worth))
        if len(found) <= 1:
            return found[0] if found else (np.zeros(0, np.int64), np.zeros(0, np.float32))
        best = np.zeros(self._offsets[-1], np.float32)
        for chunks, worth in found:
            best[chunks] = np.maximum(best[chunks], worth)
        having = np.flatnonzero(best > 0)
        return having, best[having]

    def files(self, counts: Mapping[str, int]) -> FileEvidence:
        """What the words of a long text, and how often each is in it, say for each file."""
        files, lengths = self._by_file()
        every = len(lengths)
        living = np.count_nonzero(lengths)
        damp = FILE_K1 * (1 - FILE_B + FILE_B * lengths * living / max(float(lengths.sum()), 1e-9))
        chunk_scores = np.zeros(len(files), np.float32)
        whole = np.zeros(every)
        for word, count in counts.items():
            times = min(count, MOST_TIMES)
            chunks, worth = self._weighed(word, with_forms=len(counts) <= LONG)
            chunk_scores[chunks] += times * worth
            chunks, often = self._list(word)
            summed = np.bincount(files[chunks], often, every)
            having = np.count_nonzero(summed)
            idf = math.log(1 + (living - having + 0.5) / (having + 0.5))
            whole += times * idf * summed / (summed + damp)
        found = np.flatnonzero(chunk_scores > 0)
        found = found[np.lexsort((found, -chunk_scores[found], files[found]))]
        owners, firsts, sizes = np.unique(files[found], return_index=True, return_counts=True)
        place_in_file = np.arange(len(found)) - np.repeat(firsts, sizes)
        top = place_in_file < len(CHUNK_SHARES)
        shares = chunk_scores[found[top]] * CHUNK_SHARES[place_in_file[top]]
        best = np.full(every, -1, np.int64)
        best[owners] = found[firsts]
        whole[best < 0] = 0.0
        return FileEvidence(np.bincount(files[found[top]], shares, every).astype(np.float64), whole, best)

    @property
    def file_names(self) -> Iterator[tuple[int, FileNames]]:
        """The names of the files of each part, after the number of its first file."""
        first = 0
        for part in self._parts:
            yield first, part.file_names
            first += len(part.contents)

    def file_path(self, file: int) -> str:
        """The path of a file by its number."""
        for part in self._parts:
            if file < len(part.contents):
                return part.paths[file]
            file -= len(part.contents)
        raise IndexError(file)

    def file_number(self, path: str) -> int:
        """The number of the living file with this path, -1 for none."""
        lengths = self._by_file()[1]
        for first, names in self.file_names:
            for at in names.called(as_called(bare_name(path))):
                if lengths[first + at] and self.file_path(first + at) == path:
                    return first + at
        return -1

    def _by_file(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The file of each chunk under a common numbering, and the words of each file, none for the dead."""
        if self._of_files is None:
            *firsts, every = accumulate((len(part.contents) for part in self._parts), initial=0)
            files, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
            for part, first, living in zip(self._parts, firsts, self._alive, strict=True):
                files.append(part.places[:, 0].astype(np.int64) + first)
                lengths.append(part.lengths if living is None else np.where(living, part.lengths, 0))
            of_chunk = np.concatenate(files)
            words = np.bincount(of_chunk, np.concatenate(lengths), every)
            self._of_files = of_chunk, words.astype(np.float64)
        return self._of_files

    def search(
        self, words: Sequence[str], count: int, wanted: Callable[[str], bool] | None = None
    ) -> list[tuple[float, ChunkPlace]]:
        """The best chunks, best first, equal ones by path and line; never one with score zero.

        What ``wanted`` says of the paths is remembered while the next searches ask with the same function.
        """
        scores = self.scores(words)
        chosen = np.flatnonzero((scores > 0) if wanted is None else (scores > 0) & self._allowed(wanted))
        if len(chosen) > count:
            found = scores[chosen]
            least = np.partition(found, -count)[-count]
            better = chosen[found > least].tolist()
            # Copies, such as licence headers, can be equal by the thousand; only those that are returned are opened.
            equal = sorted(chosen[found == least].tolist(), key=self._position)
            chosen = np.array([*better, *equal[: count - len(better)]])
        hits = [
            (score, self.place(at))
            for score, at in zip(scores[chosen].tolist(), chosen.tolist(), strict=True)
        ]
        hits.sort(key=lambda one: (-one[0], one[1].path, one[1].start_line))
        return hits

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
        return self._parts[number], chunk - self._offsets[number]

    def place(self, chunk: int) -> ChunkPlace:
        """Where a chunk of the common numbering is."""
        part, at = self._part_of(chunk)
        return part.place(at)
