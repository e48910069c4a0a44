"""The index as the daemon uses it: one object a workspace, all work in its index worker and its query worker."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from codeforge_ls.index.asking import (
    MAX_BUDGET,
    MAX_LIMIT,
    MAX_NAME,
    MAX_QUERY,
    Asking,
    items,
    only,
    text,
    within,
)
from codeforge_ls.index.changes import relative_path
from codeforge_ls.index.embedding_job import EmbeddingJob, EmbeddingService
from codeforge_ls.index.feed import Feed
from codeforge_ls.index.graph_questions import GraphQuestions
from codeforge_ls.index.limits import Fusion, IndexSettings, Limits, SearchSettings
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput, Unavailable
from codeforge_ls.model.index import (
    Hit,
    IndexExplanation,
    IndexState,
    IndexStatus,
    MapEntry,
    RepoMap,
    SearchAnswer,
    SkippedFile,
)
from codeforge_ls.standby import INDEX_WORKER, QUERY_WORKER, Standby, command
from codeforge_ls.workers import Worker

log = logging.getLogger(__name__)


class Index(GraphQuestions):
    """Search, symbols and map of one workspace. Questions may be asked from the first second on.

    Paths are relative to the root with ``/``, or absolute; what lies outside the root is not indexed. Every answer
    carries the state of the index. Questions survive the death of a worker; changes are sent again after one.
    """

    def __init__(
        self,
        root: Path,
        state: Path,
        settings: IndexSettings,
        env: Mapping[str, str] | None = None,
        *,
        search: Callable[[], SearchSettings] = Fusion,
        early: Standby | None = None,
    ) -> None:
        """``env`` is the workers' whole environment; None takes this process's. ``search`` is asked for each search.

        ``early`` has the workers if they were started before; ``on_status`` are told each change of the status."""
        self._limits = Limits.of(settings)
        self._status = IndexStatus(state=IndexState.EMPTY, percent=0)
        self.on_status: list[Callable[[IndexStatus], None]] = []
        self.started_at = 0.0  # seconds since the epoch; what changed before is met by the first build
        self._progress: set[Callable[[IndexStatus], None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        arguments = [str(root), str(state), self._limits.to_json()]
        env, early = {**(os.environ if env is None else env)}, early or Standby()
        self._feed = Feed(
            arguments,
            env,
            early.take(INDEX_WORKER),
            lambda notice: self._take_status(notice.get("status")),
            lambda why: self._take_status({**self._status.model_dump(), "state": "error", "message": why}),
        )
        self._writer = self._feed.worker
        self._reader = Worker(
            "query", command(QUERY_WORKER), env=env, arguments=arguments, early=early.take(QUERY_WORKER)
        )
        self._search = search
        self._embedding: EmbeddingJob | None = None
        super().__init__(root, Asking(self._reader, self._feed, self.status))

    # -- life

    async def start(self) -> None:
        """Begin to index in the background and return at once."""
        if not self._tasks:
            self.started_at = time.time()
            self._feed.build()
            loops = [self._warm_reader(), *self._feed.loops()]
            self._tasks = [asyncio.create_task(one) for one in loops]

    def embed(self, service: EmbeddingService) -> None:
        """From now on, an embedding model stands in for the word vectors as far as it has answered."""
        self._embedding = EmbeddingJob(self._writer, service, self._tell)
        self._embedding.look(self._status)
        self._tasks.append(asyncio.create_task(self._embedding.run()))

    async def stop(self) -> None:
        """End both workers and their children."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._asking.stop()
        await asyncio.gather(self._writer.stop(), self._reader.stop())

    def worker_pids(self) -> dict[str, int]:
        """The process ids of the workers that run, by name."""
        pids = {worker.name: worker.pid for worker in (self._writer, self._reader)}
        return {name: pid for name, pid in pids.items() if pid is not None}

    async def build(
        self, force: bool = False, on_progress: Callable[[IndexStatus], None] | None = None
    ) -> IndexStatus:
        """Bring the index up to date with the disk and wait for it; ``force`` parses everything again.

        Raises ``Unavailable`` when the index worker was given up.
        """
        if on_progress:
            self._progress.add(on_progress)
        try:
            self._take_status(await self._feed.built(force=force))
            return self.status()
        finally:
            if on_progress:
                self._progress.discard(on_progress)

    def status(self) -> IndexStatus:
        """How complete and fresh the index is now. Costs nothing."""
        pending = self._feed.pending
        if not pending and not self._embedding:
            return self._status
        legs = (*self._status.legs, self._embedding.state()) if self._embedding else self._status.legs
        return self._status.model_copy(
            update={"stale_files": self._status.stale_files + pending, "legs": legs}
        )

    async def skipped(self, limit: int = 1000) -> list[SkippedFile]:
        """Files that are not in the index, by path, with the reason."""
        rows = await self._writer.call("skipped", {"limit": within("limit", limit, 1, 100_000)}, repeat=True)
        return [
            SkippedFile(path=str(row[0]), reason=str(row[1]), size=int(str(row[2])))
            for row in (rows if isinstance(rows, list) else [])
            if isinstance(row, list)
        ]

    # -- questions

    async def search(
        self,
        query: str,
        limit: int = 10,
        path_glob: str | None = None,
        group_by: Literal["chunk", "file"] = "chunk",
        *,
        language: str | None = None,
        kind: str | None = None,
        explain: bool = False,
    ) -> SearchAnswer:
        """The chunks, or the files, that fit a query of words or names best.

        ``path_glob`` is a pattern as in .gitignore; ``language`` and ``kind`` (of the symbol a hit shows) must be
        those of the hit. ``explain`` adds to each hit why it is where it is. Raises ``InvalidInput``.
        """
        if group_by not in {"chunk", "file"}:
            raise InvalidInput("group_by is 'chunk' or 'file'.", data={"field": "group_by"})
        params: JsonObject = {
            "query": text("query", query, MAX_QUERY),
            "limit": within("limit", limit, 1, MAX_LIMIT),
            "path_glob": text("path_glob", path_glob, MAX_QUERY) if path_glob else None,
            "group_by": group_by,
            "language": text("language", language, MAX_NAME) if language else None,
            "kind": text("kind", kind, MAX_NAME) if kind else None,
            "explain": explain,
        }
        fusion = self._search()
        for weight in ("rrf_k", "vector_weight", "symbol_vector_weight"):
            params[weight] = getattr(fusion, weight)
        if self._embedding and (vector := await self._embedding.query(query)):
            params["embedding"] = vector
        raw = await self._asking.ask("search", params)
        hits = tuple(Hit.model_validate(hit) for hit in items(raw, "hits"))
        legs = tuple(str(leg) for leg in items(raw, "legs"))
        return SearchAnswer(hits=hits, index=self._asking.condition(raw), legs=legs)

    async def repo_map(
        self,
        budget_tokens: int = 1024,
        focus: Sequence[str] = (),
        query: str = "",
        exclude: Sequence[str] = (),
    ) -> RepoMap:
        """The most important definitions as text of at most ``budget_tokens`` (len/4, rounded up).

        ``focus`` are paths being worked on, ``query`` words of the task: both draw the map towards them. Files in
        ``exclude`` are left out.
        """
        near = [relative_path(self._root, path) for path in focus]
        params: JsonObject = {
            "budget_tokens": within("budget_tokens", budget_tokens, 1, MAX_BUDGET),
            "focus": [path for path in near if path],
            "open": [*sorted(self._feed.open)],
            "query": text("query", query, MAX_QUERY) if query else "",
            "exclude": list(exclude),
        }
        raw = await self._asking.ask("repo_map", params)
        rows = [row for row in items(raw, "entries") if isinstance(row, list)]
        more: dict[str, object] = {
            "budget": budget_tokens,
            "symbols": len(rows),
            "entries": [dict(zip(MapEntry.model_fields, row, strict=True)) for row in rows],
            "index": self._asking.condition(raw),
        }
        return RepoMap.model_validate({**only(raw, RepoMap), **more})

    async def explain(self, path: str) -> IndexExplanation:
        """Why a file is, or is not, in the index. Raises ``InvalidInput`` for a path outside the workspace."""
        inside = relative_path(self._root, path)
        if not inside:
            raise InvalidInput(f"{path} is outside the workspace.", data={"field": "path"})
        raw = await self._writer.call("explain", {"path": inside}, repeat=True)
        if not isinstance(raw, dict):
            raise Unavailable("The index worker gave no answer.", hint="Try again.")
        return IndexExplanation.model_validate({**raw, "index": self.status()})

    # -- changes

    async def document_changed(self, path: str, text: str) -> None:
        """An open document has this unsaved text; it counts instead of the file until ``document_closed``."""
        inside = relative_path(self._root, path)
        if inside:
            # One too long is refused anyway, and so still is.
            self._feed.write(inside, text[: self._limits.max_file_bytes + 1])

    async def document_closed(self, path: str) -> None:
        """The document is closed: the file on disk counts again."""
        if inside := relative_path(self._root, path):
            self._feed.close(inside)

    async def files_changed(self, paths: Sequence[str]) -> None:
        """Files or folders were made, saved, renamed or deleted. Returns at once; double news cost nothing."""
        inside = {relative_path(self._root, path) for path in paths}
        self._feed.touch(path for path in inside if path is not None and path.split("/")[0] != ".git")

    async def settled(self, within: float = 10.0) -> bool:
        """Wait until all changes known so far are in the index; False when ``within`` seconds did not suffice."""
        return await self._feed.settled(within)

    # -- inside

    async def _warm_reader(self) -> None:
        """Start the query worker before the first question: its imports take half a second."""
        try:
            await self._asking.ask("warm", {}, patient=False)
        except Unavailable as error:
            log.warning("query worker: %s", error.text)

    def _take_status(self, raw: JsonValue) -> None:
        if not isinstance(raw, dict):
            return
        self._status = IndexStatus.model_validate(raw)
        if self._embedding:
            self._embedding.look(self._status)
        self._tell()

    def _tell(self) -> None:
        for listener in (*self.on_status, *self._progress):
            listener(self.status())
