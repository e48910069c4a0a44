"""Checkpoints: a byte-exact picture of the workspace, and what a restore did."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from codeforge_ls.model.base import Frozen


class CheckpointKind(StrEnum):
    """Why it was taken: before an action, by hand, or as the safety net of a restore."""

    ACTION = "action"
    MANUAL = "manual"
    SAFETY = "safety"


class SkippedPath(Frozen):
    """A path that is in no checkpoint and is never touched by a restore."""

    path: str
    reason: str = Field(description="size, unreadable, special or outside")
    size: int = 0


class Checkpoint(Frozen):
    """A stored picture. ``commit`` names it in shadow.git; ``stream`` is the run or session it belongs to."""

    id: str
    stream: str
    commit: str
    label: str = ""
    kind: CheckpointKind = CheckpointKind.ACTION
    call_id: str | None = None
    head: str = Field(default="", description="The user's HEAD at that time, for people; never moved")
    skipped: tuple[SkippedPath, ...] = ()
    only_named: str = Field(
        default="",
        description="Why it holds only files that edits named, and not the workspace; empty: it does",
    )
    created_at: float


class Restored(Frozen):
    """What a restore did. ``safety`` is the checkpoint that undoes it; ``conflicts`` were left as they are."""

    checkpoint_id: str
    safety: Checkpoint
    changed: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
