"""Hybrid mode: the layer of a command that succeeded is merged into the workspace, three ways, all of it or what fits.

The base is the checkpoint before the command, ours is the workspace now (unsaved text in editors included), theirs is
the layer. What only the command changed is taken; what both changed is merged by lines where it is text and does not
overlap, else it is a conflict and stays as it is. The plan is written down before the first file is touched: a daemon
that is killed meanwhile finishes it when the workspace is opened again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from codeforge_ls import git
from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.landing import ABSENT, FOLDER, OTHER, Ground, Held
from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.actions import FileChange, content_hash
from codeforge_ls.model.checkpoints import Checkpoint
from codeforge_ls.model.errors import CodeForgeError, NotFound
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.sandbox.layer import ChangeKind, Layer, LayerChange

log = logging.getLogger(__name__)

WRITERS = (
    16  # files written at the same time: each waits for the disk, and the disk writes many as fast as one
)
CLOCK_NS = 20_000_000  # file times may be this much older than the clock
_TEMPORARY = ".codeforge-merge-{}"


@dataclass(frozen=True)
class Step:
    """One change that is to be made. ``expected`` is what the path held when it was planned, ``wanted`` what it is to
    hold, both as ``Held.text``; ``seen`` is the hash of the text that an editor held, which may differ from the disk;
    ``source`` is the file with the bytes, of a link the link itself."""

    path: str
    kind: str
    mode: int = 0
    expected: str = ABSENT
    wanted: str = ABSENT
    source: str = ""
    seen: str | None = None


@dataclass
class Merge:
    """What came of a layer: what was changed, what stays because both changed it, what may not be changed."""

    files: list[FileChange] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """In words, for the model and the person."""
        said = [f"{len(self.files)} merged into the workspace"]
        if self.conflicts:
            said.append(f"left alone because they changed meanwhile: {_named(self.conflicts)}")
        if self.refused:
            said.append(f"not merged because they are protected or no files: {_named(self.refused)}")
        return "; ".join(said)


@dataclass
class Plan:
    """The steps, and what is no step. Written to the journal as it is."""

    layer: str
    stream: str
    call_id: str
    steps: list[Step] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    checkpoint_id: str = ""


class Merger:
    """Merges layers into one workspace, one at a time. ``journal`` is a file in the state folder."""

    def __init__(self, files: WorkspaceFiles, checkpoints: Checkpoints, journal: Path) -> None:
        self._files, self._checkpoints, self._journal = files, checkpoints, journal
        self._root = os.path.realpath(files.root)
        self._ground = Ground(self._root, _TEMPORARY.format(0))

    async def plan(
        self, layer: Layer, base: Checkpoint, began_ns: int, may_write: Callable[[str], bool], plan: Plan
    ) -> Plan:
        """Decide what happens to each path. ``base`` was taken at ``began_ns`` (``time.time_ns``) or later."""
        changes = await asyncio.to_thread(layer.changes, Path(self._root))
        suspects: list[tuple[LayerChange, Held, Held]] = []
        for change, ours, theirs in await asyncio.to_thread(self._sorted, layer, changes, may_write, plan):
            if ours.changed_ns >= began_ns - CLOCK_NS or self._files.open_document(change.path):
                suspects.append((change, ours, theirs))
            else:
                _take(plan, change, ours, theirs, str(layer.upper / change.path))
        if suspects:
            changed = {one.path for one in await self._checkpoints.changed(base)}
            for change, ours, theirs in suspects:
                await self._decide(plan, layer, base, change, (ours, theirs), changed)
        order = {ChangeKind.DELETE.value: 0, ChangeKind.REMOVE_FOLDER.value: 1}
        plan.steps.sort(key=lambda step: order.get(step.kind, 2))
        return plan

    def _sorted(
        self, layer: Layer, changes: Sequence[LayerChange], may_write: Callable[[str], bool], plan: Plan
    ) -> list[tuple[LayerChange, Held, Held]]:
        """What may be merged, with what the workspace and the layer hold; the rest goes into the plan."""
        upper = Ground(os.fspath(layer.upper), "")
        kept = []
        for change in changes:
            if (
                change.kind is ChangeKind.SPECIAL
                or ".git" in change.path.split("/")
                or not may_write(change.path)
            ):
                if change.kind not in (ChangeKind.FOLDER, ChangeKind.REMOVE_FOLDER):  # what is in it is told
                    plan.refused.append(change.path)
                continue
            try:
                ours = self._ground.held(change.path)
                gone = change.kind in (ChangeKind.DELETE, ChangeKind.REMOVE_FOLDER)
                theirs = Held(ABSENT) if gone else upper.held(change.path)
            except OSError as error:
                log.warning("%r is not merged: %s", change.path, error)
                plan.refused.append(change.path)
                continue
            if change.kind in (ChangeKind.FOLDER, ChangeKind.REMOVE_FOLDER):
                plan.steps.append(Step(change.path, change.kind.value, change.mode))
            elif ours.text != theirs.text:
                kept.append((change, ours, theirs))
        return kept

    async def _decide(
        self,
        plan: Plan,
        layer: Layer,
        base: Checkpoint,
        change: LayerChange,
        held: tuple[Held, Held],
        changed: set[str],
    ) -> None:
        """A path that somebody may have changed since the command began, or that an editor has open."""
        ours, theirs = held
        source = str(layer.upper / change.path)
        was = await self._was(base, change.path)
        document = self._files.open_document(change.path)
        now = (await self._files.current(change.path)).data if document else ours.data
        untouched = change.path not in changed and now == ours.data
        if was is None:
            untouched = untouched and ours.kind == ABSENT
        elif ours.kind != ABSENT:
            untouched = untouched or was == now
        seen = content_hash(now) if document and now is not None else None
        if untouched:
            _take(plan, change, ours, theirs, source, seen)
        elif now == theirs.data and ours.kind == theirs.kind == "file" and not document:
            _take(
                plan, change, ours, theirs, source
            )  # both made the same change, but for the permission bits
        elif was is not None and now is not None and (ours.kind, theirs.kind) == ("file", "file"):
            merged = await asyncio.to_thread(_merged, layer.folder, now, was, theirs.data)
            if merged is None:
                plan.conflicts.append(change.path)
                return
            place = layer.folder / f"merged-{len(plan.steps)}"
            await asyncio.to_thread(place.write_bytes, merged)
            _take(plan, change, ours, Held("file", merged, theirs.mode), str(place), seen)
        else:
            plan.conflicts.append(change.path)

    async def _was(self, base: Checkpoint, path: str) -> bytes | None:
        try:
            return await self._checkpoints.read(base, path)
        except NotFound:
            return None

    async def carry_out(self, plan: Plan) -> Merge:
        """Make the planned changes, and write down before that they are to be made."""
        merge = Merge(conflicts=list(plan.conflicts), refused=list(plan.refused))
        if plan.steps:
            await asyncio.to_thread(self._write_down, plan)
            through_editor = [step for step in plan.steps if self._files.open_document(step.path)]
            for step in through_editor:
                await self._through_editor(step, merge)
            rest = [step for step in plan.steps if step not in through_editor]
            await asyncio.to_thread(self._on_disk, rest, merge)
            await asyncio.to_thread(self._journal.unlink, missing_ok=True)
        return merge

    async def _through_editor(self, step: Step, merge: Merge) -> None:
        now = await self._files.current(step.path)
        if now.hash != (step.seen or _hash(step.expected)):
            merge.conflicts.append(step.path)  # a person types there
            return
        data = (
            None if step.kind == ChangeKind.DELETE else await asyncio.to_thread(Path(step.source).read_bytes)
        )
        try:
            await self._files.put(now, data)
        except CodeForgeError as error:
            log.info("%r is not merged: %s", step.path, error.message)
            merge.conflicts.append(step.path)
        else:
            merge.files.append(_changed(step))

    async def recover(self) -> tuple[Plan, Merge] | None:
        """Finish the merge that died with its daemon; what it was and what came of it, None if there was none."""
        return await asyncio.to_thread(self._recover)

    def _recover(self) -> tuple[Plan, Merge] | None:
        try:
            raw = json.loads(self._journal.read_bytes())
            plan = Plan(**{**raw, "steps": [Step(**step) for step in raw["steps"]]})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, OSError) as error:
            log.error("the journal of a merge cannot be read: %s", error)  # noqa: TRY400 - the trace tells nothing more
            self._journal.unlink(missing_ok=True)
            return None
        merge = Merge(conflicts=list(plan.conflicts), refused=list(plan.refused))
        for step in plan.steps:
            for number in range(WRITERS):
                Ground(self._root, _TEMPORARY.format(number)).sweep(step.path)
        self._on_disk(plan.steps, merge)
        self._journal.unlink(missing_ok=True)
        Layer(Path(plan.layer)).remove()
        return plan, merge

    def _write_down(self, plan: Plan) -> None:
        partial = self._journal.with_suffix(".new")
        with partial.open("w") as file:
            json.dump(asdict(plan), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._journal)

    def _on_disk(self, steps: Sequence[Step], merge: Merge) -> None:
        writing = [step for step in steps if step.kind in (ChangeKind.FILE, ChangeKind.LINK)]
        for step in steps:
            if step not in writing:
                self._one(self._ground, step, merge)
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="merge") as writers:
            grounds = [Ground(self._root, _TEMPORARY.format(number)) for number in range(WRITERS)]
            parts = [writing[number::WRITERS] for number in range(WRITERS)]
            for done in [
                writers.submit(self._several, *pair, merge) for pair in zip(grounds, parts, strict=True)
            ]:
                done.result()
        merge.files.sort(key=lambda change: change.path)
        merge.conflicts.sort()

    def _several(self, ground: Ground, steps: Sequence[Step], merge: Merge) -> None:
        for step in steps:
            self._one(ground, step, merge)

    def _one(self, ground: Ground, step: Step, merge: Merge) -> None:
        """Make one change, unless it is made already."""
        try:
            if step.kind == ChangeKind.FOLDER:
                ground.make_folder(step.path, step.mode)
                return
            if step.kind == ChangeKind.REMOVE_FOLDER:
                ground.remove_folder(step.path)
                return
            done = ground.held(step.path).text == step.wanted or self._placed(ground, step)
        except OSError as error:
            log.warning("%r is not merged: %s", step.path, error)
            done = False
        if done:
            merge.files.append(_changed(step))
        else:
            merge.conflicts.append(step.path)

    def _placed(self, ground: Ground, step: Step) -> bool:
        if step.kind == ChangeKind.DELETE:
            return ground.delete(step.path, step.expected)
        source = Path(step.source)
        if step.kind == ChangeKind.LINK:
            return ground.put(step.path, os.fsencode(source.readlink()), None, step.expected)
        data = source.read_bytes()
        if Held("file", data, step.mode).text != step.wanted:
            return False  # the layer did not survive whatever ended the daemon
        return ground.put(step.path, data, step.mode, step.expected)


def _take(
    plan: Plan, change: LayerChange, ours: Held, theirs: Held, source: str, seen: str | None = None
) -> None:
    if ours.kind in (FOLDER, OTHER):
        # A folder that gives way to a file is emptied and removed by steps of its own, before.
        ours = Held(ABSENT) if ours.kind == FOLDER else ours
    plan.steps.append(Step(change.path, change.kind.value, theirs.mode, ours.text, theirs.text, source, seen))


def _merged(folder: Path, ours: bytes, base: bytes, theirs: bytes) -> bytes | None:
    """The three texts merged by lines, None where they are no text or the changes overlap."""
    if any(b"\0" in text[:8000] for text in (ours, base, theirs)):
        return None
    with tempfile.TemporaryDirectory(dir=folder) as place:
        names = [str(Path(place) / name) for name in ("ours", "base", "theirs")]
        for name, text in zip(names, (ours, base, theirs), strict=True):
            Path(name).write_bytes(text)
        try:
            return git.call(Path(place), "merge-file", "--stdout", "--quiet", *names)
        except git.GitFailed:
            return None


def _changed(step: Step) -> FileChange:
    kind = (
        "deleted" if step.kind == ChangeKind.DELETE else "created" if step.expected == ABSENT else "modified"
    )
    return FileChange(
        path=_shown(step.path),
        change=kind,
        base_hash=_hash(step.expected),
        new_hash=_hash(step.wanted),
    )


def _hash(held: str) -> str | None:
    return held.rpartition(":")[2] or None


def _shown(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 20} more" if len(paths) > 20 else ""
    return ", ".join(map(_shown, paths[:20])) + more


def merged_event(plan: Plan, merge: Merge, actor: str, *, after_crash: bool = False) -> EventDraft:
    """The event of a merged layer. ``after_crash``: a dead daemon began it and this one finished it."""
    return EventDraft(
        stream=plan.stream,
        type=EventType.LAYER_MERGED,
        payload={
            "call_id": plan.call_id,
            "checkpoint_id": plan.checkpoint_id,
            "files": [change.model_dump(mode="json") for change in merge.files],
            "conflicts": list(merge.conflicts),
            "refused": list(merge.refused),
            "finished_after_crash": after_crash,
        },
        actor=actor,
    )
