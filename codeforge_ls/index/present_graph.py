"""The code graph of the state that a snapshot is at, and what is derived from it: each is made anew with its base."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from codeforge_ls.index.arrays_file import BadArrays
from codeforge_ls.index.calls import Relations
from codeforge_ls.index.graph import CodeGraph
from codeforge_ls.index.graph_base import GraphBase
from codeforge_ls.index.name_search import NameSearch
from codeforge_ls.index.repomap import MapTable
from codeforge_ls.index.snapshot import Snapshot
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import Unavailable

log = logging.getLogger(__name__)

# A new graph is asked for once this many files, or this share of all, are not as in the present one.
CHANGED_FILES, CHANGED_SHARE = 100, 0.02
NEW_NAMES = 20_000  # or once it holds so many names beside those of its base


class PresentGraph:
    """The graph and its companions. ``refresh`` brings the snapshot to the present and says whether there is one;
    ``known`` is what the worker says of its state in each answer."""

    def __init__(
        self, state: Path, snapshot: Snapshot, refresh: Callable[[], bool], known: Callable[[], JsonObject]
    ) -> None:
        self._state, self.snapshot, self.refresh, self.known = state, snapshot, refresh, known
        self._name: str | None = None
        self._usable = False
        self._take(GraphBase.empty())

    def _take(self, base: GraphBase) -> None:
        self._graph = CodeGraph(base)
        self._followed = -2  # the generation that the graph is at
        self.relations = Relations(self._graph)
        self.search = NameSearch(self._graph)
        self.table = MapTable(self._graph)

    def now(self) -> CodeGraph:
        """The graph of the present state. Raises ``Unavailable`` before the index exists."""
        if not self.refresh():
            raise Unavailable("The index is not there yet.", hint="It is being built; try again in a moment.")
        return self.as_is()

    def as_is(self) -> CodeGraph:
        """The graph of the state that the snapshot is at."""
        name = self.snapshot.graph_name
        if name != self._name:
            base, self._usable = GraphBase.empty(), False
            if name:
                try:
                    base, self._usable = GraphBase.map(self._state / "graph" / name), True
                except BadArrays as problem:
                    log.warning("the code graph: %s", problem)
            self._take(base)
            self._name = name
        if self._followed != self.snapshot.generation:
            changed = self.snapshot.changed_after(self._followed)
            self._graph.follow(self.snapshot.db, self.snapshot.present, changed)
            self._followed = self.snapshot.generation
        return self._graph

    def condition(self) -> JsonObject:
        """Files that the graph lacks count as unread; ``graph_stale`` asks for a new base."""
        known = self.known()
        unread = max(int(str(known.get("unread") or 0)), self._graph.unread)
        many = max(CHANGED_FILES, CHANGED_SHARE * len(self.snapshot.present))
        full = len(self._graph.changed) > many or self._graph.new_name_count > NEW_NAMES
        old = full or self._graph.unread > 0 or not self._name
        stale = "damaged" if self._name and not self._usable else "old" if old else ""
        return {**known, "unread": unread, "graph_stale": stale}

    def warm(self) -> None:
        """Load what the first question would have to wait for."""
        if self.refresh():
            self.as_is().warm()
            len(self.table)
