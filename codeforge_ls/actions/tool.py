"""What a tool is: arguments, the effects it would have, and what is to be applied. Tools never touch the world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from pydantic import ValidationError

from codeforge_ls.actions.files import Current, WorkspaceFiles
from codeforge_ls.model.actions import Effects, Tool
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.checkpoints import Checkpoint
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.model.index import RepoMap, SearchAnswer
from codeforge_ls.model.llm import ToolSchema

MAX_RESULT = 30_000  # characters of a tool's answer; more is cut in the middle


class CodeIndex(Protocol):
    """What the tools need of the index."""

    async def search(
        self,
        query: str,
        limit: int = 10,
        path_glob: str | None = None,
        group_by: Literal["chunk", "file"] = "chunk",
        *,
        language: str | None = None,
        kind: str | None = None,
        explain: bool = False,
    ) -> SearchAnswer:
        """Hits for a query, best first."""
        ...

    async def repo_map(
        self,
        budget_tokens: int = 1024,
        focus: Sequence[str] = (),
        query: str = "",
        exclude: Sequence[str] = (),
    ) -> RepoMap:
        """The map of the repository, within a budget, without the files in ``exclude``."""
        ...


@dataclass(frozen=True)
class ToolContext:
    """What a tool may look at while it prepares. ``may_read`` is the policy's word on one path."""

    files: WorkspaceFiles
    index: CodeIndex
    may_read: Callable[[str], bool]
    list_files: Callable[[], Awaitable[list[str]]]
    checkpoint: Callable[[str], Awaitable[Checkpoint]]


@dataclass(frozen=True)
class Answer:
    """A tool that only looked: its answer for the model and the same facts for a program."""

    output: str
    data: JsonObject


@dataclass(frozen=True)
class FileEdit:
    """One file: what it held when the edit was proposed, and what it is to hold (None: delete it)."""

    now: Current
    after: bytes | None


@dataclass(frozen=True)
class Changes:
    """Files to change: all of them or none."""

    edits: tuple[FileEdit, ...]


@dataclass(frozen=True)
class CommandLine:
    """A command to run, with its time limit in seconds (None: the configured one). ``undone``: what it changes in files
    that are not ignored can be taken back."""

    command: str
    timeout: float | None
    undone: bool = True


@dataclass(frozen=True)
class Rewind:
    """A checkpoint to go back to; ``only`` limits it to those paths."""

    checkpoint: Checkpoint
    only: tuple[str, ...] | None


Prepared = Answer | Changes | CommandLine | Rewind
Arguments = TypeVar("Arguments", bound=Frozen)


@dataclass(frozen=True)
class ToolKind(Generic[Arguments]):
    """A tool: ``effects`` says from the arguments alone what would be touched, before anything is read;
    ``prepare`` then looks, and returns what is to be applied."""

    tool: Tool
    description: str
    arguments: type[Arguments]
    effects: Callable[[Arguments, WorkspaceFiles], Effects]
    prepare: Callable[[Arguments, ToolContext], Awaitable[Prepared]]

    def parse(self, raw: JsonObject) -> Arguments:
        """Check the arguments. Raises ``InvalidInput`` that names each wrong field."""
        try:
            return self.arguments.model_validate(raw)
        except ValidationError as error:
            raise invalid(self.tool.value, error) from error

    def schema(self) -> ToolSchema:
        """The tool as it is offered to a model."""
        parameters = self.arguments.model_json_schema()
        parameters.pop("title", None)
        parameters.pop("description", None)
        return ToolSchema(name=self.tool.value, description=self.description, parameters=parameters)


def invalid(what: str, error: ValidationError) -> InvalidInput:
    """A pydantic error as ours: every wrong field with its path, without echoing the input."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    places = [".".join(str(part) for part in problem["loc"]) or "(whole)" for problem in problems]
    text = "; ".join(f"{place}: {problem['msg']}" for place, problem in zip(places, problems, strict=True))
    return InvalidInput(
        f"Invalid arguments for {what}: {text[:1000]}.", data={"field": places[0], "fields": list(places)}
    )


def clip(text: str, most: int = MAX_RESULT) -> str:
    """The text, or its head and tail with a line that says how much is missing."""
    if len(text) <= most:
        return text
    head = most * 2 // 3
    tail = most - head
    return f"{text[:head]}\n[... {len(text) - most} characters left out ...]\n{text[-tail:]}"
