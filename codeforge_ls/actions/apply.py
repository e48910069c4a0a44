"""Carrying out what the gate let through: checkpoint first, then files, a command or a restore."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.judge import Writable
from codeforge_ls.actions.merging import Merge, Merger, Plan, merged_event
from codeforge_ls.actions.preview import diff_of, file_diff
from codeforge_ls.actions.rewind import Rewinder
from codeforge_ls.actions.text import count_changes
from codeforge_ls.actions.tool import Changes, CommandLine, FileEdit, Prepared, Rewind, clip
from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.actions import Action, Applied, Effects, FileChange, Outcome, Tool, content_hash
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind
from codeforge_ls.model.errors import CodeForgeError, Conflict, Denied
from codeforge_ls.model.events import PROGRESS, Delta, EventDraft, EventType
from codeforge_ls.model.limits import ExecMode, Execution, NetworkMode
from codeforge_ls.model.policy import PolicyLayer
from codeforge_ls.policy.masking import Masks
from codeforge_ls.sandbox import CommandResult, CommandSpec, Sandbox
from codeforge_ls.store import Store

log = logging.getLogger(__name__)

MAX_FORCED = 500  # ignored files that come into the checkpoint before a merge
T = TypeVar("T")


@dataclass
class Applier:
    """The hands of the gate. Only the gate calls it, inside ``exclusive``: one change of the tree at a time.

    ``layers`` is a folder outside the workspace for what commands write in hybrid mode; ``execution`` says how a
    command runs that belongs to no run. ``on_changed`` is told the paths that were changed, after the fact.
    """

    root: Path
    files: WorkspaceFiles
    checkpoints: Checkpoints
    rewinder: Rewinder
    sandbox: Sandbox
    store: Store
    merger: Merger
    layers: Path
    execution: Callable[[Sequence[PolicyLayer]], Execution]
    command_seconds: Callable[[], float]
    on_changed: Callable[[Sequence[str]], None]

    def __post_init__(self) -> None:
        self._lock = asyncio.Lock()
        self._masks = Masks(self.root)

    @contextlib.asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Nobody else changes the tree through the gate meanwhile."""
        async with self._lock:
            yield

    def with_base_hashes(self, effects: Effects, prepared: Prepared) -> Effects:
        """The effects with the hash of what each file held when the change was computed.

        Raises ``Conflict`` when a path led elsewhere by then: the policy has judged another file.
        """
        if not isinstance(prepared, Changes):
            return effects
        known = {edit.now.path: edit.now for edit in prepared.edits}
        for effect in effects.paths:
            if known[effect.path].real != effect.real:
                raise Conflict(
                    f"{effect.path} leads elsewhere now; nothing was done.", hint="Propose it again."
                )
        return effects.model_copy(
            update={
                "paths": tuple(e.model_copy(update={"base_hash": known[e.path].hash}) for e in effects.paths)
            }
        )

    async def with_present_hashes(self, effects: Effects, prepared: Prepared) -> Effects:
        """The effects with the hash of what each file holds now. Raises ``Conflict`` where that is not what the change
        was computed from."""
        if not isinstance(prepared, Changes):
            return effects
        for edit in prepared.edits:
            if (await self.files.current(edit.now.path)).hash != edit.now.hash:
                raise Conflict(
                    f"{edit.now.path} changed meanwhile; nothing was written.", hint="Read it again."
                )
        return self.with_base_hashes(effects, prepared)

    async def change(self, action: Action, changes: Changes) -> Applied:
        """Write all files, or put back those that were written and raise ``Conflict``. ``put`` compares each file once
        more with what it was computed from."""
        checkpoint = await self._checkpoint(action, [edit.now.path for edit in changes.edits])
        done: list[FileEdit] = []
        try:
            for edit in changes.edits:
                await self.files.put(edit.now, edit.after)
                done.append(edit)
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self._put_back(done)))
            raise
        files = tuple(map(_file_change, changes.edits))
        self.on_changed([change.path for change in files])
        lines = [f"{change.change} {change.path} (+{change.added} -{change.removed})" for change in files]
        return Applied(
            outcome=Outcome.APPLIED,
            output=clip("\n".join(lines) + "\n" + diff_of(changes), 6000) + _not_whole(checkpoint),
            checkpoint_id=checkpoint.id,
            files=files,
        )

    async def _put_back(self, done: Sequence[FileEdit]) -> None:
        for edit in reversed(done):
            try:
                written = await self.files.current(edit.now.path)
                if edit.after is not None and written.hash == content_hash(edit.after):
                    await self.files.put(written, edit.now.data)
            except CodeForgeError:
                log.exception("could not put back %s", edit.now.path)

    def executing(self, action: Action, layers: Sequence[PolicyLayer]) -> Action:
        """The action with how its command would run: as its run does, else as the settings and the policy say."""
        if action.execution is not None or action.tool is not Tool.BASH:
            return action
        return action.model_copy(update={"execution": self.execution(layers)})

    async def run(
        self,
        action: Action,
        line: CommandLine,
        layers: Sequence[PolicyLayer],
        on_output: Callable[[str], None] | None,
    ) -> Applied:
        """Run a command after a checkpoint, so that what it changed is known and can be taken back."""
        execution = self.executing(action, layers).execution or Execution()
        self.sandbox.require(execution.mode)
        if execution.mode is ExecMode.HYBRID:
            return await self._run_in_layer(action, line, layers, execution, on_output)
        before = await self._checkpoint(action, ())
        spec = await self._spec(action, line, layers, execution)
        try:
            result = await self.sandbox.run(spec, on_output)
        finally:
            changed = await asyncio.shield(asyncio.ensure_future(self._changed_since(before)))
        outcome = Outcome.FAILED if _failed(result) else Outcome.APPLIED
        return _ran(outcome, spec, result, "", before, changed)

    async def _run_in_layer(
        self,
        action: Action,
        line: CommandLine,
        layers: Sequence[PolicyLayer],
        execution: Execution,
        on_output: Callable[[str], None] | None,
    ) -> Applied:
        """Run a command on a layer over the workspace and merge the layer if the command succeeds."""
        began = time.time_ns()
        before = await self._checkpoint(action, ())
        spec = await self._spec(action, line, layers, execution)
        layer = await self.sandbox.layer(spec, self.layers)
        try:
            spec = replace(spec, layer=layer)
            result = await self.sandbox.run(spec, on_output)
            if _failed(result):
                return _ran(Outcome.FAILED, spec, result, "; nothing was merged", before, ())
            call = action.call_id or action.id
            plan = Plan(str(layer.folder), action.stream, call)
            await self.merger.plan(layer, before, began, Writable(self.root, layers), plan)
            if plan.steps:  # what people changed since is in a checkpoint too, and so are ignored files
                before = await self._checkpoint(action, [step.path for step in plan.steps[:MAX_FORCED]])
                plan.checkpoint_id = before.id
            merge = await _to_the_end(self._merge(action, plan))
        finally:
            await asyncio.shield(asyncio.to_thread(layer.remove))
        outcome = Outcome.CONFLICT if merge.conflicts else Outcome.APPLIED
        note = f"; {merge.text}" if plan.steps or merge.conflicts or merge.refused else ""
        return _ran(outcome, spec, result, note, before, tuple(merge.files))

    async def _merge(self, action: Action, plan: Plan) -> Merge:
        merge = await self.merger.carry_out(plan)
        await self.store.append(merged_event(plan, merge, action.actor.label))
        self.on_changed([change.path for change in merge.files])
        return merge

    async def _spec(
        self, action: Action, line: CommandLine, layers: Sequence[PolicyLayer], execution: Execution
    ) -> CommandSpec:
        shield = await asyncio.to_thread(self._masks.shielded, layers)
        limits = execution.limits
        seconds = line.timeout or self.command_seconds()
        return CommandSpec(
            command=line.command,
            cwd=self.root,
            workspace=self.root,
            timeout=min(seconds, limits.wall_seconds or seconds),
            # Without a sandbox that cuts the network a person was asked, and told that it stays open.
            network=limits.network_mode is NetworkMode.HOST or not self.sandbox.can_cut_network,
            masked=shield.hidden,
            readonly=shield.fixed,
            limits=limits,
            mode=execution.mode,
            run=action.actor.run_id or "",
        )

    async def _changed_since(self, before: Checkpoint) -> tuple[FileChange, ...]:
        changed = await self.checkpoints.changed(before)
        self.on_changed([change.path for change in changed])
        return tuple(changed)

    async def rewind(self, action: Action, rewind: Rewind) -> Applied:
        """Restore a checkpoint; open documents are edited in their editor."""
        unsaved = await self.rewinder.unsaved(rewind.only or ())
        with self._telling(action):
            restored = await self.rewinder.restore(rewind.checkpoint, action.stream, rewind.only)
        await self.store.append(
            _created(action, restored.safety, unsaved),
            EventDraft(
                stream=action.stream,
                type=EventType.CHECKPOINT_RESTORED,
                payload={"restored": restored.model_dump(mode="json")},
                actor=action.actor.label,
            ),
        )
        self.on_changed(restored.changed)
        output = f"Restored {len(restored.changed)} paths; safety checkpoint {restored.safety.id}."
        if restored.conflicts:
            output += f" Left alone because they changed meanwhile: {', '.join(restored.conflicts)}."
        return Applied(
            outcome=Outcome.CONFLICT if restored.conflicts else Outcome.APPLIED,
            output=output,
            data={"restored": restored.model_dump(mode="json")},
            checkpoint_id=restored.safety.id,
        )

    def prepare(self, prepared: Prepared) -> Prepared:
        """A person is about to be asked: get the checkpoint ready while they think, and have the question about a
        command say so where it could not be taken back."""
        self.checkpoints.prepare()
        if isinstance(prepared, CommandLine):
            return replace(prepared, undone=not self.checkpoints.too_much)
        return prepared

    @contextlib.contextmanager
    def _telling(self, action: Action) -> Iterator[None]:
        """Meanwhile say to whoever follows the stream how far the checkpoint is."""

        def tell(_percent: float | None, message: str) -> None:
            self.store.publish_delta(
                Delta(stream=action.stream, event_id=action.id, channel=PROGRESS, offset=0, text=message)
            )

        with self.checkpoints.telling(tell):
            yield

    async def _checkpoint(self, action: Action, paths: Sequence[str]) -> Checkpoint:
        """A picture of the tree before the action. Without it the action is denied."""
        call = action.call_id or action.id
        try:
            with self._telling(action):
                checkpoint = await self.checkpoints.create(
                    action.stream,
                    label=f"codeforge-checkpoint: {action.tool.value} {call}",
                    kind=CheckpointKind.ACTION,
                    call_id=call,
                    force=paths,
                    nothing_else=bool(paths) and action.tool is not Tool.BASH,
                )
        except CodeForgeError as error:
            raise Denied(
                f"No checkpoint could be taken, so nothing was done: {error.message}", hint=error.hint
            ) from error
        await self.store.append(_created(action, checkpoint, await self.rewinder.unsaved(paths)))
        return checkpoint


def _failed(result: CommandResult) -> bool:
    return bool(result.timed_out or result.limit or result.exit_code)


def _not_whole(checkpoint: Checkpoint) -> str:
    """What a person must know before they rely on a checkpoint of a folder that is too large."""
    if not checkpoint.only_named:
        return ""
    return (
        f"\n[The checkpoint holds only files that edits named, as there are {checkpoint.only_named}: what commands"
        " change cannot be taken back. Let .gitignore name the folders of data or build output.]"
    )


def _ran(
    outcome: Outcome,
    spec: CommandSpec,
    result: CommandResult,
    note: str,
    checkpoint: Checkpoint,
    files: tuple[FileChange, ...],
) -> Applied:
    """What came of a command, with a last line that says how it ended."""
    ending = f"exit code {result.exit_code}"
    if result.timed_out:
        ending = f"timed out after {spec.timeout:g} s"
    elif result.limit:
        ending = f"ended by a limit: {result.limit}"
    return Applied(
        outcome=outcome,
        output=clip(f"{result.output.rstrip()}\n[{ending}{note}]".lstrip()) + _not_whole(checkpoint),
        data={
            "exit_code": result.exit_code,
            "timed_out": result.timed_out,
            "limit": result.limit,
            "duration": result.duration,
            "mode": spec.mode.value,
        },
        checkpoint_id=checkpoint.id,
        files=files,
    )


async def _to_the_end(work: Coroutine[object, object, T]) -> T:
    """Await it; who is cancelled meanwhile still waits until it is done."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _created(action: Action, checkpoint: Checkpoint, unsaved: Mapping[str, str]) -> EventDraft:
    return EventDraft(
        stream=action.stream,
        type=EventType.CHECKPOINT_CREATED,
        payload={"checkpoint": checkpoint.model_dump(mode="json"), "documents": dict(unsaved)},
        actor=action.actor.label,
    )


def _file_change(edit: FileEdit) -> FileChange:
    added, removed = count_changes(file_diff(edit))
    change = "deleted" if edit.after is None else "modified" if edit.now.exists else "created"
    return FileChange(
        path=edit.now.path,
        change=change,
        base_hash=edit.now.hash,
        new_hash=content_hash(edit.after) if edit.after is not None else None,
        added=added,
        removed=removed,
    )
