"""PageRank of files without the matrix: rank flows from users to names and from names to their definers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from codeforge_ls.index.graph import CodeGraph
    from codeforge_ls.index.graph_base import GraphBase

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAMPING, ROUNDS = 0.85, 200
MANY_DEFINERS = 20  # a name defined in more files than this says nothing about who is meant
NOTHING = 1e-10  # of all that a file uses: what is left over when it uses only itself is rounding


class BaseMatrices:
    """Uses (names by files, weights) and definitions (names by files, ones) of a base, and what is both.

    Only names that the base defines are rows; made once for a base.
    """

    def __init__(self, base: GraphBase) -> None:
        from scipy.sparse import csr_array

        names, files = base.defined, len(base.paths)
        start = base["use_start"][: names + 1]
        used = int(start[-1])
        weights = np.sqrt(base["use_count"][:used].astype(np.float64))
        weights *= np.repeat(base["name_factor"][:names].astype(np.float64), np.diff(start))
        self.uses = csr_array((weights, base["use_file"][:used], start), shape=(names, files))
        define_name, define_use = base["define_name"], base["define_use"]
        rows = np.searchsorted(define_name, np.arange(names + 1)).astype(np.int32)
        ones = np.ones(len(define_name))
        self.defines = csr_array((ones, base["define_file"], rows), shape=(names, files))
        both = define_use >= 0
        self.own_name = define_name[both].astype(np.int64)
        self.own_file = base["define_file"][both].astype(np.int64)
        self.own_weight = weights[define_use[both]]


class NameFlow:
    """The weighted file graph of one state, in factors.

    File ``u`` uses name ``n`` with weight ``sqrt(count) * factor``; that weight is shared by the ``d(n)`` files that
    define ``n``, without ``u`` itself. So the matrix is *uses* times *definitions*, less its diagonal, plus imports:
    a change touches one row of the first, some columns of the second, and nothing has to be multiplied out.
    """

    def __init__(self, graph: CodeGraph) -> None:
        base, files = graph.base, len(graph.paths)
        self.files, self.based, self.names = files, len(base.paths), graph.name_count
        self.alive = np.zeros(files)
        self.alive[: self.based] = graph.alive
        self.present = np.array([content >= 0 for content in graph.contents], bool)
        self._base = graph.matrices
        definers = graph.definers()
        self.counts = (definers > 0) & (definers <= MANY_DEFINERS)
        self.share: Floats = np.divide(1.0, definers, out=np.zeros(self.names), where=self.counts)
        self._read_changed(graph)
        self._add_revived(graph)
        self.import_source, self.import_target, self.import_weight = graph.import_edges()
        self._own = name, file, weight = self._own_uses(graph)
        self._to_itself = _sums(file, weight * self.share[name], self.files)
        self.out = self.outweights()

    def _read_changed(self, graph: CodeGraph) -> None:
        changed = sorted(graph.changed.items())
        none = [np.zeros(0, np.int64)]
        self.use_name = np.concatenate([*none, *(one.use_names for _, one in changed)]).astype(np.int64)
        sizes = [len(one.use_names) for _, one in changed]
        numbers = np.array([file for file, _ in changed], np.int64)
        self.use_file = np.repeat(numbers, sizes)
        self.use_weight = np.concatenate([np.zeros(0), *(one.use_weights for _, one in changed)])
        self.define_name = np.array([name for _, one in changed for name in one.defines], np.int64)
        self.define_file = np.repeat(numbers, [len(one.defines) for _, one in changed])

    def _add_revived(self, graph: CodeGraph) -> None:
        """Names that only changed files define are no columns of the base: their users are added by hand."""
        base = graph.base
        fresh = np.unique(self.define_name)
        fresh = fresh[(fresh >= base.defined) & (fresh < len(base.names))]
        names, files, weights = [self.use_name], [self.use_file], [self.use_weight]
        for name in fresh.tolist():
            users, counts = base.slice("use_file", name), base.slice("use_count", name)
            kept = graph.alive[users]
            files.append(users[kept].astype(np.int64))
            weights.append(np.sqrt(counts[kept].astype(np.float64)) * float(base["name_factor"][name]))
            names.append(np.full(len(files[-1]), name, np.int64))
        self.use_name, self.use_file = np.concatenate(names), np.concatenate(files)
        self.use_weight = np.concatenate(weights)

    def _own_uses(self, graph: CodeGraph) -> tuple[Ints, Ints, Floats]:
        """``(name, file, weight)`` of what a file both uses and defines."""
        matrices = self._base
        held = graph.alive[matrices.own_file]
        keys = self.use_name * self.files + self.use_file
        wanted = self.define_name * self.files + self.define_file
        both = np.isin(keys, wanted)
        return (
            np.concatenate([matrices.own_name[held], self.use_name[both]]),
            np.concatenate([matrices.own_file[held], self.use_file[both]]),
            np.concatenate([matrices.own_weight[held], self.use_weight[both]]),
        )

    # -- the matrix in factors

    def gather(self, outflow: Floats) -> Floats:
        """What arrives at each name when each file sends ``outflow`` along a unit of weight."""
        arrived = _sums(self.use_name, self.use_weight * outflow[self.use_file], self.names)
        uses = self._base.uses
        arrived[: uses.shape[0]] += uses @ (outflow * self.alive)[: self.based]
        return arrived

    def spread(self, arrived: Floats) -> Floats:
        """What each file gets of what lies at the names it defines: ``arrived`` is per definer."""
        got = _sums(self.define_file, arrived[self.define_name], self.files)
        defines = self._base.defines
        got[: self.based] += (defines.T @ arrived[: defines.shape[0]]) * self.alive[: self.based]
        return got

    def outweights(self, factor: Floats | None = None) -> Floats:
        """The sum of each file's out-going weights, with the names' weights times ``factor``."""
        boost = self.counts.astype(np.float64) if factor is None else self.counts * factor
        uses = self._base.uses
        every = _sums(self.use_file, self.use_weight * boost[self.use_name], self.files)
        every[: self.based] += (uses.T @ boost[: uses.shape[0]]) * self.alive[: self.based]
        name, file, weight = self._own
        own = _sums(file, weight * (boost * self.share)[name], self.files)
        every += _sums(self.import_source, self.import_weight, self.files)
        return np.where(every - own > NOTHING * every, every - own, 0.0)

    def through(self, outflow: Floats) -> Floats:
        """One step: what each file gets when each sends ``outflow`` along a unit of weight."""
        got = self.spread(self.gather(outflow) * self.share)
        got -= self._to_itself * outflow
        got += _sums(self.import_target, self.import_weight * outflow[self.import_source], self.files)
        return np.maximum(got, 0.0)

    def users(self, name: int) -> Iterator[tuple[int, float]]:
        """The files that use a name, with their weights."""
        uses = self._base.uses
        if name < uses.shape[0]:
            start, end = uses.indptr[name : name + 2]
            for file, weight in zip(uses.indices[start:end], uses.data[start:end], strict=True):
                if self.alive[file]:
                    yield int(file), float(weight)
        for at in np.flatnonzero(self.use_name == name).tolist():
            yield int(self.use_file[at]), float(self.use_weight[at])


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


def words_factor(size: int, names: Sequence[int], factor: float) -> Floats:
    """``factor`` for these names and 1 for all others."""
    factors = np.ones(size)
    factors[list(names)] = factor
    return factors
