"""What a person is shown before they say yes: one line, and the diff or the command exactly as it would be."""

from __future__ import annotations

from dataclasses import dataclass

from codeforge_ls.actions.text import decode, unified
from codeforge_ls.actions.tool import Answer, Changes, CommandLine, FileEdit, Prepared, Rewind
from codeforge_ls.model.actions import Action
from codeforge_ls.model.errors import CodeForgeError

NO_UNDO = "what it changes in ignored files cannot be taken back"
MAX_TASK = 60  # characters of a task in a title
MAX_PREVIEW = 100_000  # characters kept in the log; prompts show less


@dataclass(frozen=True)
class Shown:
    """A title of one line and the whole preview."""

    title: str
    preview: str


def describe(action: Action, prepared: Prepared) -> Shown:
    """Say what would happen."""
    who, task = action.actor.label, _task(action)
    if isinstance(prepared, CommandLine):
        how = f" ({action.execution.text})" if action.execution else ""
        return Shown(f"{who} wants to run a command{task}{how}; {NO_UNDO}", visible(prepared.command))
    if isinstance(prepared, Rewind):
        checkpoint = prepared.checkpoint
        return Shown(
            f"{who} wants to restore checkpoint {checkpoint.id}", f"{checkpoint.label}\n{checkpoint.id}"
        )
    if isinstance(prepared, Answer):
        return Shown(f"{who} wants to use {action.tool.value}", visible(str(action.arguments)))
    names = ", ".join(edit.now.path for edit in prepared.edits[:3])
    more = f" and {len(prepared.edits) - 3} more" if len(prepared.edits) > 3 else ""
    return Shown(f"{who} wants to edit {visible(names)}{more}{task}", diff_of(prepared)[:MAX_PREVIEW])


def _task(action: Action) -> str:
    name = visible(action.actor.name)
    if not action.actor.run_id or not name:
        return ""
    return f" (task: {name if len(name) <= MAX_TASK else name[: MAX_TASK - 1] + '…'})"


def diff_of(changes: Changes) -> str:
    """The unified diff of all files."""
    return "".join(map(file_diff, changes.edits))


def file_diff(edit: FileEdit) -> str:
    """The unified diff of one file; a line of words where it is not text."""
    try:
        before = edit.now.text().text
        after = decode(edit.after).text if edit.after is not None else ""
    except CodeForgeError:
        return f"--- {edit.now.path}: binary content changes\n"
    return unified(edit.now.path, before, after, existed=edit.now.exists, exists=edit.after is not None)


def visible(text: str) -> str:
    """The text with control and direction-changing characters escaped, so that what is shown is what would run."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04x}" for char in text)
