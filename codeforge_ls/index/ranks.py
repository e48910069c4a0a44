"""PageRank of files without the matrix: rank flows from users to names and from names to their definers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from codeforge_ls.index.graph import CodeGraph
    from codeforge_ls.index.graph_base import GraphBase

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.integer[Any]]
Triples = tuple[Numbers, Numbers, Floats]

DAMPING, ROUNDS = 0.85, 200
MANY_DEFINERS = 20  # a name defined in more files than this says nothing about who is meant
NOTHING = 1e-10  # of all that a file uses: what is left over when it uses only itself is rounding


class BaseFlow:
    """What the files of a base give to the ranks, as sparse matrices; made once for a base.

    ``uses`` (names, files) has the weights, ``defines`` (files, names) what one definer gets, ``own`` the uses by
    definers, ``(row, file, weight)``. Only names take part that somebody uses and that not too many files define:
    ``names``; ``row`` gives the row of each, -1 for the others.
    """

    def __init__(self, base: GraphBase) -> None:
        from scipy.sparse import csr_array

        self._base, files = base, len(base.paths)
        self.used = np.diff(base["use_start"]) > 0
        definers = np.bincount(base["define_name"], minlength=len(self.used))
        self.names: Ints = np.flatnonzero(self.used & (definers > 0) & (definers <= MANY_DEFINERS))
        self.row = np.full(len(self.used), -1, np.int32)
        self.row[self.names] = np.arange(len(self.names))
        name, file, weight = self.users(self.names)
        shape = len(self.names), files
        self.uses = csr_array((weight, (self.row[name], file)), shape=shape)
        name, file, weight = self.definers(self.names)
        row = self.row[name]
        self.defines = csr_array((1.0 / definers[name], (file, row)), shape=shape[::-1])
        self.own = _columns((row, file, weight), lambda _, __, weight: weight > 0)

    def users(self, names: Ints) -> Triples:
        """``(name, file, weight)`` of all uses of some names."""
        first, end = self._base["use_start"][names], self._base["use_start"][names + 1]
        at, name = _ranges(first, end), np.repeat(names, end - first)
        return name, self._base["use_file"][at], self._weights(name, at)

    def definers(self, names: Ints) -> Triples:
        """``(name, file, weight of the use of it there, or 0)`` of all definitions of some names."""
        every = self._base["define_name"]
        first, end = np.searchsorted(every, names), np.searchsorted(every, names, side="right")
        at, name = _ranges(first, end), np.repeat(names, end - first)
        use = self._base["define_use"][at]
        weight = np.where(use >= 0, self._weights(name, np.maximum(use, 0)), 0.0)
        return name, self._base["define_file"][at], weight

    def _weights(self, name: Ints, use: Ints) -> Floats:
        if not len(use):
            return np.zeros(0)
        counts, factors = self._base["use_count"], self._base["name_factor"]
        weights: Floats = np.sqrt(counts[use].astype(np.float64)) * factors[name].astype(np.float64)
        return weights


class NameFlow:
    """The weighted file graph of one state, in factors.

    File ``u`` uses name ``n`` with weight ``sqrt(count) * factor``; that weight is shared by the ``d(n)`` files that
    define ``n``, without ``u`` itself. So the matrix is *definitions* times *uses*, less its diagonal, plus imports:
    a change adds a little to the matrices of the base, and nothing has to be multiplied out.

    ``names`` take part; ``row`` gives the row of each name, -1 for the others; ``share`` is what one definer gets.
    """

    def __init__(self, graph: CodeGraph) -> None:
        from scipy.sparse import csr_array

        self.files, base = len(graph.paths), graph.base_flow
        self.present = np.array(graph.contents, np.int64) >= 0
        self.counts = (graph.definers() > 0) & (graph.definers() <= MANY_DEFINERS)
        self.names, self.row, self.share = base.names, base.row, np.zeros(0)
        self._uses, self._defines, self._own = base.uses, base.defines, base.own
        if graph.version:
            self._change(graph)
        else:
            self.share = 1.0 / graph.definers()[self.names]
        row, file, weight = self._own
        itself = _sums(file, weight * self.share[row], self.files)
        source, target, self._import_weight = graph.imports.arrays()
        self._import_source, every = source, np.arange(self.files)
        ends = np.concatenate([target, every]), np.concatenate([source, every])
        direct = np.concatenate([self._import_weight, -itself])
        self._direct = csr_array((direct, ends), shape=(self.files, self.files))
        self.out = self.outweights()

    def _change(self, graph: CodeGraph) -> None:
        """Leave out the files that are not as in the base, and add those that changed."""
        base, changed = graph.base_flow, sorted(graph.changed.items())
        numbers = np.array([file for file, _ in changed], np.int64)
        none = np.zeros(0, np.int64)
        use_name = np.concatenate([none, *(one.use_names for _, one in changed)])
        use_file = np.repeat(numbers, [len(one.use_names) for _, one in changed])
        use_weight = np.concatenate([np.zeros(0), *(one.use_weights for _, one in changed)])
        define_name = np.array([name for _, one in changed for name in one.defines], np.int64)
        define_file = np.repeat(numbers, [len(one.defines) for _, one in changed])
        both = np.isin(use_name * self.files + use_file, define_name * self.files + define_file)
        # Names that take part only now: changed files use or define them, or do not any more.
        used = np.concatenate([base.used, np.zeros(graph.name_count - len(base.used), bool)])
        used[use_name] = True
        self.row = np.full(graph.name_count, -1, np.int32)
        self.row[: len(base.row)] = base.row
        fresh = np.flatnonzero(self.counts & used & (self.row < 0))
        self.row[fresh] = np.arange(len(base.names), len(base.names) + len(fresh))
        self.names = np.concatenate([base.names, fresh])
        self.share = np.divide(
            1.0, graph.definers()[self.names], out=np.zeros(len(self.names)), where=self.counts[self.names]
        )
        known, alive = fresh[fresh < len(base.used)], graph.alive
        users = _columns(base.users(known), lambda _, file, __: alive[file])
        definers = _columns(base.definers(known), lambda _, file, __: alive[file])
        shape = len(self.names), self.files
        more = self._rows((use_name, use_file, use_weight), users)
        self._uses = _grown(base.uses, base.uses.data * alive[base.uses.indices], more, shape)
        row, file, _ = self._rows((define_name, define_file, np.ones(len(define_name))), definers)
        data = self.share[base.defines.indices] * np.repeat(alive, np.diff(base.defines.indptr))
        self._defines = _grown(base.defines, data, (file, row, self.share[row]), shape[::-1])
        own = self._rows(definers, (use_name[both], use_file[both], use_weight[both]))
        held = _columns(base.own, lambda _, file, __: alive[file])
        self._own = _joined(held, _columns(own, lambda _, __, weight: weight > 0))

    def _rows(self, *triples: Triples) -> Triples:
        """Those whose names take part, with rows in place of the names."""
        name, file, weight = _joined(*triples)
        return _columns((self.row[name], file, weight), lambda row, _, __: row >= 0)

    # -- the matrix in factors

    def gather(self, outflow: Floats) -> Floats:
        """What arrives at each of ``names`` when each file sends ``outflow`` along a unit of weight."""
        arrived: Floats = self._uses @ outflow
        return arrived

    def outweights(self, factor: Floats | None = None) -> Floats:
        """The sum of each file's out-going weights, with those of each name times its ``factor``."""
        boost = (self.share > 0) * (1.0 if factor is None else factor[self.names])
        row, file, weight = self._own
        every = self._uses.T @ boost + _sums(self._import_source, self._import_weight, self.files)
        own = _sums(file, weight * (boost * self.share)[row], self.files)
        return np.where(every - own > NOTHING * every, every - own, 0.0)

    def through(self, outflow: Floats) -> Floats:
        """One step: what each file gets when each sends ``outflow`` along a unit of weight."""
        got: Floats = self._defines @ (self._uses @ outflow) + self._direct @ outflow
        return np.maximum(got, 0.0)

    def users(self, name: int) -> Iterator[tuple[int, float]]:
        """The files that use a name, with their weights; none for a name that takes no part."""
        if (row := int(self.row[name])) >= 0:
            start, end = self._uses.indptr[row : row + 2]
            pairs = zip(
                self._uses.indices[start:end].tolist(), self._uses.data[start:end].tolist(), strict=True
            )
            yield from ((file, weight) for file, weight in pairs if weight)


def _grown(matrix: csr_array, data: Floats, more: Triples, shape: tuple[int, int]) -> csr_array:
    """A matrix with other data in a larger shape, and the entries ``(row, column, value)`` added."""
    from scipy.sparse import csr_array

    ends = np.pad(matrix.indptr, (0, shape[0] - matrix.shape[0]), mode="edge")
    row, column, value = more
    return csr_array((data, matrix.indices, ends), shape=shape) + csr_array(
        (value, (row, column)), shape=shape
    )


def _joined(*triples: Triples) -> Triples:
    first, second, third = zip(*triples, strict=True)
    return np.concatenate(first), np.concatenate(second), np.concatenate(third)


def _columns(triples: Triples, kept: Callable[[Numbers, Numbers, Floats], npt.NDArray[np.bool_]]) -> Triples:
    held = kept(*triples)
    return triples[0][held], triples[1][held], triples[2][held]


def _ranges(first: Ints, end: Ints) -> Ints:
    """The numbers from each first up to its end, one range after the other."""
    sizes = end - first
    return np.repeat(first - np.cumsum(sizes) + sizes, sizes) + np.arange(int(sizes.sum()))


def page_rank(
    flow: NameFlow,
    present: npt.NDArray[np.bool_],
    personal: Floats | None = None,
    *,
    start: Floats | None = None,
    damping: float = DAMPING,
    rounds: int = ROUNDS,
    tolerance: float,
) -> Floats:
    """PageRank of the present files as ``networkx.pagerank`` defines it; sums to 1.

    ``personal`` gives the restart weights and those of files without out-edges. Power iteration from ``start`` until
    all ranks together change by less than ``tolerance``, at most ``rounds`` times.
    """
    count = int(present.sum())
    if not count:
        return np.zeros(flow.files)
    even = present / count
    restart = even if personal is None or personal.sum() <= 0 else personal / personal.sum()
    out = flow.out
    scale = np.divide(1.0, out, out=np.zeros(flow.files), where=out > 0)
    dangling = present & (out == 0)
    kept = even if start is None else start * present
    ranks: Floats = kept / kept.sum() if kept.sum() > 0 else even  # all that had a rank may be gone
    for _ in range(rounds):
        before = ranks
        ranks = damping * (flow.through(before * scale) + before[dangling].sum() * restart)
        ranks += (1 - damping) * restart
        if np.abs(ranks - before).sum() < tolerance:
            break
    return ranks


def _sums(groups: npt.NDArray[np.integer[Any]], values: Floats, count: int) -> Floats:
    """The sum of the values of each group; ``bincount`` gives integers for no values at all."""
    return np.bincount(groups, values, minlength=count).astype(np.float64, copy=False)
