"""Carrying out what the gate let through: checkpoint first, then files, a command or a restore."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.preview import diff_of, file_diff
from codeforge_ls.actions.rewind import Rewinder
from codeforge_ls.actions.text import count_changes
from codeforge_ls.actions.tool import Changes, CommandLine, FileEdit, Prepared, Rewind, clip
from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.actions import Action, Applied, Effects, FileChange, Outcome, content_hash
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind
from codeforge_ls.model.errors import CodeForgeError, Conflict, Denied
from codeforge_ls.model.events import PROGRESS, Delta, EventDraft, EventType
from codeforge_ls.model.policy import NetworkMode, PolicyLayer
from codeforge_ls.policy.library import effective_limits
from codeforge_ls.policy.masking import shielded
from codeforge_ls.sandbox import CommandSpec, Sandbox
from codeforge_ls.store import Store

log = logging.getLogger(__name__)


@dataclass
class Applier:
    """The hands of the gate. Only the gate calls it, inside ``exclusive``: one change of the tree at a time.

    ``on_changed`` is told the paths that were changed, after the fact.
    """

    root: Path
    files: WorkspaceFiles
    checkpoints: Checkpoints
    rewinder: Rewinder
    sandbox: Sandbox
    store: Store
    command_seconds: Callable[[], float]
    on_changed: Callable[[Sequence[str]], None]

    def __post_init__(self) -> None:
        self._lock = asyncio.Lock()

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
            output=clip("\n".join(lines) + "\n" + diff_of(changes), 6000) + self._not_whole(checkpoint),
            checkpoint_id=checkpoint.id,
            files=files,
        )

    def _not_whole(self, checkpoint: Checkpoint) -> str:
        """What a person must know before they rely on a checkpoint of a folder that is too large."""
        if not checkpoint.only_named:
            return ""
        return (
            f"\n[The checkpoint holds only files that edits named, as there are {checkpoint.only_named}: what commands"
            " change cannot be taken back. Let .gitignore name the folders of data or build output.]"
        )

    async def _put_back(self, done: Sequence[FileEdit]) -> None:
        for edit in reversed(done):
            try:
                written = await self.files.current(edit.now.path)
                if edit.after is not None and written.hash == content_hash(edit.after):
                    await self.files.put(written, edit.now.data)
            except CodeForgeError:
                log.exception("could not put back %s", edit.now.path)

    async def run(
        self,
        action: Action,
        line: CommandLine,
        layers: Sequence[PolicyLayer],
        on_output: Callable[[str], None] | None,
    ) -> Applied:
        """Run a command between two checkpoints, so that what it changed is known and can be taken back."""
        before = await self._checkpoint(action, ())
        _, _, limits = effective_limits(layers)
        shield = await asyncio.to_thread(shielded, self.root, layers)
        seconds = line.timeout or self.command_seconds()
        spec = CommandSpec(
            command=line.command,
            cwd=self.root,
            workspace=self.root,
            timeout=seconds,
            # Without a sandbox that cuts the network a person was asked, and told that it stays open.
            network=limits.network_mode is NetworkMode.HOST or not self.sandbox.can_cut_network,
            masked=shield.hidden,
            readonly=shield.fixed,
            memory_mb=limits.memory_mb,
            pids_limit=limits.pids_limit,
        )
        try:
            result = await self.sandbox.run(spec, on_output)
        finally:
            changed = await asyncio.shield(asyncio.ensure_future(self._changed_since(before)))
        outcome = Outcome.FAILED if result.timed_out or result.exit_code else Outcome.APPLIED
        ending = f"timed out after {seconds:g} s" if result.timed_out else f"exit code {result.exit_code}"
        return Applied(
            outcome=outcome,
            output=clip(f"{result.output.rstrip()}\n[{ending}]".lstrip()) + self._not_whole(before),
            data={"exit_code": result.exit_code, "timed_out": result.timed_out, "duration": result.duration},
            checkpoint_id=before.id,
            files=changed,
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
                    nothing_else=bool(paths),
                )
        except CodeForgeError as error:
            raise Denied(
                f"No checkpoint could be taken, so nothing was done: {error.message}", hint=error.hint
            ) from error
        await self.store.append(_created(action, checkpoint, await self.rewinder.unsaved(paths)))
        return checkpoint


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
