"""What is read out of one content, in the compact form in which it crosses the pipe and lies in index.db.

Integers are packed by ``array`` in the machine's byte order: neither the pipe nor index.db ever leaves the machine.
"""

from __future__ import annotations

import json
import marshal
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from operator import attrgetter

from codeforge_ls.index.chunks import Chunk
from codeforge_ls.index.tags import USE_KINDS
from codeforge_ls.index.tokens import raw_words

LONGEST = 400  # longer runs of letters and digits are data

# name, kind, start_line, end_line, name_line, name_column, scope, signature
SymbolRow = tuple[str, str, int, int, int, int, str, str]


@dataclass(frozen=True, slots=True)
class Extract:
    """One content: its key, and everything else packed.

    ``symbols`` are ``symbol_count`` rows as ``pack_symbols`` writes them.
    ``names`` are the used names, a line each; ``use_counts`` how many places each has (``I``); ``places`` all places
    in that order, see ``pack_places``. ``imports`` has lines ``number<TAB>module``. ``chunks`` and ``bags`` are
    explained at ``pack_chunks`` and ``pack_bags``; ``text`` is zlib of the UTF-8 text.
    """

    digest: str
    language: str
    version: str
    mtime_ns: int
    size: int
    lines: int
    missing: str
    symbol_count: int
    symbols: str
    names: bytes
    use_counts: bytes
    places: bytes
    imports: bytes
    chunk_count: int
    chunks: bytes
    bags: bytes
    text: bytes
    tag_seconds: float
    word_seconds: float

    def to_bytes(self) -> bytes:
        """For the pipe."""
        return marshal.dumps(_FIELDS(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Extract:
        """What ``to_bytes`` of the same interpreter wrote. Raises ``ValueError``, ``EOFError`` or ``TypeError``."""
        # Twenty times as fast as JSON; the sender is our own child, and a cut answer is an error here too.
        return cls(*marshal.loads(data))  # noqa: S302


_FIELDS = attrgetter(*Extract.__slots__)


def pack_symbols(rows: Iterable[SymbolRow]) -> str:
    """Definitions in the order of an outline, an outer one before those inside, as JSON: names can be looked for."""
    return json.dumps(sorted(rows, key=_place), ensure_ascii=False, separators=(",", ":"))


def unpack_symbols(packed: str) -> list[SymbolRow]:
    """The rows, in their order."""
    return [*map(tuple, json.loads(packed))]


def _place(row: SymbolRow) -> tuple[int, int, int]:
    return row[2], -row[3], row[5]


def pack_places(uses: Mapping[str, Sequence[tuple[int, int, int]]]) -> tuple[bytes, bytes, bytes]:
    """Names, counts and places of uses: the places' codes (``B``), then lines (``I``), then columns (``I``)."""
    codes, lines, columns = bytearray(), array("I"), array("I")
    for places in uses.values():
        for code, line, column in places:
            codes.append(code)
            lines.append(line)
            columns.append(column)
    names = "\n".join(name.replace("\n", " ") for name in uses).encode()
    counts = array("I", map(len, uses.values()))
    return names, counts.tobytes(), bytes(codes) + lines.tobytes() + columns.tobytes()


def unpack_places(packed: bytes, first: int, number: int) -> list[tuple[str, int, int]]:
    """``number`` places from position ``first`` on: ``(kind, line, column)``."""
    every = len(packed) // 9
    view = memoryview(packed)
    lines, columns = view[every : 5 * every].cast("I"), view[5 * every :].cast("I")
    return [(USE_KINDS[packed[at]], lines[at], columns[at]) for at in range(first, first + number)]


def pack_imports(imports: Iterable[tuple[str, int]]) -> bytes:
    """A line each: the number of the line, a tab, the module."""
    return "\n".join(f"{line}\t{module}".replace("\n", " ") for module, line in imports).encode()


def unpack_imports(packed: bytes) -> Iterator[tuple[str, int]]:
    """``(module, line)`` of each import."""
    for one in packed.decode().split("\n") if packed else ():
        line, _, module = one.partition("\t")
        yield module, int(line)


ChunkRow = tuple[int, int, str, str, str]


def pack_chunks(chunks: Sequence[Chunk]) -> bytes:
    """First and last lines (``I``), then a line of text each: symbol, kind and defined names, tabs between."""
    numbers = array("I")
    for one in chunks:
        numbers.append(one.start_line)
        numbers.append(one.end_line)
    names = "\n".join(
        f"{one.symbol}\t{one.kind}\t{' '.join(one.defines)}".replace("\n", " ") for one in chunks
    )
    return numbers.tobytes() + names.encode()


def unpack_chunks(packed: bytes, number: int) -> list[ChunkRow]:
    """``(start_line, end_line, symbol, kind, defined names with blanks between)`` of each of ``number`` chunks."""
    if not number:
        return []
    lines = memoryview(packed)[: 8 * number].cast("I")
    rows: list[ChunkRow] = []
    for at, text in enumerate(packed[8 * number :].decode().split("\n")):
        symbol, kind, defines = text.rsplit("\t", 2)
        rows.append((lines[2 * at], lines[2 * at + 1], symbol, kind, defines))
    return rows


def pack_bags(chunks: Iterable[Chunk]) -> bytes:
    """The raw words of each chunk (see ``tokens.raw_words``) in order, as positions in a list of the different ones.

    The number of chunks, of words, and the bytes of a position (three ``I``); how many words each chunk has (``I``);
    their positions (``H``, or ``I`` where there are too many different ones); the different words, a line each.
    """
    vocabulary: defaultdict[bytes, int] = defaultdict(count().__next__)
    sizes, positions = array("I"), array("I")
    number = vocabulary.__getitem__
    for chunk in chunks:
        words = raw_words(chunk.text)
        if len(chunk.text) > LONGEST and max(map(len, words), default=0) > LONGEST:
            words = [word for word in words if len(word) <= LONGEST]
        sizes.append(len(words))
        positions.extend(map(number, words))
    if len(vocabulary) < 1 << 16:
        positions = array("H", positions)
    head = array("I", (len(sizes), len(positions), positions.itemsize))
    return b"".join((head.tobytes(), sizes.tobytes(), positions.tobytes(), b"\n".join(vocabulary)))


@dataclass(frozen=True, slots=True)
class Bags:
    """Packed bags, opened without a copy: ``sizes`` and ``positions`` as ``pack_bags`` says."""

    sizes: memoryview
    positions: memoryview
    vocabulary: list[bytes]

    @classmethod
    def open(cls, packed: bytes) -> Bags:
        """Look into what ``pack_bags`` made."""
        view = memoryview(packed)
        chunks, entries, width = view[:12].cast("I")
        at = 12 + 4 * chunks
        end = at + width * entries
        words = packed[end:]
        return cls(
            view[12:at].cast("I"),
            view[at:end].cast("H" if width == 2 else "I"),
            words.split(b"\n") if words else [],
        )
