"""The code graph as readers see it: a mapped base, and over it the files that changed since, unsaved ones included."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.extract import SymbolRow
from codeforge_ls.index.graph_base import KINDS, RANKED, Floats, GraphBase, Ints, name_factor
from codeforge_ls.index.graph_facts import Facts, read_facts
from codeforge_ls.index.graph_imports import ImportEdges
from codeforge_ls.index.ranks import BaseFlow, NameFlow, page_rank

MAX_CHANGED = 400  # files held over the base; more than these wait for the next one
RANKED_KINDS = frozenset(KINDS[:RANKED])
WARM = 1e-7  # by how much the kept ranks of all files together may still change: then none is off by 1e-6


@dataclass(slots=True)
class ChangedFile:
    """A file that is not as in the base: its facts, and its names by number."""

    content: int
    facts: Facts
    symbol_names: list[int] = field(default_factory=list)
    use_names: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    use_weights: Floats = field(default_factory=lambda: np.zeros(0))
    defines: tuple[int, ...] = ()


class CodeGraph:
    """Files, symbols and names as numbers. ``follow`` brings it to the present; all else reads.

    Files and names that the base does not know get the numbers after its own. A symbol is a pair of its file and
    its place among that file's definitions.
    """

    def __init__(self, base: GraphBase) -> None:
        self.base = base
        self.paths = list(base.paths)
        self.ids = {path: at for at, path in enumerate(self.paths)}
        self.contents: list[int] = base["content"].tolist()
        self.alive = np.ones(len(self.paths), bool)  # whether the base's facts of a file still hold
        self.changed: dict[int, ChangedFile] = {}
        self.unread = 0
        self.version = (
            0  # counts what ``follow`` changed: whoever derives something from the graph keeps it by this
        )
        self._new_names: dict[str, int] = {}
        self._new_name_list: list[str] = []
        self._definers = np.bincount(base["define_name"], minlength=len(base.names)).astype(np.int32)
        self.imports = ImportEdges(base, self.paths, self.contents, self.alive)
        self._flow: NameFlow | None = None
        kept = base.arrays.get("rank")
        self._ranks: Floats = np.array(kept) if kept is not None else np.zeros(0)
        self._ranked_version = 0 if kept is not None else -1
        self._path_ranks: tuple[int, Ints] = (-1, np.zeros(0, np.int32))
        self._changed_names: tuple[int, Mapping[int, list[tuple[int, int]]]] = (0, {})

    @cached_property
    def base_flow(self) -> BaseFlow:
        """What ranks flow through as far as the base gives it; made when they are first asked for."""
        return BaseFlow(self.base)

    # -- the present

    def follow(
        self, db: sqlite3.Connection, present: Mapping[str, int], changed: Iterable[str] | None = None
    ) -> None:
        """Take in what changed: the facts of a file are read when its content is another one.

        ``changed`` are the paths that may have; None, or files left out before, and all are looked at.
        """
        looked = {*present, *self.paths} if changed is None or self.unread else set(changed)
        wanted = [path for path in sorted(looked) if self._content(path) != present.get(path, -1)]
        gone = [self.ids[path] for path in wanted if path not in present]
        wanted = [path for path in wanted if path in present]
        self.unread = 0
        if not wanted and not gone:
            return
        for at in gone:
            self._drop(at)
        for path in wanted:
            at = self.ids.get(path, -1)
            content = present[path]
            if at >= 0 and at < len(self.alive) and self._based(at) == content:
                self._put(at, path, content, None)
            elif len(self.changed) >= MAX_CHANGED and at not in self.changed:
                self.unread += 1
            else:
                self._put(at, path, content, read_facts(db, content))
        self.imports.settle()
        self.version += 1
        self._flow = None

    def _content(self, path: str) -> int:
        at = self.ids.get(path)
        return -1 if at is None else self.contents[at]

    def _based(self, at: int) -> int:
        return int(self.base["content"][at]) if at < len(self.base.paths) else -1

    def _put(self, at: int, path: str, content: int, facts: Facts | None) -> None:
        """Set a file to what the base says of it (``facts`` None) or to other facts."""
        came = at < 0 or self.contents[at] < 0
        if at < 0:
            at = self.ids[path] = len(self.paths)
            self.paths.append(path)
            self.contents.append(-1)
        if not came:
            self._withdraw(at)
        self.contents[at] = content
        if facts is None:
            self.alive[at] = True
            self._count(self._base_defines(at), 1)
        else:
            self.changed[at] = changed = self._numbered(content, facts)
            self._count(changed.defines, 1)
        self.imports.put(at, facts.imports if facts is not None else None, came=came)

    def _drop(self, at: int) -> None:
        self._withdraw(at)
        self.contents[at] = -1
        self.imports.drop(at)

    def _withdraw(self, at: int) -> None:
        changed = self.changed.pop(at, None)
        if changed is not None:
            self._count(changed.defines, -1)
        elif at < len(self.alive) and self.alive[at]:
            self.alive[at] = False
            self._count(self._base_defines(at), -1)

    def _count(self, names: Sequence[int] | Ints, by: int) -> None:
        self._definers[np.asarray(names, np.int64)] += by

    def _base_defines(self, at: int) -> Ints:
        start, end = self.base["symbol_start"][at : at + 2]
        names = self.base["symbol_name"][start:end]
        return np.unique(names[self.base["symbol_kind"][start:end] < RANKED])

    def _numbered(self, content: int, facts: Facts) -> ChangedFile:
        symbols = [self._name_number(row[0]) for row in facts.symbols]
        uses = np.array([self._name_number(name) for name in facts.uses], np.int32)
        factors = np.array([name_factor(name) for name in facts.uses], np.float32)
        defines = {at for at, row in zip(symbols, facts.symbols, strict=True) if row[1] in RANKED_KINDS}
        return ChangedFile(
            content, facts, symbols, uses, np.sqrt(facts.counts) * factors, tuple(sorted(defines))
        )

    def _name_number(self, name: str) -> int:
        at = self.name_id(name)
        if at < 0:
            at = self._new_names[name] = len(self.base.names) + len(self._new_names)
            self._new_name_list.append(name)
            if at >= len(self._definers):
                self._definers = np.concatenate([self._definers, np.zeros(1024, np.int32)])
        return at

    # -- names and symbols

    def _holds(self, at: int) -> bool:
        return at < len(self.alive) and bool(self.alive[at])

    def is_present(self, at: int) -> bool:
        """Whether the file is in the index now."""
        return self.contents[at] >= 0

    @property
    def new_name_count(self) -> int:
        """How many names the base does not know; typing makes ever more of them."""
        return len(self._new_name_list)

    @property
    def name_count(self) -> int:
        """How many names have a number."""
        return len(self.base.names) + len(self._new_name_list)

    def name(self, at: int) -> str:
        """A name by its number."""
        known = len(self.base.names)
        return self.base.names[at] if at < known else self._new_name_list[at - known]

    def name_id(self, name: str) -> int:
        """The number of a name, -1 when no file has it."""
        at = self.base.name_id(name)
        return at if at >= 0 else self._new_names.get(name, -1)

    def definers(self) -> Ints:
        """In how many files each name is defined by a ranked kind."""
        return self._definers[: self.name_count]

    def symbol_count(self, at: int) -> int:
        """How many definitions a file has."""
        if at in self.changed:
            return len(self.changed[at].facts.symbols)
        if not self._holds(at):
            return 0
        start, end = self.base["symbol_start"][at : at + 2]
        return int(end - start)

    def symbol(self, file: int, ordinal: int) -> SymbolRow:
        """A definition as a row."""
        if file in self.changed:
            return self.changed[file].facts.symbols[ordinal]
        return self.base.symbol(int(self.base["symbol_start"][file]) + ordinal)

    def kind(self, file: int, ordinal: int) -> str:
        """The kind of a definition."""
        if file in self.changed:
            return self.changed[file].facts.symbols[ordinal][1]
        return KINDS[self.base["symbol_kind"][self.base["symbol_start"][file] + ordinal]]

    def innermost(self, file: int, line: int, kinds: Sequence[str]) -> int:
        """The place of the innermost definition of these kinds around a line of a file, -1 for none."""
        if file in self.changed:
            rows = self.changed[file].facts.symbols
            around = [at for at, row in enumerate(rows) if row[1] in kinds and row[2] <= line <= row[3]]
            return max(around, key=lambda at: (rows[at][2], -rows[at][3]), default=-1)
        if not self._holds(file):
            return -1
        start, end = self.base["symbol_start"][file : file + 2]
        first, last = self.base["symbol_line"][start:end], self.base["symbol_end"][start:end]
        wanted = [KINDS.index(kind) for kind in kinds]
        held = (first <= line) & (line <= last) & np.isin(self.base["symbol_kind"][start:end], wanted)
        found = np.flatnonzero(held)
        return int(found[np.lexsort((last[found], -first[found]))[0]]) if len(found) else -1

    def definitions(self, name: int) -> list[tuple[int, int]]:
        """Where a name is defined, by file number and place in it."""
        found: list[tuple[int, int]] = []
        if 0 <= name < self.base.defined:
            symbols = self.base.slice("named", name)
            files = self.file_of(symbols)
            starts = self.base["symbol_start"]
            alive = self.alive[files]
            files = files[alive]
            found = list(zip(files.tolist(), (symbols[alive] - starts[files]).tolist(), strict=True))
        return found + self._redefined().get(name, [])

    def _redefined(self) -> Mapping[int, list[tuple[int, int]]]:
        """Where changed files define which names."""
        if self._changed_names[0] != self.version:
            names = defaultdict[int, list[tuple[int, int]]](list)
            for file, changed in self.changed.items():
                for at, name in enumerate(changed.symbol_names):
                    names[name].append((file, at))
            self._changed_names = self.version, dict(names)
        return self._changed_names[1]

    def file_of(self, symbols: Ints) -> npt.NDArray[np.int64]:
        """The files of symbols of the base."""
        return np.searchsorted(self.base["symbol_start"], symbols, side="right") - 1

    def users(self, name: int) -> list[int]:
        """The files that use a name, ascending."""
        found: set[int] = set()
        if 0 <= name < len(self.base.names):
            files = self.base.slice("use_file", name)
            found.update(files[self.alive[files]].tolist())
        found.update(file for file, changed in self.changed.items() if name in changed.use_names)
        return sorted(found)

    # -- edges between definitions

    def called(self, file: int, ordinal: int) -> list[int]:
        """The names that a definition calls, or (-1) that a file calls outside of all."""
        if file in self.changed:
            changed = self.changed[file]
            sources, names = changed.facts.calls
            return _list(changed.use_names[names[sources == ordinal]])
        if not self._holds(file):
            return []
        return _list(self.base.slice("out_name", self._source(file, ordinal)))

    def callers(self, name: int) -> list[tuple[int, int]]:
        """The definitions that call a name, and files (-1) that call it outside of all."""
        found: list[tuple[int, int]] = []
        if 0 <= name < len(self.base.names):
            sources = self.base.slice("call_source", name)
            symbols = sources[sources < len(self.base["symbol_name"])]
            files = self.file_of(symbols)
            inside = symbols - self.base["symbol_start"][files]
            found = list(zip(files.tolist(), inside.tolist(), strict=True))
            outside = sources[len(symbols) :] - len(self.base["symbol_name"])
            found = [one for one in (*found, *((int(file), -1) for file in outside)) if self.alive[one[0]]]
        for file, changed in self.changed.items():
            sources, names = changed.facts.calls
            found.extend((file, int(at)) for at in sources[changed.use_names[names] == name])
        return found

    def base_names(self, file: int, ordinal: int) -> list[int]:
        """The names that the head of a type gives: what it extends or implements."""
        if file in self.changed:
            changed = self.changed[file]
            sources, names = changed.facts.bases
            return _list(changed.use_names[names[sources == ordinal]])
        if not self._holds(file) or ordinal < 0:
            return []
        at = self._source(file, ordinal)
        start, end = np.searchsorted(self.base["base_source"], (at, at + 1))
        return _list(self.base["base_name"][start:end])

    def extending(self, name: int) -> list[tuple[int, int]]:
        """The types whose heads give a name."""
        symbols = self.base["base_source"][self.base["base_name"] == name]
        files = self.file_of(symbols)
        inside = symbols - self.base["symbol_start"][files]
        pairs = zip(files.tolist(), inside.tolist(), strict=True)
        found = [one for one in pairs if self.alive[one[0]]]
        for file, changed in self.changed.items():
            sources, names = changed.facts.bases
            found.extend((file, int(at)) for at in sources[changed.use_names[names] == name])
        return found

    def _source(self, file: int, ordinal: int) -> int:
        if ordinal < 0:
            return len(self.base["symbol_name"]) + file
        return int(self.base["symbol_start"][file]) + ordinal

    # -- ranks

    def flow(self) -> NameFlow:
        """How rank flows from users through names to definers, for the present state."""
        if self._flow is None:
            self._flow = NameFlow(self)
        return self._flow

    def ranks(self) -> Floats:
        """PageRank of every file by number; those that are gone have 0. Kept, and warm when little changed."""
        if self._ranked_version != self.version:
            flow = self.flow()
            start = np.zeros(len(self.paths))
            start[: len(self._ranks)] = self._ranks
            self._ranks = page_rank(flow, flow.present, start=start, tolerance=WARM)
            self._ranked_version = self.version
        return self._ranks

    def path_ranks(self) -> Ints:
        """The place of each file in the order of the paths: ties are broken by it."""
        if self._path_ranks[0] != len(self.paths):
            ranks = np.zeros(len(self.paths), np.int32)
            ranks[sorted(range(len(self.paths)), key=self.paths.__getitem__)] = np.arange(len(self.paths))
            self._path_ranks = len(self.paths), ranks
        return self._path_ranks[1]

    def warm(self) -> None:
        """Make what the first change and the first map would have to wait for."""
        self.ranks()
        self.path_ranks()
        self.imports.warm()

    def defined_names(self, at: int) -> list[int]:
        """The names that a file defines by a ranked kind."""
        if at in self.changed:
            return list(self.changed[at].defines)
        return _list(self._base_defines(at)) if self._holds(at) else []

    def is_ranked(self, file: int, ordinal: int) -> bool:
        """Whether a definition takes part in ranks."""
        return self.kind(file, ordinal) in RANKED_KINDS


def _list(numbers: npt.NDArray[np.integer[Any]]) -> list[int]:
    found: list[int] = numbers.tolist()
    return found
