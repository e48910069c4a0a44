"""Which file imports which: the edges of the base where they still hold, and over them those looked up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.graph_base import IMPORT_WEIGHT, Floats, GraphBase, Ints
from codeforge_ls.index.imports import ImportResolver, may_mean, path_key

if TYPE_CHECKING:
    from codeforge_ls.index.graph import ChangedFile


class ImportEdges:
    """The import edges between the files of a graph, by number.

    ``paths``, ``contents``, ``holds`` (whether the base's facts of a file still do) and ``changed`` are the graph's
    own, which it changes; it says here when a file comes, goes or changes. The graph itself is not held: a base that
    is replaced would stay mapped until a look for garbage.
    """

    def __init__(
        self,
        base: GraphBase,
        paths: Sequence[str],
        contents: Sequence[int],
        holds: npt.NDArray[np.bool_],
        changed: Mapping[int, ChangedFile],
    ) -> None:
        self._base, self._paths, self._contents = base, paths, contents
        self._holds, self._changed = holds, changed
        self._resolver: ImportResolver | None = None
        self._alive = np.ones(len(base["edge_source"]), bool)
        self._new: dict[int, list[tuple[int, float]]] = {}  # of files whose edges in the base do not hold

    def came(self, at: int, path: str) -> None:
        """A path is new: the imports that may mean it are looked up again."""
        if self._resolver is None:
            self.warm()
        else:
            self._resolver.add(at, path)
        self._renew_importers(at, path)

    def went(self, at: int, path: str) -> None:
        """A path is gone: so are those that meant it."""
        if self._resolver is None:
            self.warm()
        else:
            self._resolver.remove(at, path)
        self._renew_importers(at, path)

    def warm(self) -> ImportResolver:
        """What knows all paths, made if it is not there: the first change would have to wait for it."""
        if self._resolver is None:
            every, contents = enumerate(self._paths), self._contents
            self._resolver = ImportResolver((at, path) for at, path in every if contents[at] >= 0)
        return self._resolver

    def _renew_importers(self, at: int, path: str) -> None:
        for file in self._likely_importers(path):
            if file != at:
                self.renew(file)

    def _likely_importers(self, path: str) -> set[int]:
        """The files with an import that may mean ``path``."""
        base, paths, last = self._base, self._paths, path_key(path)[-1]
        raw, offsets = bytes(base["module_text"]), base["module_at"]
        named = np.zeros(len(base.modules), bool)
        wanted = last.encode("utf-8", "surrogatepass")
        at = raw.find(wanted)
        while at >= 0:
            named[np.searchsorted(offsets, at, side="right") - 1] = True
            at = raw.find(wanted, at + 1)
        # A relative import may also mean a folder above its own file, whose name is not in its text.
        below = np.array([last in folder.split("/") for folder in self._folders()], bool)
        files, modules = base["import_file"], base["import_module"]
        likely = np.flatnonzero(named[modules] | (self._relative()[modules] & below[files]))
        found: set[int] = set()
        for row in likely.tolist():
            file = int(files[row])
            if file not in found and self._holds[file]:
                folder, module = paths[file].rpartition("/")[0], base.modules[int(modules[row])]
                if may_mean(folder, module, path):
                    found.add(file)
        for file, changed in self._changed.items():
            folder = paths[file].rpartition("/")[0]
            if any(may_mean(folder, module, path) for module in changed.facts.imports):
                found.add(file)
        return found

    def _folders(self) -> list[str]:
        return [path.rpartition("/")[0] for path in self._base.paths]

    def _relative(self) -> npt.NDArray[np.bool_]:
        """Which imports of the base begin with a dot."""
        raw, offsets = self._base["module_text"], self._base["module_at"]
        first = np.minimum(offsets[:-1], max(0, len(raw) - 1))
        if not len(raw):
            return np.zeros(len(first), bool)
        return np.asarray(raw[first] == ord("."), bool)

    def renew(self, at: int) -> None:
        """Look up a file's imports again."""
        base, paths = self._base, self._paths
        if at < len(base.paths):
            start, end = np.searchsorted(base["edge_source"], (at, at + 1))
            self._alive[start:end] = False
        self._new.pop(at, None)
        modules = self._modules(at)
        if not modules:
            return
        resolver, edges = self.warm(), list[tuple[int, float]]()
        for module in modules:
            found = [target for target in resolver.resolve(paths[at], module) if target != at]
            edges.extend((target, IMPORT_WEIGHT / len(found)) for target in found)
        self._new[at] = edges

    def _modules(self, at: int) -> tuple[str, ...]:
        """The texts of a file's imports."""
        if at in self._changed:
            return self._changed[at].facts.imports
        if at >= len(self._holds) or not self._holds[at]:
            return ()
        base = self._base
        start, end = np.searchsorted(base["import_file"], (at, at + 1))
        return tuple(base.modules[int(one)] for one in base["import_module"][start:end])

    def of(self, at: int) -> list[int]:
        """The files that a file imports, ascending."""
        if at in self._new:
            return sorted({target for target, _ in self._new[at]})
        base = self._base
        start, end = np.searchsorted(base["edge_source"], (at, at + 1))
        return sorted({*base["edge_target"][start:end][self._alive[start:end]].tolist()})

    def into(self, at: int) -> list[int]:
        """The files that import a file, ascending."""
        base = self._base
        found = set(base["edge_source"][(base["edge_target"] == at) & self._alive].tolist())
        found |= {source for source, edges in self._new.items() if any(to == at for to, _ in edges)}
        return sorted(found)

    def edges(self) -> tuple[Ints, Ints, Floats]:
        """All of them: sources, targets, weights."""
        base, alive = self._base, self._alive
        new = [(source, *edge) for source, edges in sorted(self._new.items()) for edge in edges]
        columns = list(zip(*new, strict=True)) or [(), (), ()]
        return (
            np.concatenate([base["edge_source"][alive], np.array(columns[0], np.int32)]),
            np.concatenate([base["edge_target"][alive], np.array(columns[1], np.int32)]),
            np.concatenate([base["edge_weight"][alive], np.array(columns[2], np.float64)]),
        )
