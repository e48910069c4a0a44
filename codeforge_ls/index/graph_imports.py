"""The import edges of a code graph: those of its base that still hold, and those of files that changed since."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.graph_base import IMPORT_WEIGHT, Floats, GraphBase, Ints
from codeforge_ls.index.imports import ImportResolver, meant_by, mentions

# From so many paths that came or went on, looking at all imports of the base is cheaper than at each path's.
MANY_MOVED = 20


class ImportEdges:
    """What files import, kept beside the graph's own account of its files.

    ``paths``, ``contents`` (below 0: not there) and ``alive`` (whether the base's facts of a file hold) are the
    graph's, which changes them and then says so by ``put`` or ``drop``; ``settle`` ends a batch.
    """

    def __init__(
        self,
        base: GraphBase,
        paths: Sequence[str],
        contents: Sequence[int],
        alive: npt.NDArray[np.bool_],
    ) -> None:
        self._base, self._paths, self._contents, self._alive = base, paths, contents, alive
        self._own: dict[int, tuple[str, ...]] = {}  # the imports of files that are not as in the base
        self._mentioned: defaultdict[str, set[int]] = defaultdict(
            set
        )  # those files by what their imports mention
        self._edge_alive = np.ones(len(base["edge_source"]), bool)
        self._edges: dict[int, list[tuple[int, float]]] = {}  # of files whose edges in the base do not hold
        self._moved: set[str] = set()
        self._touched: set[int] = set()
        self._resolver: ImportResolver | None = None

    # -- the present

    def put(self, at: int, modules: tuple[str, ...] | None, *, came: bool) -> None:
        """A file is there with these imports; None: with those of the base."""
        self._forget(at)
        if modules is not None:
            self._own[at] = modules
            for key in self._keys(at):
                self._mentioned[key].add(at)
        if came:
            self._moved.add(self._paths[at])
            if self._resolver is not None:
                self._resolver.add(at, self._paths[at])
        self._touched.add(at)

    def drop(self, at: int) -> None:
        """A file is gone."""
        self._forget(at)
        self._moved.add(self._paths[at])
        if self._resolver is not None:
            self._resolver.remove(at, self._paths[at])
        self._touched.add(at)

    def settle(self) -> None:
        """Look up again, once for all changes so far, the imports that may mean something else now."""
        for at in sorted(self._touched | self._importers()):
            self._renew(at)
        self._touched.clear()
        self._moved.clear()

    def warm(self) -> ImportResolver:
        """What the first change would have to wait for."""
        if self._resolver is None:
            present = ((at, path) for at, path in enumerate(self._paths) if self._contents[at] >= 0)
            self._resolver = ImportResolver(present)
        return self._resolver

    def _forget(self, at: int) -> None:
        if at in self._own:
            for key in self._keys(at):
                self._mentioned[key].discard(at)
            del self._own[at]

    def _keys(self, at: int) -> set[str]:
        folder = self._paths[at].rpartition("/")[0]
        return {key for module in self._own[at] for key in mentions(folder, module)}

    def _importers(self) -> set[int]:
        """The files with an import that may mean a path which came or went."""
        found: set[int] = set()
        for path in self._moved:
            for key in meant_by(path):
                found |= self._mentioned.get(key, set())
        if len(self._moved) > MANY_MOVED:
            files = np.unique(self._base["import_file"])
            return found.union(files[self._alive[files]].tolist())
        return found.union(*map(self._importers_in_base, self._moved))

    def _importers_in_base(self, path: str) -> set[int]:
        base, last, meant = self._base, meant_by(path)[-1], meant_by(path)
        raw, offsets = bytes(base["module_text"]), base["module_at"]
        named = np.zeros(len(base.modules), bool)
        wanted = last.encode("utf-8", "surrogatepass")
        at = raw.find(wanted)
        while at >= 0:
            named[np.searchsorted(offsets, at, side="right") - 1] = True
            at = raw.find(wanted, at + 1)
        # A relative import may also mean a folder above its own file, whose name is not in its text.
        below = np.array([last in self._folder(file).split("/") for file in range(len(base.paths))], bool)
        files, modules = base["import_file"], base["import_module"]
        likely = np.flatnonzero(named[modules] | (self._relative()[modules] & below[files]))
        found: set[int] = set()
        for row in likely.tolist():
            file = int(files[row])
            if file not in found and self._alive[file]:
                module = base.modules[int(modules[row])]
                if not mentions(self._folder(file), module).isdisjoint(meant):
                    found.add(file)
        return found

    def _folder(self, at: int) -> str:
        return self._paths[at].rpartition("/")[0]

    def _relative(self) -> npt.NDArray[np.bool_]:
        """Which imports of the base begin with a dot."""
        raw, offsets = self._base["module_text"], self._base["module_at"]
        first = np.minimum(offsets[:-1], max(0, len(raw) - 1))
        if not len(raw):
            return np.zeros(len(first), bool)
        return np.asarray(raw[first] == ord("."), bool)

    def _renew(self, at: int) -> None:
        """Look up a file's imports again."""
        if at < len(self._base.paths):
            start, end = np.searchsorted(self._base["edge_source"], (at, at + 1))
            self._edge_alive[start:end] = False
        self._edges.pop(at, None)
        edges: list[tuple[int, float]] = []
        for module in self.modules(at):
            found = [one for one in self.warm().resolve(self._paths[at], module) if one != at]
            edges.extend((target, IMPORT_WEIGHT / len(found)) for target in found)
        if edges:
            self._edges[at] = edges

    # -- reading

    def modules(self, at: int) -> tuple[str, ...]:
        """The texts of a file's imports."""
        if at in self._own:
            return self._own[at]
        if at >= len(self._alive) or not self._alive[at]:
            return ()
        start, end = np.searchsorted(self._base["import_file"], (at, at + 1))
        return tuple(self._base.modules[int(one)] for one in self._base["import_module"][start:end])

    def targets(self, at: int) -> list[int]:
        """The files that a file imports, ascending."""
        start, end = np.searchsorted(self._base["edge_source"], (at, at + 1))
        held = self._base["edge_target"][start:end][self._edge_alive[start:end]].tolist()
        return sorted({*held, *(target for target, _ in self._edges.get(at, ()))})

    def sources(self, at: int) -> list[int]:
        """The files that import a file, ascending."""
        held = self._base["edge_source"][(self._base["edge_target"] == at) & self._edge_alive].tolist()
        new = (source for source, edges in self._edges.items() if any(to == at for to, _ in edges))
        return sorted({*held, *new})

    def arrays(self) -> tuple[Ints, Ints, Floats]:
        """All edges: sources, targets, weights."""
        base, alive = self._base, self._edge_alive
        new = [(source, *edge) for source, edges in sorted(self._edges.items()) for edge in edges]
        columns = list(zip(*new, strict=True)) or [(), (), ()]
        return (
            np.concatenate([base["edge_source"][alive], np.array(columns[0], np.int32)]),
            np.concatenate([base["edge_target"][alive], np.array(columns[1], np.int32)]),
            np.concatenate([base["edge_weight"][alive], np.array(columns[2], np.float64)]),
        )
