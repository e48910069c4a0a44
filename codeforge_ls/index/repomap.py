"""The repo map: the definitions that matter most, as lines that never exceed a token budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.graph import RANKED_KINDS, CodeGraph
from codeforge_ls.index.graph_base import RANKED, Floats, GraphBase, Ints
from codeforge_ls.index.path_rules import is_beside
from codeforge_ls.index.ranks import page_rank
from codeforge_ls.index.tokens import split_word

CHARACTERS = 4  # a token is four characters, rounded up (features, CTX-1)
LINE = 160  # a signature line is cut here
OWN = 0.1  # share of a file's own rank that its definitions divide among them, used by others or not
SIDE_WEIGHT = 0.1  # tests, examples and docs
WORD_FACTOR = 10.0  # names that share a word with the task are wanted more
AROUND = 3  # characters of a line beside its text: the least indentation and the end
DEEPEST = 3  # definitions inside so many others are details
MISSES = 40  # so many definitions in a row that do not fit end the packing
FIRST = 2_000  # definitions put in order at first; the rest only if these do not fill the budget
NEAR = 5e-3  # the same of personalised ranks; networkx stops at one millionth a file


@dataclass(frozen=True, slots=True)
class Entry:
    """One definition that may go on the map; ``node`` is its file and place in the graph."""

    path: str
    line: int
    depth: int
    text: str
    rank: float
    node: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Packed:
    """The text and what is on it, best first; ``cut`` definitions did not fit."""

    text: str
    files: int
    entries: tuple[Entry, ...]
    cut: int

    @property
    def symbols(self) -> int:
        """How many definitions are shown whole."""
        return len(self.entries)


def estimate_tokens(text: str) -> int:
    """``len/4`` rounded up; at least 1 for any text, 0 for none."""
    return -(-len(text) // CHARACTERS)


@dataclass(frozen=True)
class _Lines:
    """What each definition that may go on the map costs, in arrays of equal length."""

    files: npt.NDArray[np.int64]
    ordinals: Ints
    names: npt.NDArray[np.int64]
    lines: Ints
    costs: Ints  # characters of the line, or a little more: bytes are counted
    own_uses: Floats  # the weight with which the file itself uses the name
    shares: Floats  # of the file's own rank, ``OWN`` in all

    def only(self, kept: npt.NDArray[np.bool_]) -> _Lines:
        return _Lines(
            self.files[kept], self.ordinals[kept], self.names[kept], self.lines[kept], self.costs[kept],
            self.own_uses[kept], self.shares[kept],
        )  # fmt: skip


class MapTable:
    """All definitions of a graph in arrays, so that a map for other words or files costs milliseconds."""

    def __init__(self, graph: CodeGraph) -> None:
        self._graph = graph
        self._base = _base_lines(graph.base)
        self._version = -1
        self._table = self._base
        self._sides: Floats = np.where(graph.base["beside"], SIDE_WEIGHT, 1.0)
        self._file_count = 0

    def _refresh(self) -> None:
        graph = self._graph
        if self._version == graph.version:
            return
        known = len(self._sides)
        sides = [SIDE_WEIGHT if is_beside(path) else 1.0 for path in graph.paths[known:]]
        self._sides = np.concatenate([self._sides, sides])
        kept = graph.alive[self._base.files]
        tables = [self._base.only(kept), *(self._changed(at) for at in sorted(graph.changed))]
        columns = [
            np.concatenate([getattr(table, name) for table in tables]) for name in _Lines.__dataclass_fields__
        ]
        self._table = _Lines(*columns)
        self._version = graph.version
        self._file_count = len(np.unique(self._table.files))

    def _changed(self, file: int) -> _Lines:
        changed = self._graph.changed[file]
        rows = [
            (at, row)
            for at, row in enumerate(changed.facts.symbols)
            if row[1] in RANKED_KINDS and row[6].count(".") < DEEPEST
        ]
        names = np.array([changed.symbol_names[at] for at, _ in rows], np.int64)
        weights = dict(zip(changed.use_names.tolist(), changed.use_weights.tolist(), strict=True))
        own = [weights.get(name, 0.0) for name in names.tolist()]
        costs = [_cost(_depth(row[6]), row[7] or row[0]) for _, row in rows]
        ordinals, lines = [at for at, _ in rows], [row[4] for _, row in rows]
        return _Lines(
            np.full(len(rows), file, np.int64), np.array(ordinals, np.int32), names, np.array(lines, np.int32),
            np.array(costs, np.int32), np.array(own, np.float64), np.full(len(rows), OWN / max(1, len(rows))),
        )  # fmt: skip

    def __len__(self) -> int:
        self._refresh()
        return len(self._table.files)

    def files(self) -> int:
        """How many files have a definition that may go on the map."""
        self._refresh()
        return self._file_count

    def entries(
        self, personal: Floats | None, words: Sequence[str], names: Sequence[int] = ()
    ) -> Iterator[Entry]:
        """The definitions, best rank per token first; equal ones by path and line.

        ``personal`` are restart weights of the files; names with one of ``words``, and ``names``, draw more rank.
        """
        self._refresh()
        graph, table = self._graph, self._table
        if not len(table.files):
            return
        value = self._values(personal, words, names)
        paths = graph.path_ranks()
        remaining: npt.NDArray[np.int64] = np.arange(len(value))
        count = FIRST
        while len(remaining):
            if count < len(remaining):
                least = np.partition(value[remaining], len(remaining) - count)[len(remaining) - count]
                chosen = value[remaining] >= least
            else:
                chosen = np.ones(len(remaining), bool)
            batch = remaining[chosen]
            density = value[batch] / table.costs[batch]
            for at in batch[np.lexsort((table.lines[batch], paths[table.files[batch]], -density))].tolist():
                yield self._entry(at, float(value[at]))
            remaining, count = remaining[~chosen], count * 4

    def _values(
        self, personal: Floats | None, words: Sequence[str], names: Sequence[int]
    ) -> npt.NDArray[np.float32]:
        """What each definition is worth, in few enough digits that equal ones are equal however they were summed."""
        graph, table, flow = self._graph, self._table, self._graph.flow()
        ranks = graph.ranks() if personal is None else page_rank(flow, flow.present, personal, tolerance=NEAR)
        factor = np.ones(graph.name_count)
        factor[self._named_with(words)] = WORD_FACTOR
        factor[list(names)] = WORD_FACTOR
        out = flow.outweights(factor)
        outflow = np.divide(ranks, out, out=np.zeros(len(ranks)), where=out > 0)
        value: Floats = table.shares * ranks[table.files] * factor[table.names]
        row = flow.row[table.names]
        used = np.flatnonzero(row >= 0)
        row, files = row[used], table.files[used]
        inflow = flow.gather(outflow)[row] - table.own_uses[used] * outflow[files]
        inflow *= (flow.share * factor[flow.names])[row]
        value[used] += np.maximum(inflow, 0.0)
        value *= self._sides[table.files]
        return value.astype(np.float32)

    def _named_with(self, words: Sequence[str]) -> npt.NDArray[np.int64]:
        """The numbers of the names that have one of these words in them."""
        base, graph = self._graph.base, self._graph
        found = [np.zeros(0, np.int64)]
        for word in words:
            at = base.words.find(word)
            if at >= 0:
                start, end = base["worded_start"][at : at + 2]
                found.append(base["worded"][start:end].astype(np.int64))
        wanted = set(words)
        fresh = {
            at
            for changed in graph.changed.values()
            for at, row in zip(changed.symbol_names, changed.facts.symbols, strict=True)
            if wanted and not wanted.isdisjoint(split_word(row[0]))
        }
        return np.concatenate([*found, np.array(sorted(fresh), np.int64)])

    def _entry(self, at: int, rank: float) -> Entry:
        table = self._table
        file, ordinal = int(table.files[at]), int(table.ordinals[at])
        graph = self._graph
        if file in graph.changed:
            row = graph.changed[file].facts.symbols[ordinal]
            name, scope, signature = row[0], row[6], row[7]
        else:
            base = graph.base
            symbol = int(base["symbol_start"][file]) + ordinal
            scope, signature = base.scopes[int(base["symbol_scope"][symbol])], base.signatures[symbol]
            name = graph.name(int(table.names[at]))
        text = (signature or name)[:LINE]
        return Entry(graph.paths[file], int(table.lines[at]), _depth(scope), text, rank, (file, ordinal))


def _base_lines(base: GraphBase) -> _Lines:
    """The definitions of a base that may go on a map."""
    scopes = list(base.scopes)
    depths = np.array([scope.count(".") for scope in scopes], np.int32)
    indents = np.array([scope.count(".") + bool(scope) for scope in scopes], np.int32)
    shown = (base["symbol_kind"] < RANKED) & (depths[base["symbol_scope"]] < DEEPEST)
    symbols = np.flatnonzero(shown)
    lengths = np.minimum(np.diff(base["signature_at"])[symbols], LINE)
    costs = 2 * indents[base["symbol_scope"][symbols]] + AROUND + lengths
    starts = base["symbol_start"]
    files = np.searchsorted(starts, symbols, side="right") - 1
    uses = base["symbol_use"][symbols]
    names = base["symbol_name"][symbols].astype(np.int64)
    own = np.zeros(len(symbols))
    used = uses >= 0
    own[used] = np.sqrt(base["use_count"][uses[used]].astype(np.float64))
    own[used] *= base["name_factor"][names[used]].astype(np.float64)
    counts = np.bincount(files, minlength=len(base.paths))
    return _Lines(
        files, (symbols - starts[files]).astype(np.int32), names, base["symbol_name_line"][symbols],
        costs.astype(np.int32), own, OWN / counts[files],
    )  # fmt: skip


def pack(entries: Iterable[Entry], total: int, budget_tokens: int) -> Packed:
    """Take entries, ``total`` in all, in their order while they fit; files with the best of them come first.

    The text is at most ``budget_tokens`` long. If not even the first file's first entry fits, it is cut inside.
    """
    room = budget_tokens * CHARACTERS
    taken: dict[str, list[Entry]] = {}
    seen: set[tuple[str, int]] = set()
    missed = 0
    first: Entry | None = None
    for entry in entries:
        first = first or entry
        if (entry.path, entry.line) in seen:
            continue
        cost = _cost(entry.depth, entry.text) + (0 if entry.path in taken else len(_head(entry.path)))
        if cost > room:
            missed += 1
            if missed > MISSES:
                break
            continue
        missed = 0
        room -= cost
        seen.add((entry.path, entry.line))
        taken.setdefault(entry.path, []).append(entry)
    if not taken and first:
        text = (_head(first.path) + _line(first))[: budget_tokens * CHARACTERS]
        return Packed(text, 1, (), total)
    order = sorted(taken, key=lambda path: (-sum(one.rank for one in taken[path]), path))
    parts: list[str] = []
    for path in order:
        parts.append(_head(path))
        parts.extend(_line(one) for one in sorted(taken[path], key=lambda one: one.line))
    every = sorted((one for ones in taken.values() for one in ones), key=_best_first)
    return Packed("".join(parts), len(taken), tuple(every), total - len(every))


def _best_first(entry: Entry) -> tuple[float, str, int]:
    return -entry.rank, entry.path, entry.line


def _depth(scope: str) -> int:
    return scope.count(".") + 1 if scope else 0


def _cost(depth: int, text: str) -> int:
    """Characters of a line of the map."""
    return 2 * depth + AROUND + len(text[:LINE])


def _head(path: str) -> str:
    return f"{path}:\n"


def _line(entry: Entry) -> str:
    return f"{'  ' * (entry.depth + 1)}{entry.text}\n"
