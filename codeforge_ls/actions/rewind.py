"""Going back to a checkpoint, with documents that are open in an editor.

A checkpoint holds what was on disk. Text that an editor held unsaved at that moment is kept in the event that
records the checkpoint, so that going back gives a person their unsaved text again and not the older file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.actions import content_hash
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.checkpoints import Checkpoint, Restored
from codeforge_ls.model.errors import CodeForgeError, LimitReached, NotFound
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.store import Store

PAGE = 500
MAX_UNSAVED = 1 << 20  # characters; the log keeps no longer text


@dataclass(frozen=True)
class Rewinder:
    """Restores the disk through the checkpoints and open documents through their editors."""

    files: WorkspaceFiles
    checkpoints: Checkpoints
    store: Store

    async def unsaved(self, paths: Iterable[str]) -> dict[str, str]:
        """The text of those paths that an editor has open and that differs from the disk.

        Raises ``LimitReached`` for a text that is too long to be kept in the log: it could not be given back.
        """
        found: dict[str, str] = {}
        for path in paths:
            held = self.files.open_document(path)
            if held is not None and await self._differs_from_disk(path):
                text = held[1].text
                if len(text) > MAX_UNSAVED:
                    raise LimitReached(
                        f"{path} has more than {MAX_UNSAVED:,} characters that are not saved.",
                        hint="Save it first: only then can a checkpoint hold it.",
                    )
                found[path] = text
        return found

    async def _differs_from_disk(self, path: str) -> bool:
        try:
            return (await self.files.current(path)).hash != await self.files.disk_hash(path)
        except CodeForgeError:
            return True  # the disk holds no file there that could be compared

    async def restore(self, checkpoint: Checkpoint, stream: str, only: tuple[str, ...] | None) -> Restored:
        """Bring disk and open documents back. What a person changed meanwhile is in the safety checkpoint."""
        then = await self._unsaved_at(checkpoint)
        edited: list[str] = []
        refused: list[str] = []

        async def give(path: str, data: bytes | None) -> None:
            try:
                if await self._give_back(path, then.get(path), data):
                    edited.append(path)
            except CodeForgeError:
                refused.append(path)

        async def through_editor(path: str, data: bytes | None) -> bool:
            if self.files.open_document(path) is None:
                return False
            await give(path, data)
            # Where the editor saved what it was given, the disk is done; else it is restored as well.
            return data is not None and await self.files.disk_hash(path) == content_hash(data)

        restored = await self.checkpoints.restore(checkpoint, stream, only=only, write=through_editor)
        for path in dict.fromkeys([*then, *(only or ())]):
            if path not in restored.changed and self.files.open_document(path) is not None:
                await give(path, await self._was(checkpoint, path))
        return restored.model_copy(
            update={
                "changed": tuple(dict.fromkeys([*restored.changed, *edited])),
                "conflicts": tuple(dict.fromkeys([*restored.conflicts, *refused])),
            }
        )

    async def _was(self, checkpoint: Checkpoint, path: str) -> bytes | None:
        try:
            return await self.checkpoints.read(checkpoint, path)
        except NotFound:
            return None

    async def _give_back(self, path: str, text: str | None, data: bytes | None) -> bool:
        """Give an open document the text it had: unsaved ``text``, else ``data``. False: nothing had to be done.

        Raises ``Conflict`` when the editor does not take it.
        """
        now = await self.files.current(path)
        if now.held_by is None:
            return False
        wanted = now.text().encode(text) if text is not None else data
        if wanted is None or now.hash == content_hash(wanted):
            return False
        await self.files.put(now, wanted, save=text is None)
        return True

    async def _unsaved_at(self, checkpoint: Checkpoint) -> dict[str, str]:
        after = 0
        while events := await self.store.events(checkpoint.stream, after=after, limit=PAGE):
            for event in events:
                if event.type == EventType.CHECKPOINT_CREATED and _names(event.payload, checkpoint.id):
                    documents = event.payload.get("documents")
                    return (
                        {str(k): str(v) for k, v in documents.items()} if isinstance(documents, dict) else {}
                    )
            after = events[-1].seq
        return {}


def finished_restore(restored: Restored) -> tuple[EventDraft, EventDraft]:
    """The events of a restore that a dead daemon began and this one finished."""
    stream = restored.safety.stream
    safety: JsonObject = {"checkpoint": restored.safety.model_dump(mode="json"), "documents": {}}
    done: JsonObject = {"restored": restored.model_dump(mode="json"), "finished_after_crash": True}
    return (
        EventDraft(stream=stream, type=EventType.CHECKPOINT_CREATED, payload=safety),
        EventDraft(stream=stream, type=EventType.CHECKPOINT_RESTORED, payload=done),
    )


def _names(payload: JsonObject, checkpoint_id: str) -> bool:
    created = payload.get("checkpoint")
    return isinstance(created, dict) and created.get("id") == checkpoint_id
