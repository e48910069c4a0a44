"""Who calls whom, by name: the nearest definition first. Also what extends what, tests what and belongs together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from codeforge_ls.index.graph import CodeGraph
from codeforge_ls.index.graph_facts import CALLABLE, TYPES
from codeforge_ls.index.path_rules import NOISE

Node = tuple[int, int]  # a file and a definition in it; -1 is the file itself

TARGETS = frozenset((*CALLABLE, "struct"))
TYPE_KINDS = frozenset(TYPES)
MANY_CALLERS = 3_000  # of a name; what is called from more places is called from everywhere
HEADERS = {".h", ".hh", ".hpp", ".hxx", ".inl"}
SOURCES = {".c", ".cc", ".cpp", ".cxx", ".m", ".mm"}
TEST_AFFIX = re.compile(r"^(test_|tests_)|(_test|_tests|_spec|\.test|\.spec|Tests?|Spec|Suite|IT)$")


class Relations:
    """Edges between definitions and files of a graph, for its present state."""

    def __init__(self, graph: CodeGraph) -> None:
        self._graph = graph
        self._version = -1
        self._nearest: dict[tuple[int, int, bool], list[Node]] = {}
        self._meant: dict[tuple[int, bool], dict[int, list[Node]]] = {}
        self._by_stem: dict[str, list[int]] = {}

    def _fresh(self) -> None:
        if self._version != self._graph.version:
            self._version = self._graph.version
            self._nearest.clear()
            self._meant.clear()
            self._by_stem.clear()

    def nearest(self, name: int, file: int, *, types: bool = False) -> list[Node]:
        """The callables (or types) that ``name`` means in ``file``: those of the file, else of the files it imports,
        else of its folder, else the only one there is. Overloads in one file are all meant."""
        self._fresh()
        key = name, file, types
        if key not in self._nearest:
            self._nearest[key] = self._look(name, file, types)
        return self._nearest[key]

    def _look(self, name: int, file: int, types: bool) -> list[Node]:
        meant = self._meant.get((name, types))
        if meant is None:
            meant = self._meant[name, types] = self._definers(name, TYPE_KINDS if types else TARGETS)
        if file in meant:
            return meant[file]
        files = set(meant)
        if len(files) > 1:
            imported = files.intersection(self._graph.imports.targets(file))
            folder = _folder(self._graph.paths[file])
            files = imported or {other for other in files if _folder(self._graph.paths[other]) == folder}
        return [node for other in sorted(files) for node in meant[other]]

    def _definers(self, name: int, kinds: frozenset[str]) -> dict[int, list[Node]]:
        """The definitions of a name by file."""
        found: dict[int, list[Node]] = defaultdict(list)
        for node in self._graph.definitions(name):
            if self._graph.kind(*node) in kinds:
                found[node[0]].append(node)
        return dict(found)

    def callees(self, node: Node) -> list[tuple[int, list[Node]]]:
        """What a definition calls: each name, by number, with the definitions it means; unknown names are left out."""
        found = ((name, self.nearest(name, node[0])) for name in self._graph.called(*node))
        return [(name, targets) for name, targets in found if targets]

    def callers(self, node: Node) -> list[Node]:
        """The definitions, and files outside of definitions, that call this one."""
        if node[1] < 0:
            return []
        name = self._graph.name_id(self._graph.symbol(*node)[0])
        calling = self._graph.callers(name)[:MANY_CALLERS]
        return [one for one in calling if node in self.nearest(name, one[0]) and one != node]

    def bases(self, node: Node) -> list[Node]:
        """The types that a type extends or implements."""
        names = self._graph.base_names(*node)
        return _once(target for name in names for target in self.nearest(name, node[0], types=True))

    def derived(self, node: Node) -> list[Node]:
        """The types that extend or implement this one."""
        if node[1] < 0 or self._graph.kind(*node) not in TYPE_KINDS:
            return []
        name = self._graph.name_id(self._graph.symbol(*node)[0])
        return [one for one in self._graph.extending(name) if node in self.nearest(name, one[0], types=True)]

    # -- files

    def tested_by(self, file: int) -> list[int]:
        """The tests of a file: named after it, or near in name and importing it."""
        return [other for other in self._namesakes(file) if self.is_test(other) and not self.is_test(file)]

    def tests(self, file: int) -> list[int]:
        """The files that a test is for: those it is named after, else those it imports."""
        if not self.is_test(file):
            return []
        named = [other for other in self._namesakes(file) if not self.is_test(other)]
        return named or [other for other in self._graph.imports.targets(file) if not self.is_test(other)]

    def pairs(self, file: int) -> list[int]:
        """The source of a header, or the headers of a source."""
        suffix = PurePosixPath(self._graph.paths[file]).suffix
        wanted = SOURCES if suffix in HEADERS else HEADERS if suffix in SOURCES else set[str]()
        every = self._namesakes(file) if wanted else []
        return [at for at in every if PurePosixPath(self._graph.paths[at]).suffix in wanted]

    def is_test(self, file: int) -> bool:
        """Whether a path looks like a test."""
        return NOISE.search(self._graph.paths[file]) is not None

    def _namesakes(self, file: int) -> list[int]:
        """Other files with the same stem but for what marks a test; those with the most of the path in common."""
        self._fresh()
        if not self._by_stem:
            by_stem: dict[str, list[int]] = defaultdict(list)
            for at, path in enumerate(self._graph.paths):
                if self._graph.is_present(at):
                    by_stem[_subject(path)].append(at)
            self._by_stem = by_stem
        path = self._graph.paths[file]
        every = [at for at in self._by_stem.get(_subject(path), ()) if at != file]
        if not every:
            return []
        shared = {at: _shared(path, self._graph.paths[at]) for at in every}
        most = max(shared.values())
        return [at for at in every if shared[at] == most]


def _once(nodes: Iterable[Node]) -> list[Node]:
    return list(dict.fromkeys(nodes))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _subject(path: str) -> str:
    """The stem without what marks a test: ``FooTest.java``, ``test_foo.py`` and ``foo.spec.ts`` are about ``foo``."""
    stem = PurePosixPath(path).stem
    return TEST_AFFIX.sub("", stem).lower() or stem.lower()


def _shared(path: str, other: str) -> int:
    """How many folder names two paths have in common, whatever lies between: tests live in trees of their own."""
    return len(set(path.split("/")[:-1]) & set(other.split("/")[:-1]))
