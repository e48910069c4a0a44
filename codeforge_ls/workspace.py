"""The composition root: builds the services of one workspace and holds them. Only here are concrete classes known."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codeforge_ls.actions.apply import Applier
from codeforge_ls.actions.authority import Authority
from codeforge_ls.actions.catalogue import AGENT_TOOLS, ALL_TOOLS
from codeforge_ls.actions.consent import Consent
from codeforge_ls.actions.documents import DocumentHub
from codeforge_ls.actions.executions import Executions
from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.gate import Gate
from codeforge_ls.actions.judge import Readable
from codeforge_ls.actions.merging import Merger
from codeforge_ls.actions.pending import PendingActions
from codeforge_ls.actions.recovery import recover
from codeforge_ls.actions.rewind import Rewinder
from codeforge_ls.actions.tool import ToolContext
from codeforge_ls.approvals.broker import Broker
from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.config import ConfigStore, EditorOptions, ReloadOutcome, Settings, WatchMode
from codeforge_ls.config.file_watch import watch_files
from codeforge_ls.index import Index
from codeforge_ls.index.embedding_job import EmbeddingService
from codeforge_ls.index.files import list_files
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.watch import Watcher
from codeforge_ls.llm.backend import LitellmBackend, require_model
from codeforge_ls.llm.embedder import LitellmEmbedder
from codeforge_ls.llm.retry import RetryPolicy
from codeforge_ls.model.actions import Actor, ActorKind
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.checkpoints import Restored
from codeforge_ls.model.errors import CodeForgeError
from codeforge_ls.model.events import Event, EventDraft, EventType
from codeforge_ls.model.index import IndexStatus
from codeforge_ls.model.policy import PolicyLayer
from codeforge_ls.plans.service import Plans
from codeforge_ls.policy.library import PolicyLibrary
from codeforge_ls.policy.syntax import warm
from codeforge_ls.policy.writer import PolicyWriter
from codeforge_ls.runs.loop import AgentLoop
from codeforge_ls.runs.opening import Opening
from codeforge_ls.runs.service import Runs
from codeforge_ls.sandbox import Place, Sandbox, probe
from codeforge_ls.store import Store
from codeforge_ls.vault import Vault

log = logging.getLogger(__name__)

FIRST_SECONDS = 2.0  # after opening, for the first answers
TIDY_AFTER, TIDY_EVERY = 60.0, 3600.0  # seconds after opening, and between two times
CHECKPOINT_QUOTA = 1 << 30  # bytes
# What a foreign agent may not read is not sent to an embedding model either.
STRANGER = Actor(kind=ActorKind.MCP, name="embedding")


@dataclass
class Workspace:
    """Everything that serves one root. ``health_parts`` are asked by the health operation, by name."""

    root: Path
    state: Path
    config: ConfigStore
    store: Store
    index: Index
    documents: DocumentHub
    files: WorkspaceFiles
    checkpoints: Checkpoints
    policies: PolicyLibrary
    policy_writer: PolicyWriter
    authority: Authority
    approvals: Broker
    vault: Vault
    sandbox: Sandbox
    backend: LitellmBackend
    merger: Merger
    gate: Gate
    runs: Runs
    plans: Plans
    opened_at: float
    watcher: Watcher | None = None
    pending: PendingActions = field(default_factory=PendingActions)
    health_parts: dict[str, Callable[[], JsonValue]] = field(default_factory=dict)
    on_index_status: list[Callable[[IndexStatus], None]] = field(default_factory=list)
    on_config_problems: list[Callable[[], None]] = field(default_factory=list)
    _background: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """The settings in force; read anew each time, they can be reloaded."""
        return self.config.current

    @classmethod
    async def open(
        cls,
        root: Path,
        state: Path,
        config: ConfigStore,
        index: Index,
        environment: Mapping[str, str],
        vault: Vault,
    ) -> Workspace:
        """Open the state of a root and start its services, around an index that is at work already.

        ``environment`` is that of the workers, without the keys that the ``vault`` holds.
        """
        checkpoints = Checkpoints(root, state)
        # These wait for other programs and for the disk, so they do it together.
        place = Place(state, state.name)
        probing = asyncio.create_task(probe(config.current.sandbox, place))
        reading = asyncio.create_task(asyncio.to_thread(PolicyLibrary.of, root, config.current.policy))
        try:
            store = await Store.open(state / "state.db")
        except BaseException:
            await asyncio.wait({probing, reading})
            raise
        try:
            sandbox, policies, restored = await asyncio.gather(probing, reading, checkpoints.recover())
            workspace = cls._compose(
                root, state, store, config, index, environment, vault, sandbox, policies, checkpoints
            )
        except BaseException:
            await store.close()  # its thread would keep the process alive
            raise
        try:
            await workspace._start(restored)  # noqa: SLF001 - our own
        except BaseException:
            await workspace.close("it could not be opened")
            raise
        return workspace

    @classmethod
    def _compose(
        cls,
        root: Path,
        state: Path,
        store: Store,
        config: ConfigStore,
        index: Index,
        environment: Mapping[str, str],
        vault: Vault,
        sandbox: Sandbox,
        policies: PolicyLibrary,
        checkpoints: Checkpoints,
    ) -> Workspace:
        """Build the services and connect them; nothing but the index is at work yet."""
        start = _starter()

        def crashed(name: str, code: int) -> None:
            payload: JsonObject = {"worker": name, "code": code}
            draft = EventDraft(stream="workspace", type=EventType.WORKER_CRASHED, payload=payload)
            start(store.append(draft))

        def changed(paths: Sequence[str]) -> None:
            if paths:
                start(index.files_changed(list(paths)))

        backend = LitellmBackend(
            env=environment,
            keys=vault.get,
            retry=RetryPolicy(retries=config.current.llm.retries),
            on_crash=crashed,
        )
        documents = DocumentHub()
        files = WorkspaceFiles(root, documents, state / "writing")
        broker = Broker(store, lambda: config.current.approvals.timeout_seconds)
        authority = Authority(
            policies,
            broker,
            configured=lambda: config.current.policy.default,
            trusted=lambda: config.loaded.trusted_profile,
        )

        embedding = config.current.embedding
        if model := embedding.model.strip():
            embedder = LitellmEmbedder(backend, model, embedding.api_base, embedding.timeout_seconds)
            index.embed(
                EmbeddingService(
                    embedder,
                    lambda: Readable(root, authority.layers(STRANGER)),
                    embedding.batch,
                    embedding.query_timeout_seconds,
                )
            )

        async def list_names() -> list[str]:
            listing = await asyncio.to_thread(list_files, root, Limits.of(config.current.index))
            return list(listing.files)

        def context(layers: Sequence[PolicyLayer]) -> ToolContext:
            return ToolContext(
                files=files,
                index=index,
                may_read=Readable(root, layers),
                list_files=list_names,
                checkpoint=store.checkpoint,
            )

        executions = Executions(lambda: config.current.sandbox, sandbox)
        place = Place(state)
        merger = Merger(files, checkpoints, state / "merging")
        applier = Applier(
            root=root,
            files=files,
            checkpoints=checkpoints,
            rewinder=Rewinder(files, checkpoints, store),
            sandbox=sandbox,
            store=store,
            merger=merger,
            layers=place.layers,
            execution=executions.of,
            command_seconds=lambda: config.current.runs.command_timeout_seconds,
            on_changed=changed,
        )
        writer = PolicyWriter(root, policies, store)
        consent = Consent(
            store, broker, writer, authority.revision, lambda: config.current.approvals.timeout_seconds
        )
        gate = Gate(store, consent, applier, ALL_TOOLS, context)

        runs = Runs(
            store,
            authority.layers,
            lambda name: require_model(name or config.current.llm.model),
            lambda run: AgentLoop(
                run=run,
                store=store,
                gate=gate,
                backend=backend,
                tools=AGENT_TOOLS,
                settings=lambda: config.current.llm,
                opening=Opening(root, index, checkpoints, backend),
                max_result=lambda: config.current.runs.max_result_bytes,
            ),
            executions,
            config.current.runs.max_concurrent,
        )
        return cls(
            root=root,
            state=state,
            config=config,
            store=store,
            index=index,
            documents=documents,
            files=files,
            checkpoints=checkpoints,
            policies=policies,
            policy_writer=writer,
            authority=authority,
            approvals=broker,
            vault=vault,
            sandbox=sandbox,
            backend=backend,
            merger=merger,
            gate=gate,
            runs=runs,
            plans=Plans(store, runs),
            opened_at=time.time(),
            watcher=_watcher(root, index, checkpoints, config.current),
            on_index_status=index.on_status,
        )

    async def _start(self, restored: Restored | None) -> None:
        await self.approvals.reconcile()
        await self.runs.reconcile()
        await self.plans.reconcile()
        await self.store.append(
            EventDraft(stream="workspace", type=EventType.WORKSPACE_OPENED, payload={"root": str(self.root)})
        )
        self.store.subscribe(self._release_ended)
        layers = Place(self.state).layers
        if changed := await recover(self.files, self.merger, layers, self.store, restored):
            await self.index.files_changed(changed)
        self._background = [
            asyncio.create_task(watch_files(self._own_files, self.reload_settings), name="watch-config"),
            asyncio.create_task(self._settle(), name="settle"),
            asyncio.create_task(self._tidy(), name="tidy-checkpoints"),
        ]

    def _release_ended(self, event: Event) -> None:
        """What the sandbox keeps warm for a run ends with it."""
        if event.type in (EventType.RUN_COMPLETED, EventType.RUN_SUSPENDED):
            release = asyncio.create_task(self.sandbox.release(event.stream.removeprefix("run:")))
            self._background.append(release)
            release.add_done_callback(self._background.remove)

    def busy(self) -> bool:
        """Whether something is at work that a shutdown would interrupt."""
        return bool(self.runs.active() or self.plans.active() or self.approvals.open())

    async def reload_settings(self, options: EditorOptions | None = None) -> ReloadOutcome:
        """Read the configuration and the policies again or, with ``options``, take those of one editor instead.

        A bad configuration keeps the one in force. Whoever listens on ``on_config_problems`` is told to look."""
        if options is None:
            outcome = await asyncio.to_thread(self.config.reload)
            await asyncio.to_thread(self.policies.reload)
            await asyncio.to_thread(self.vault.reload)
            for problem in self.vault.problems:
                log.warning("keys: %s", problem)
        else:  # without a pause, so that a session that leaves meanwhile leaves nothing behind
            outcome = self.config.take_options(options)
        for look in list(self.on_config_problems):
            look()
        if outcome.changed or not outcome.applied:
            await self.store.append(
                EventDraft(
                    stream="workspace",
                    type=EventType.CONFIG_CHANGED,
                    payload={"outcome": outcome.model_dump(mode="json")},
                )
            )
        return outcome

    async def close(self, reason: str) -> None:
        """Shut down in order: stop intake and suspend runs, drain, stop the workers, close the files.

        Every step is taken, whatever the one before came to; together they take at most 7.5 s.
        """
        for task in self._background:
            task.cancel()
        await asyncio.gather(
            _within(3.5, "the watch", self.watcher.stop() if self.watcher else asyncio.sleep(0)),
            _within(3.5, "the runs", self.runs.suspend_all(reason)),
        )
        await _within(0.5, "the plans", self.plans.close())
        closed = EventDraft(stream="workspace", type=EventType.WORKSPACE_CLOSED, payload={"reason": reason})
        await _within(0.5, "the last event", self.store.append(closed))
        await asyncio.gather(
            _within(2.5, "the model worker", self.backend.close()),
            _within(2.5, "the index", self.index.stop()),
            _within(2.5, "the checkpoints", self.checkpoints.close()),
            _within(2.5, "the sandbox", self.sandbox.release()),
        )
        await _within(0.5, "the store", self.store.close())

    async def _settle(self) -> None:
        """What would compete with the first answers; files that change until then are found after."""
        await asyncio.sleep(FIRST_SECONDS)
        if self.watcher:
            await self.watcher.start()
        await warm()
        await asyncio.to_thread(self.policies.read)

    async def _tidy(self) -> None:
        """Drop checkpoints that are older than the log's retention or above the quota, and pack the rest; forget old
        idempotency keys."""
        while True:
            await asyncio.sleep(TIDY_AFTER)
            with contextlib.suppress(CodeForgeError):
                await self.checkpoints.cleanup(self.settings.events.retention_days, CHECKPOINT_QUOTA)
            with contextlib.suppress(CodeForgeError):
                await self.store.reservations.purge()
            await asyncio.sleep(TIDY_EVERY)

    def _own_files(self) -> list[Path]:
        return [self.vault.file, *self.config.watched_files, *self.policies.files()]


async def _within(seconds: float, name: str, closing: Coroutine[object, object, object]) -> None:
    """One step of closing. What fails or takes longer is logged and left: it must not keep the rest open."""
    task = asyncio.ensure_future(closing)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        log.error("closing %s takes longer than %g s; going on without it", name, seconds)
        task.cancel()
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.error("closing %s failed; going on", name, exc_info=error)


def _watcher(root: Path, index: Index, checkpoints: Checkpoints, settings: Settings) -> Watcher | None:
    """Our own watch, unless the setting leaves it to editors: terminals and agents have none."""
    if settings.lsp.watch is WatchMode.CLIENT:
        return None

    async def changed(paths: Sequence[str]) -> None:
        checkpoints.note(paths)
        await index.files_changed(paths)

    return Watcher(root, changed, settings.index.exclude, since=index.started_at)


def _starter() -> Callable[[Coroutine[object, object, object]], None]:
    """Starts what nobody waits for, and holds it until it is done."""
    pending: set[asyncio.Task[object]] = set()

    def start(work: Coroutine[object, object, object]) -> None:
        task = asyncio.ensure_future(work)
        pending.add(task)
        task.add_done_callback(pending.discard)

    return start
