"""What a checkpoint's commit says about itself: ``meta.json`` at the top of its tree."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationError

from codeforge_ls.checkpoints.names import shown, unquoted
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind, SkippedPath
from codeforge_ls.model.errors import Unavailable

META = "meta.json"
MODES = "modes"
SHOWN_SKIPS = 200  # a checkpoint travels in an event; the full list stays in meta.json


class Meta(Frozen):
    """The record in the tree. Paths are quoted (names.py); unit ``i`` is the tree ``u<i>`` beside this file."""

    version: Literal[1] = 1
    id: str
    stream: str
    label: str
    kind: CheckpointKind
    call_id: str | None
    created_at: float
    head: str
    branch: str
    units: tuple[str, ...]
    skipped: tuple[SkippedPath, ...]
    by_force: tuple[str, ...] = ()
    looked_at: tuple[str, ...] | None = None
    too_much: str = ""

    @staticmethod
    def parse(raw: bytes) -> Meta:
        """Read a record. Raises Unavailable when it is damaged or from a newer version."""
        try:
            return Meta.model_validate_json(raw)
        except ValidationError as error:
            raise Unavailable(
                "The record of this checkpoint cannot be read.", hint="A newer version may have written it."
            ) from error

    def checkpoint(self, commit: str) -> Checkpoint:
        """The checkpoint as the rest of the product sees it."""
        return Checkpoint(
            id=self.id,
            stream=self.stream,
            commit=commit,
            label=self.label,
            kind=self.kind,
            call_id=self.call_id,
            head=self.head,
            skipped=tuple(
                entry.model_copy(update={"path": shown(unquoted(entry.path))})
                for entry in self.skipped[:SHOWN_SKIPS]
            ),
            only_named=self.too_much,
            created_at=self.created_at,
        )


def encode_modes(modes: dict[bytes, int]) -> bytes:
    """Permission bits of the files that have others than 0644 or 0755: ``660 path NUL`` each, sorted."""
    return b"".join(b"%o %s\0" % (bits, path) for path, bits in sorted(modes.items()))


def decode_modes(raw: bytes) -> dict[bytes, int]:
    """What ``encode_modes`` wrote."""
    rows = (row.split(b" ", 1) for row in raw.split(b"\0")[:-1])
    return {path: int(bits, 8) for bits, path in rows}


def standard_bits(executable: bool) -> int:
    """The permission bits a file has when nothing else is written down."""
    return 0o755 if executable else 0o644
