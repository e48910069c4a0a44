"""The index as the daemon uses it: one object a workspace, all work in its index worker and its query worker."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from codeforge_ls.index.changes import lone_surrogate, relative_path
from codeforge_ls.index.embedding_job import EmbeddingJob, EmbeddingService
from codeforge_ls.index.feed import Feed
from codeforge_ls.index.limits import Fusion, IndexSettings, Limits, SearchSettings
from codeforge_ls.index.owners import Owners
from codeforge_ls.model.base import Frozen, JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput, Unavailable
from codeforge_ls.model.index import (
    CallAnswer,
    EdgeKind,
    FileOwners,
    GraphAnswer,
    GraphPicture,
    Hit,
    IndexExplanation,
    IndexState,
    IndexStatus,
    MapEntry,
    Reference,
    Relation,
    RepoMap,
    SearchAnswer,
    SkippedFile,
    Symbol,
    SymbolAnswer,
)
from codeforge_ls.standby import INDEX_WORKER, QUERY_WORKER, Standby, command
from codeforge_ls.workers import Worker

log = logging.getLogger(__name__)

# A question waits this long for changes on their way, if they are few: it should know the last key stroke.
SETTLE_SECONDS, SETTLE_CHANGES = 0.25, 20
MAX_QUERY, MAX_NAME = 10_000, 500
# What a walk follows unless it is told; owners cost a call of git.
WALKED = (EdgeKind.CALL, EdgeKind.IMPORT, EdgeKind.INHERIT, EdgeKind.TEST, EdgeKind.PAIR)
# Answers pass through the event loop: these keep each under a few milliseconds of decoding.
MAX_LIMIT, MAX_SYMBOLS, MAX_BUDGET = 200, 5_000, 100_000


class Index:
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
        self._root = root
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
        self._owners = Owners(root)
        self._writing_graph: asyncio.Task[bool] | None = None
        self._reader = Worker(
            "query", command(QUERY_WORKER), env=env, arguments=arguments, early=early.take(QUERY_WORKER)
        )
        self._search = search
        self._embedding: EmbeddingJob | None = None

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
        if self._writing_graph is not None:
            self._writing_graph.cancel()
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
        rows = await self._writer.call("skipped", {"limit": _within("limit", limit, 1, 100_000)}, repeat=True)
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
            "query": _text("query", query, MAX_QUERY),
            "limit": _within("limit", limit, 1, MAX_LIMIT),
            "path_glob": _text("path_glob", path_glob, MAX_QUERY) if path_glob else None,
            "group_by": group_by,
            "language": _text("language", language, MAX_NAME) if language else None,
            "kind": _text("kind", kind, MAX_NAME) if kind else None,
            "explain": explain,
        }
        fusion = self._search()
        for weight in ("rrf_k", "vector_weight", "symbol_vector_weight"):
            params[weight] = getattr(fusion, weight)
        if self._embedding and (vector := await self._embedding.query(query)):
            params["embedding"] = vector
        raw = await self._ask("search", params)
        hits = tuple(Hit.model_validate(hit) for hit in _list(raw, "hits"))
        legs = tuple(str(leg) for leg in _list(raw, "legs"))
        return SearchAnswer(hits=hits, index=self._condition(raw), legs=legs)

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
            "budget_tokens": _within("budget_tokens", budget_tokens, 1, MAX_BUDGET),
            "focus": [path for path in near if path],
            "open": [*sorted(self._feed.open)],
            "query": _text("query", query, MAX_QUERY) if query else "",
            "exclude": list(exclude),
        }
        raw = await self._ask("repo_map", params)
        rows = [row for row in _list(raw, "entries") if isinstance(row, list)]
        more: dict[str, object] = {
            "budget": budget_tokens,
            "symbols": len(rows),
            "entries": [dict(zip(MapEntry.model_fields, row, strict=True)) for row in rows],
            "index": self._condition(raw),
        }
        return RepoMap.model_validate({**_only(raw, RepoMap), **more})

    async def picture(
        self, files: int = 30, focus: Sequence[str] = (), query: str = "", exclude: Sequence[str] = ()
    ) -> GraphPicture:
        """The top of the file graph: at most ``files`` files, as the map ranks them, and the edges between them."""
        near = [relative_path(self._root, path) for path in focus]
        params: JsonObject = {
            "files": _within("files", files, 2, 200),
            "focus": [path for path in near if path],
            "open": [*sorted(self._feed.open)],
            "query": _text("query", query, MAX_QUERY) if query else "",
            "exclude": list(exclude),
        }
        raw = await self._ask("picture", params)
        return GraphPicture.model_validate({**_only(raw, GraphPicture), "index": self._condition(raw)})

    async def graph_search(
        self,
        query: str | None = None,
        *,
        symbol: str | None = None,
        path: str | None = None,
        edges: Sequence[EdgeKind] = WALKED,
        hops: int = 2,
        limit: int = 10,
        most: int = 200,
    ) -> GraphAnswer:
        """What is reached from the hits of a query, from a symbol (of a path), or from a path.

        Each hop, at most ``hops`` (1 to 4), keeps 0.7 of the score; at most ``most`` nodes are visited. Raises
        ``NotFound`` and ``InvalidInput``; ``Unavailable`` when owners are asked for and git cannot tell.
        """
        inside = relative_path(self._root, path) if path else None
        if path and not inside:
            raise InvalidInput(f"{path} is outside the workspace.", data={"field": "path"})
        if not (query or symbol or path):
            raise InvalidInput("A query, a symbol or a path is needed.", data={"field": "query"})
        params: JsonObject = {
            "query": _text("query", query, MAX_QUERY) if query else "",
            "symbol": _text("symbol", symbol, MAX_NAME) if symbol else "",
            "path": inside,
            "edges": [EdgeKind(kind).value for kind in edges],
            "hops": _within("hops", hops, 1, 4),
            "limit": _within("limit", limit, 1, MAX_LIMIT),
            "most": _within("most", most, 1, 2_000),
        }
        if EdgeKind.OWNER in edges:
            params["owners_key"] = await self._owners.key()
        raw = await self._ask("walk", params)
        if raw.get("needs_owners"):
            table = await self._owners.table()
            await self._reader.call("owners", {"key": params["owners_key"], "owners": table}, repeat=True)
            raw = await self._ask("walk", params)
        return GraphAnswer.model_validate({**_only(raw, GraphAnswer), "index": self._condition(raw)})

    async def owners(self, path: str) -> FileOwners:
        """Who owns a file by CODEOWNERS, and who changed it most lately. Costs one call of git a commit."""
        inside = relative_path(self._root, path)
        if not inside:
            raise InvalidInput(f"{path} is outside the workspace.", data={"field": "path"})
        return await self._owners.of(inside)

    async def calls(
        self,
        path: str,
        line: int,
        column: int,
        direction: Literal["none", "incoming", "outgoing"] = "none",
        limit: int = 200,
    ) -> CallAnswer:
        """The definition at a position (line 1-based, column 0-based UTF-16), or the one that the name there means;
        and who calls it or whom it calls. Raises ``NotFound``."""
        inside = relative_path(self._root, path)
        if not inside:
            raise InvalidInput(f"{path} is outside the workspace.", data={"field": "path"})
        params: JsonObject = {
            "path": inside,
            "line": _within("line", line, 1, 10_000_000),
            "column": _within("column", column, 0, 10_000_000),
            "direction": direction,
            "limit": _within("limit", limit, 1, MAX_SYMBOLS),
        }
        raw = await self._ask("calls", params)
        return CallAnswer.model_validate({**_only(raw, CallAnswer), "index": self._condition(raw)})

    async def explain(self, path: str) -> IndexExplanation:
        """Why a file is, or is not, in the index. Raises ``InvalidInput`` for a path outside the workspace."""
        inside = relative_path(self._root, path)
        if not inside:
            raise InvalidInput(f"{path} is outside the workspace.", data={"field": "path"})
        raw = await self._writer.call("explain", {"path": inside}, repeat=True)
        if not isinstance(raw, dict):
            raise Unavailable("The index worker gave no answer.", hint="Try again.")
        return IndexExplanation.model_validate({**raw, "index": self.status()})

    async def symbols(
        self, name: str | None = None, path: str | None = None, limit: int = 100, prefix: bool = False
    ) -> SymbolAnswer:
        """Definitions called ``name`` (``prefix``: that start with it, contain it, or have its letters in order),
        or the outline of ``path``.

        Raises ``NotFound`` for a path that is not indexed, ``Unavailable`` before the index exists.
        """
        if not name and not path:
            raise InvalidInput("A name or a path is needed.", data={"field": "name"})
        inside = relative_path(self._root, path) if path else None
        if path and not inside:
            raise InvalidInput(f"{path} is outside the workspace.", data={"field": "path"})
        params: JsonObject = {
            "name": _text("name", name, MAX_NAME) if name else None,
            "path": inside,
            "limit": _within("limit", limit, 1, MAX_SYMBOLS),
            "prefix": prefix,
        }
        return self._symbol_answer(await self._ask("symbols", params))

    async def symbol_info(
        self,
        name: str | None = None,
        *,
        path: str | None = None,
        line: int | None = None,
        column: int | None = None,
        relation: Relation = "definition",
        limit: int = 100,
    ) -> SymbolAnswer:
        """What a name, or the name at a position (line 1-based, column 0-based UTF-16), means and who uses it.

        ``references`` adds all uses of the name; ``callers`` gives the calls as references and the functions they
        are in as definitions; the others give as definitions what it calls (``callees``), what extends it
        (``implementations``), or all that is one edge away (``neighbours``). Uses are found by name, not by binding.
        Raises ``NotFound``, ``InvalidInput``.
        """
        if relation not in get_args(Relation):
            raise InvalidInput(
                f"relation is one of {', '.join(get_args(Relation))}.", data={"field": "relation"}
            )
        inside = relative_path(self._root, path) if path else None
        if not name and (inside is None or line is None or column is None):
            raise InvalidInput("A name, or path, line and column, are needed.", data={"field": "name"})
        params: JsonObject = {
            "name": _text("name", name, MAX_NAME) if name else "",
            "path": inside,
            "line": _within("line", line or 1, 1, 10_000_000),
            "column": _within("column", column or 0, 0, 10_000_000),
            "relation": relation,
            "limit": _within("limit", limit, 1, MAX_SYMBOLS),
        }
        return self._symbol_answer(await self._ask("symbol_info", params))

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
            await self._ask("warm", {})
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

    # -- inside: questions

    async def _ask(self, method: str, params: JsonObject) -> JsonObject:
        if not self._feed.is_settled and self._feed.pending <= SETTLE_CHANGES:
            await self.settled(SETTLE_SECONDS)
        raw = await self._reader.call(method, params, repeat=True)
        if not isinstance(raw, dict):
            raise Unavailable("The query worker gave no answer.", hint="Try again.")
        if raw.get("bad_segment"):
            log.warning("the base segment is unusable: %s", raw["bad_segment"])
            await self._feed.tried(self._writer.call("drop_segment", {}))
        if raw.get("bad_vectors"):
            log.warning("vectors of segments are unusable: %s", raw["bad_vectors"])
            await self._feed.tried(self._writer.call("drop_vectors", {"segments": raw["bad_vectors"]}))
        if raw.get("graph_stale"):
            self._renew_graph(damaged=raw["graph_stale"] == "damaged")
        return raw

    def _renew_graph(self, *, damaged: bool) -> None:
        """Have the code graph written again, once at a time, and not while a build will do it anyway."""
        idle = self._writing_graph is None or self._writing_graph.done()
        if idle and self._status.state is IndexState.READY:
            self._writing_graph = asyncio.create_task(
                self._feed.tried(self._writer.call("write_graph", {"damaged": damaged}))
            )

    def _condition(self, raw: JsonObject) -> IndexStatus:
        """The status for an answer: files the reader has not taken in yet are stale too."""
        status, unread = self.status(), raw.get("unread")
        if isinstance(unread, int) and unread:
            status = status.model_copy(update={"stale_files": status.stale_files + unread})
        return status

    def _symbol_answer(self, raw: JsonObject) -> SymbolAnswer:
        return SymbolAnswer(
            definitions=tuple(Symbol.model_validate(one) for one in _list(raw, "definitions")),
            references=tuple(Reference.model_validate(one) for one in _list(raw, "references")),
            index=self._condition(raw),
        )


def _only(raw: JsonObject, model: type[Frozen]) -> JsonObject:
    """The fields of a model out of an answer that carries more."""
    return {name: value for name, value in raw.items() if name in model.model_fields}


def _list(raw: JsonObject, key: str) -> list[JsonValue]:
    value = raw.get(key)
    return value if isinstance(value, list) else []


def _text(field: str, value: object, most: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{field} must be text.", data={"field": field})
    if lone_surrogate(value):
        raise InvalidInput(f"{field} has half of a surrogate pair, which is no text.", data={"field": field})
    if len(value) > most:
        raise InvalidInput(f"{field} is longer than {most} characters.", data={"field": field})
    return value


def _within(field: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(f"{field} must be a whole number from {least} to {most}.", data={"field": field})
    return value
