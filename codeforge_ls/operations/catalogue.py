"""All operations by name, called the same way from every surface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codeforge_ls.model.actions import Actor
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.operations import changing, governing, graphing, running, searching, tending
from codeforge_ls.operations.operation import Call, Operation, Progress
from codeforge_ls.workspace import Workspace

# Operations with different argument models: each one checks its own.
ALL: dict[str, Operation[Any]] = {
    operation.name: operation
    for operation in (
        *searching.OPERATIONS,
        *graphing.OPERATIONS,
        *running.OPERATIONS,
        *changing.OPERATIONS,
        *governing.OPERATIONS,
        *tending.OPERATIONS,
    )
}


def _quiet(_percent: float | None, _message: str) -> None:
    """Progress that nobody asked for."""


def _no_stop(_reason: str) -> None:
    raise InvalidInput("This workspace is embedded; it ends with its session.")


class Operations:
    """The operations over one workspace. ``stop`` asks the process that keeps it to shut down."""

    def __init__(self, workspace: Workspace, stop: Callable[[str], None] = _no_stop) -> None:
        self._workspace, self._stop = workspace, stop

    async def call(
        self, name: str, arguments: JsonValue, actor: Actor, progress: Progress | None = None
    ) -> JsonObject:
        """Run one operation. Raises ``CodeForgeError`` with a stable code; unexpected errors pass through."""
        operation = ALL.get(name)
        if operation is None:
            raise InvalidInput(
                f"There is no operation {name!r}.", hint=f"There are: {', '.join(sorted(ALL))}."
            )
        return await operation(Call(self._workspace, actor, progress or _quiet, self._stop), arguments)

    @staticmethod
    def names() -> list[str]:
        """All names, sorted."""
        return sorted(ALL)

    @staticmethod
    def schema(name: str) -> JsonObject:
        """The JSON schema of an operation's arguments."""
        return dict(ALL[name].arguments.model_json_schema())
