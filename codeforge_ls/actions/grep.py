"""Grep: lines that match a regular expression, in files that are neither ignored nor protected."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from pydantic import Field

from codeforge_ls.actions.files import WorkspaceFiles
from codeforge_ls.actions.tool import Answer, ToolContext, ToolKind, clip
from codeforge_ls.git import Git, GitFailed, worktree_root
from codeforge_ls.model.actions import AccessKind, Effects, PathEffect, Tool
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.errors import InvalidInput

MOST, MOST_IN_FILE = 200, 50
SECONDS = 10.0  # PCRE can run away on a hostile pattern; git is killed then


class GrepArguments(Frozen):
    """What to look for, and in which files."""

    pattern: str = Field(min_length=1, max_length=1000, description="Perl-compatible regular expression")
    glob: str | None = Field(
        default=None, max_length=500, description="Only files that match (gitignore syntax)"
    )
    ignore_case: bool = False


@dataclass(frozen=True)
class Line:
    """One matching line, 1-based."""

    path: str
    number: int
    text: str


def effects(_arguments: GrepArguments, _files: WorkspaceFiles) -> Effects:
    """It reads below the root."""
    return Effects(paths=(PathEffect(path=".", access=AccessKind.READ),))


async def prepare(arguments: GrepArguments, context: ToolContext) -> Answer:
    """Search the disk with git, and documents that are open in an editor as they are there."""
    lines = await _on_disk(arguments, context.files)
    wanted = GitIgnoreSpec.from_lines([arguments.glob]) if arguments.glob else None
    unsaved = context.files.open_texts()
    kept = [line for line in lines if line.path not in unsaved]
    kept += await _in_texts(arguments, unsaved)
    kept = [
        line
        for line in kept
        if (wanted is None or wanted.match_file(line.path)) and context.may_read(line.path)
    ]
    kept.sort(key=lambda line: (line.path, line.number))
    more = f"\n[{len(kept) - MOST} more; narrow the pattern]" if len(kept) > MOST else ""
    shown = kept[:MOST]
    text = "\n".join(f"{line.path}:{line.number}: {line.text}" for line in shown)
    return Answer(
        clip(text + more) or "No line matches.",
        {"lines": [{"path": l.path, "line": l.number, "text": l.text} for l in shown], "total": len(kept)},  # noqa: E741
    )


async def _on_disk(arguments: GrepArguments, files: WorkspaceFiles) -> list[Line]:
    where = (
        ["--untracked", "--exclude-standard"]
        if worktree_root(files.root)
        else ["--no-index", "--exclude-standard"]
    )
    return await _git_grep(arguments, files.root, where)


async def _in_texts(arguments: GrepArguments, texts: dict[str, str]) -> list[Line]:
    """Matches in open documents, by the same engine in its own process: a hostile pattern cannot hold the daemon."""
    if not texts:
        return []
    with tempfile.TemporaryDirectory(prefix="codeforge-grep-") as folder:
        names = {str(number): path for number, path in enumerate(texts)}
        await asyncio.to_thread(_spill, Path(folder), texts.values())
        found = await _git_grep(arguments, Path(folder), ["--no-index"])
    return [Line(names[line.path], line.number, line.text) for line in found]


def _spill(folder: Path, texts: Iterable[str]) -> None:
    for number, text in enumerate(texts):
        (folder / str(number)).write_text(text, encoding="utf-8", errors="replace")


async def _git_grep(arguments: GrepArguments, folder: Path, where: list[str]) -> list[Line]:
    case = ["--ignore-case"] if arguments.ignore_case else []
    try:
        output = await Git(folder).run(
            "grep", *where, *case, "-I", "-n", "-z", "-P", f"--max-count={MOST_IN_FILE}", "-e", arguments.pattern,
            accept=(0, 1), timeout=SECONDS,
        )  # fmt: skip
    except GitFailed as error:
        raise InvalidInput(
            f"The pattern could not be searched for: {error.message}", data={"field": "pattern"}
        ) from error
    found = []
    for raw in output.decode("utf-8", "replace").split("\n"):
        path, number, text = [*raw.split("\0", 2), "", ""][:3]
        if number.isdigit():
            found.append(Line(path, int(number), text[:500]))
    return found


GREP = ToolKind(Tool.GREP, "Find lines by regular expression.", GrepArguments, effects, prepare)
