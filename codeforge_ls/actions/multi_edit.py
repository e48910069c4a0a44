"""MultiEdit: several edits in one or more files; all of them or none."""

from __future__ import annotations

from pydantic import Field

from codeforge_ls.actions.edit import MAX_TEXT, refuse_stale
from codeforge_ls.actions.files import Current, WorkspaceFiles
from codeforge_ls.actions.text import replace
from codeforge_ls.actions.tool import Changes, FileEdit, ToolContext, ToolKind
from codeforge_ls.actions.write import whole_file
from codeforge_ls.model.actions import AccessKind, Effects, Tool
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.errors import InvalidInput


class OneEdit(Frozen):
    """Either ``old_text`` and ``new_text``, or ``content`` for the whole file."""

    path: str = Field(min_length=1, max_length=4096, description="Workspace-relative path")
    old_text: str | None = Field(
        default=None, max_length=MAX_TEXT, description="Exact text, unique in the file"
    )
    new_text: str | None = Field(default=None, max_length=MAX_TEXT, description="Text that takes its place")
    content: str | None = Field(default=None, max_length=MAX_TEXT, description="Whole new file instead")
    replace_all: bool = Field(default=False, description="Replace every occurrence")
    base_hash: str | None = Field(default=None, max_length=64, description="Hash from Read; stale is refused")


class MultiEditArguments(Frozen):
    """The edits, applied in order."""

    edits: tuple[OneEdit, ...] = Field(min_length=1, max_length=100)


def effects(arguments: MultiEditArguments, files: WorkspaceFiles) -> Effects:
    """It writes those paths."""
    touched = {
        effect.path: effect
        for effect in (files.effect(edit.path, AccessKind.WRITE) for edit in arguments.edits)
    }
    return Effects(paths=tuple(touched.values()))


async def prepare(arguments: MultiEditArguments, context: ToolContext) -> Changes:
    """Apply the edits in memory, in order; the first that does not fit refuses them all."""
    first: dict[str, Current] = {}
    after: dict[str, Current] = {}
    for number, edit in enumerate(arguments.edits, 1):
        path = context.files.resolve(edit.path).lexical
        if path not in first:
            first[path] = after[path] = await context.files.current(path)
            refuse_stale(first[path], edit.base_hash)
        after[path] = Current(path, _apply(edit, after[path], number), first[path].real)
    return Changes(tuple(FileEdit(now, after[path].data) for path, now in first.items()))


def _apply(edit: OneEdit, now: Current, number: int) -> bytes:
    if edit.content is not None and edit.old_text is None and edit.new_text is None:
        return whole_file(edit.content, now)
    if edit.content is not None or edit.old_text is None or edit.new_text is None:
        raise InvalidInput(
            f"Edit {number} ({edit.path}) must have either old_text and new_text, or content.",
            data={"field": f"edits.{number - 1}"},
        )
    if not now.exists:
        raise InvalidInput(
            f"Edit {number}: there is no file {now.path!r}.", hint="Give content to create it."
        )
    text = now.text()
    return text.encode(replace(text, edit.old_text, edit.new_text, everywhere=edit.replace_all))


MULTI_EDIT = ToolKind(
    Tool.MULTI_EDIT,
    "Make several edits, in one or more files, all or none.",
    MultiEditArguments,
    effects,
    prepare,
)
