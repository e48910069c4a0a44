"""The dense leg: one vector a chunk, made from word vectors, kept beside its segment and mapped from there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.database import VECTORS
from codeforge_ls.index.lexical import ChunkPlace, Postings
from codeforge_ls.index.wordvectors import Floats, WordVectors

HEAD = 64  # dimensions of the first pass; the table orders them by variance
RESCORED = 1_000  # chunks that the first pass leaves for all dimensions
BLOCK = 4_096  # chunks at once: float32 of a whole segment would cost more than all the rest
PASS = 2_048  # chunks at once in the first pass: their float32 stays in the processor's cache
# One scale for all: a component of a vector of length 1 and a few hundred dimensions hardly ever exceeds 0.4.
SCALE = 127 * 2.5

Bytes = npt.NDArray[np.int8]


class BadVectors(Exception):
    """The vectors of a segment cannot be used; they have to be written anew."""


def embed(postings: Postings, table: WordVectors) -> Bytes:
    """The vectors of all chunks.

    They are flat: ``HEAD`` dimensions of every chunk, then the others of every chunk. A chunk's vector is the sum of
    its words' vectors, each times ``log(1 + count) * rarity``, path and defined names included, at length 1. It
    depends on the chunk alone; how rare a word is in this repository weighs the query (``DenseLeg.search``).
    """
    from scipy.sparse import csr_array

    rows = np.fromiter(map(table.row, postings.vocabulary), np.int32, len(postings.vocabulary))
    used = np.flatnonzero(rows >= 0)
    counted = postings.chunk_tokens()[:, used]
    weights = np.log1p(counted.data) * table.rarity[rows[used]][counted.indices]
    weighted = csr_array((weights, counted.indices, counted.indptr), shape=counted.shape)
    basis = table.vectors[rows[used]].astype(np.float32)
    packed = np.empty((len(postings), table.dimensions), np.int8)
    for start in range(0, len(packed), BLOCK):
        packed[start : start + BLOCK] = _pack(weighted[start : start + BLOCK] @ basis)
    return np.concatenate([packed[:, :HEAD].ravel(), packed[:, HEAD:].ravel()])


def _pack(vectors: Floats) -> Bytes:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    packed: Bytes = np.clip(np.rint(vectors * (SCALE / lengths)), -127, 127).astype(np.int8)
    return packed


def save_vectors(folder: Path, vectors: Bytes) -> None:
    """Put them into a segment's folder, whole or not at all."""
    partial = folder / f".{VECTORS}.part"
    with partial.open("wb") as file:
        np.save(file, vectors)
    partial.replace(folder / VECTORS)


class PartVectors:
    """The vectors of one part of the index."""

    def __init__(self, vectors: Bytes, chunks: int, table: WordVectors) -> None:
        if vectors.dtype != np.int8 or vectors.shape != (chunks * table.dimensions,):
            raise BadVectors("they do not fit the segment and the table of words")
        self.head = vectors[: chunks * HEAD].reshape(chunks, HEAD)
        self.tail = vectors[chunks * HEAD :].reshape(chunks, table.dimensions - HEAD)

    @classmethod
    def open(cls, folder: Path, chunks: int, table: WordVectors) -> PartVectors | None:
        """Map those of a segment; None while there are none. Raises ``BadVectors``."""
        try:
            vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False).view(np.ndarray)
            return cls(vectors, chunks, table)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            raise BadVectors(str(error)) from error

    def first_pass(self, query: Floats) -> Floats:
        """Roughly how near each chunk is, from the first dimensions."""
        scores = np.empty(len(self.head), np.float32)
        room = np.empty((min(PASS, len(scores)), HEAD), np.float32)
        for start in range(0, len(scores), PASS):
            part = self.head[start : start + PASS]
            block = room[: len(part)]
            np.copyto(block, part)
            np.dot(block, query[:HEAD], out=scores[start : start + PASS])
        return scores


@dataclass
class _Searched:
    """A part that takes part: which of its chunks count is known when it is asked."""

    postings: Postings
    alive: npt.NDArray[np.bool_]
    vectors: PartVectors


class DenseLeg:
    """Finds chunks by meaning. ``problem`` says why it cannot, if so."""

    def __init__(self, segments: Path, table: Callable[[], WordVectors]) -> None:
        self._segments, self._open = segments, table
        self._table: WordVectors | None = None
        self._known: dict[int, tuple[Postings, PartVectors]] = {}
        self._parts: list[_Searched] = []
        self.problem = ""
        self.bad: list[str] = []  # segments whose vectors have to be written anew

    def follow(self, parts: Sequence[tuple[str, Postings, npt.NDArray[np.bool_]]]) -> None:
        """Take the parts of the index as they are now: ``(name of the segment or "", postings, living files)``.

        Segments without vectors are left out until they have some; newer files get theirs here.
        """
        table = self._words()
        if table is None:
            return
        self.bad.clear()
        self._parts = []
        for name, postings, alive in parts:
            vectors = self._vectors(name, postings, table) if len(postings) else None
            if vectors is not None:
                self._parts.append(_Searched(postings, alive, vectors))
        kept = {id(part.postings) for part in self._parts}
        self._known = {key: known for key, known in self._known.items() if key in kept}

    def _words(self) -> WordVectors | None:
        if self._table is None and not self.problem:
            try:
                self._table = self._open()
            except (OSError, ValueError) as error:
                self.problem = str(error)
        return self._table

    def _vectors(self, name: str, postings: Postings, table: WordVectors) -> PartVectors | None:
        known = self._known.get(id(postings))
        if known is not None:
            return known[1]
        vectors: PartVectors | None
        if name:
            try:
                vectors = PartVectors.open(self._segments / name, len(postings), table)
            except BadVectors:
                self.bad.append(name)
                return None
        else:
            vectors = PartVectors(embed(postings, table), len(postings), table)
        if vectors is not None:
            self._known[id(postings)] = postings, vectors
        return vectors

    @property
    def ready(self) -> bool:
        """Whether any chunk can be found."""
        return bool(self._parts)

    def search(
        self, words: Mapping[str, float], count: int, wanted: Callable[[str], bool] | None = None
    ) -> list[tuple[float, ChunkPlace]]:
        """The chunks nearest to the words: ``(cosine, place)``, best first, equal ones by path and line.

        ``words`` says how rare each is in this repository; it weighs the mean of that and of its rarity in code.
        """
        if self._table is None or not self._parts:
            return []
        weights: defaultdict[int, float] = defaultdict(float)
        for word, rare in words.items():
            row = self._table.row(word)
            if row >= 0:
                weights[row] += (rare + float(self._table.rarity[row])) / 2
        query = self._table.mean(weights)
        if not query.any():
            return []
        found: list[tuple[float, ChunkPlace]] = []
        for part in self._parts:
            scores = part.vectors.first_pass(query)
            if not part.alive.all():
                scores[part.postings.by_chunk(~part.alive)] = -np.inf
            chosen = best_chunks(scores, part.postings, max(RESCORED, 10 * count), count, wanted)
            exact = (scores[chosen] + part.vectors.tail[chosen].astype(np.float32) @ query[HEAD:]) / SCALE
            best = np.lexsort((chosen, -exact))[:count]
            best = best[exact[best] > 0]
            cosines, chunks = exact[best].tolist(), chosen[best].tolist()
            found += [
                (round(cosine, 5), part.postings.place(chunk))
                for cosine, chunk in zip(cosines, chunks, strict=True)
            ]
        found.sort(key=lambda one: (-one[0], one[1].path, one[1].start_line))
        return found[:count]


def best_chunks(
    scores: Floats, postings: Postings, keep: int, count: int, wanted: Callable[[str], bool] | None
) -> npt.NDArray[np.int64]:
    """The ``keep`` best; with a filter, those it lets through, and the best of all files when that gives too few."""
    best = _best(scores, keep)
    if wanted is None:
        return best
    files = postings.places[:, 0]
    allowed = {int(file): wanted(postings.paths[int(file)]) for file in np.unique(files[best])}
    kept = best[[allowed[int(file)] for file in files[best]]] if len(best) else best
    if len(kept) >= count or len(best) < keep:
        return kept
    every = np.fromiter((wanted(path) for path in postings.paths), bool, len(postings.paths))
    return _best(np.where(every[files], scores, -np.inf).astype(np.float32), keep)


def _best(scores: Floats, keep: int) -> npt.NDArray[np.int64]:
    least = np.partition(scores, -keep)[-keep] if keep < len(scores) else np.float32(-np.inf)
    if least == -np.inf:
        return np.flatnonzero(scores > least)
    best = np.flatnonzero(scores >= least)
    equal = np.flatnonzero(scores[best] == least)
    return np.delete(best, equal[len(equal) - (len(best) - keep) :]) if len(best) > keep else best
