"""Inverted lists of chunks: made in memory, saved as a segment, mapped from disk. A segment never changes.

A segment is the unit for whatever is kept beside it: chunks are numbered from 0 in a fixed order (that of
``places``), and ``Postings.chunk_tokens()`` gives the tokens of each chunk back, columns as in ``vocabulary``.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.arrays_file import BadArrays, Texts, map_arrays, write_arrays
from codeforge_ls.index.database import SEGMENT
from codeforge_ls.index.extract import Bags, ChunkRow
from codeforge_ls.index.fields import TEXT, WEIGHT_UNIT, defined_words, path_words
from codeforge_ls.index.file_names import FileNames
from codeforge_ls.index.tokens import MAX_WORD, tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FORMAT = 6  # raise it when the arrays or what is counted in them change: segments are written anew
Ints = npt.NDArray[np.int32]
ARRAYS = ("places", "lengths", "contents", "starts", "chunks", "weights")
TEXTS = ("paths", "names", "vocabulary")


class ChunkPlace(NamedTuple):
    """Where a searchable chunk is and what it starts with."""

    path: str
    content: int
    start_line: int
    end_line: int
    symbol: str
    kind: str


@dataclass(frozen=True)
class Postings:
    """The chunks of some files, and for each token the chunks in which it occurs.

    ``places`` (chunks, 3): position of the file, first line, last line. ``lengths``: weighted tokens of each chunk.
    ``contents``: the content of each file, whose path is in ``paths``. ``names``: symbol, tab, kind of each chunk.
    ``vocabulary``: the tokens, sorted by code points. ``starts`` (tokens + 1): where the list of each token begins in
    ``chunks`` (ascending) and ``weights`` (float16: how often it occurs, fields weighted).
    """

    places: Ints
    lengths: npt.NDArray[np.float32]
    contents: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    chunks: Ints
    weights: npt.NDArray[np.float16]
    paths: Texts
    names: Texts
    vocabulary: Texts

    def __len__(self) -> int:
        return len(self.places)

    def list_of(self, token: str) -> tuple[Ints, npt.NDArray[np.float16]]:
        """The chunks in which a token occurs and how often; empty when in none."""
        at = self.vocabulary.find(token)
        if at < 0:
            return self.chunks[:0], self.weights[:0]
        part = slice(int(self.starts[at]), int(self.starts[at + 1]))
        return self.chunks[part], self.weights[part]

    def chunk_tokens(self) -> csr_array:
        """The same by chunk: weights as (chunks, vocabulary). About 0.2 s for 100,000 chunks."""
        from scipy.sparse import csc_array

        shape = (len(self), len(self.vocabulary))
        return csc_array((self.weights.astype(np.float32), self.chunks, self.starts), shape=shape).tocsr()

    def by_chunk(self, of_files: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """What is said of each file, for each of its chunks."""
        return np.repeat(of_files, self._sizes)

    @cached_property
    def _sizes(self) -> npt.NDArray[np.int64]:
        """How many chunks each file has; they lie side by side."""
        return np.bincount(self.places[:, 0], minlength=len(self.contents))

    @cached_property
    def file_names(self) -> FileNames:
        """The names of its files, turned round; about 0.1 s for 5,000 files, once."""
        return FileNames([*self.paths])

    def document_frequencies(self) -> npt.NDArray[np.int64]:
        """In how many chunks each token of the vocabulary occurs, dead files included."""
        return np.diff(self.starts)

    def place(self, chunk: int) -> ChunkPlace:
        """Where a chunk is."""
        file, start, end = self.places[chunk].tolist()
        symbol, _, kind = self.names[chunk].rpartition("\t")
        return ChunkPlace(self.paths[file], int(self.contents[file]), start, end, symbol, kind)


def invert(files: Iterable[tuple[str, int, list[ChunkRow], bytes]]) -> Postings:
    """Make postings from ``(path, content, chunks, packed words)`` of each file."""
    raw: defaultdict[bytes, int] = defaultdict(count().__next__)
    number = raw.__getitem__
    paths, contents, names = list[str](), list[int](), list[str]()
    places = array("i")
    text, of_path, defined = _Rows(), _Rows(), _Rows()
    for path, content, chunks, packed in files:
        bags = Bags.open(packed)
        ids = np.fromiter(map(number, bags.vocabulary), np.int32, len(bags.vocabulary))
        text.add(bags.sizes.tobytes(), ids[np.asarray(bags.positions)].tobytes(), b"\1" * len(bags.positions))
        of_path.add_weighted([(number(word), weight) for word, weight in path_words(path)])
        for start, end, symbol, kind, defines in chunks:
            places.extend((len(paths), start, end))
            names.append(f"{symbol}\t{kind}")
            defined.add_weighted([(number(word), weight) for word, weight in defined_words(defines)])
        paths.append(path)
        contents.append(content)
    split, vocabulary = _splitting(raw)
    where = np.frombuffer(places, np.int32).reshape(-1, 3)
    width = len(raw)
    by_word = text.matrix(width, TEXT) + defined.matrix(width, WEIGHT_UNIT)
    by_word = by_word + of_path.matrix(width, WEIGHT_UNIT)[where[:, 0]]
    by_chunk = by_word @ split
    del text, defined, by_word
    lengths = np.asarray(by_chunk.sum(axis=1), np.float32).reshape(-1)
    lists = by_chunk.tocsc()
    return Postings(
        places=where,
        lengths=lengths,
        contents=np.array(contents, np.int64),
        starts=lists.indptr.astype(np.int64),
        chunks=lists.indices.astype(np.int32, copy=False),
        weights=np.minimum(lists.data, np.float32(2048)).astype(np.float16),
        paths=Texts.of(paths),
        names=Texts.of(names),
        vocabulary=Texts.of(vocabulary),
    )


class _Rows:
    """The rows of a sparse matrix in growing byte strings: no object for each number."""

    def __init__(self) -> None:
        self._sizes, self._columns, self._values = bytearray(), bytearray(), bytearray()

    def add(self, sizes: bytes, columns: bytes, values: bytes) -> None:
        """Several rows: their sizes (32 bits), all columns (32 bits) and all values (8 bits)."""
        self._sizes += sizes
        self._columns += columns
        self._values += values

    def add_weighted(self, row: Sequence[tuple[int, float]]) -> None:
        """One row of ``(column, weight)``; weights are kept in steps of ``WEIGHT_UNIT``."""
        if not row:
            self._sizes += b"\0\0\0\0"
            return
        values = bytes(min(255, round(weight / WEIGHT_UNIT)) for _, weight in row)
        self.add(array("I", (len(row),)).tobytes(), array("i", (at for at, _ in row)).tobytes(), values)

    def matrix(self, width: int, unit: float) -> csr_array:
        """The rows as (rows, ``width``), values times ``unit``."""
        from scipy.sparse import csr_array

        sizes = np.frombuffer(self._sizes, np.uint32)
        starts = np.zeros(len(sizes) + 1, np.int32)
        np.cumsum(sizes, out=starts[1:])
        values = np.frombuffer(self._values, np.uint8).astype(np.float32) * np.float32(unit)
        columns = np.frombuffer(self._columns, np.int32)
        return csr_array((values, columns, starts), shape=(len(sizes), width))


def _splitting(raw: Iterable[bytes]) -> tuple[csr_array, list[str]]:
    """Which tokens each raw word is made of, as a matrix (raw words, tokens), and the tokens, sorted."""
    from scipy.sparse import csr_array

    known: defaultdict[str, int] = defaultdict(count().__next__)
    ids: list[int] = []
    ends = [0]
    for word in raw:
        if word.isalpha() and word.islower() and len(word) <= MAX_WORD:  # ASCII and one part: most are
            ids.append(known[word.decode()])
        else:
            ids += [known[token] for token in tokens(word.decode("utf-8", "replace"))]
        ends.append(len(ids))
    vocabulary = sorted(known)
    order = np.empty(len(known), np.int32)
    order[[known[token] for token in vocabulary]] = np.arange(len(known), dtype=np.int32)
    shape = (len(ends) - 1, len(known))
    columns = order[np.array(ids, np.int32)] if ids else np.zeros(0, np.int32)
    return csr_array(
        (np.ones(len(ids), np.float32), columns, np.array(ends, np.int32)), shape=shape
    ), vocabulary


def save_segment(folder: Path, postings: Postings) -> None:
    """Write postings into a new folder: one file, so that a mapped segment costs a reader one descriptor."""
    arrays: dict[str, Any] = {name: getattr(postings, name).reshape(-1) for name in ARRAYS}
    for name in TEXTS:
        texts: Texts = getattr(postings, name)
        arrays |= {name: texts.raw, f"{name}.ends": texts.offsets}
    folder.mkdir(parents=True)
    about = {"format": FORMAT, "chunks": len(postings), "files": len(postings.contents)}
    write_arrays(folder / SEGMENT, arrays, about)


class BadSegment(Exception):
    """A segment on disk cannot be used; it has to be written anew."""


def open_segment(folder: Path) -> Postings:
    """Map a saved segment. Raises ``BadSegment`` when it is missing, damaged or of another format."""
    try:
        arrays, about = map_arrays(folder / SEGMENT)
        if about["format"] != FORMAT:
            raise BadSegment(f"{folder.name}: format {about['format']}")
        parts: dict[str, Any] = {name: arrays[name] for name in ARRAYS}
        parts["places"] = arrays["places"].reshape(-1, 3)
        texts = {name: Texts(arrays[name], arrays[f"{name}.ends"]) for name in TEXTS}
        found = Postings(**(parts | texts))
        fits = (
            len(found.places) == len(found.lengths) == len(found.names) == about["chunks"]
            and len(found.contents) == len(found.paths) == about["files"]
            and len(found.starts) == len(found.vocabulary) + 1
            and int(found.starts[-1]) == len(found.chunks) == len(found.weights)
            and all(int(one.offsets[-1]) == len(one.raw) for one in texts.values())
        )
    except (BadArrays, ValueError, KeyError, TypeError, IndexError) as error:
        raise BadSegment(f"{folder.name}: {error}") from error
    if not fits:
        raise BadSegment(f"{folder.name}: its parts do not fit each other")
    return found
