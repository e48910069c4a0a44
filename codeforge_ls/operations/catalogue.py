"""All operations by name, called the same way from every surface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codeforge_ls.model.actions import Actor
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.operations import (
    auditing,
    changing,
    governing,
    graphing,
    keeping,
    running,
    searching,
    tending,
)
from codeforge_ls.operations.once import KEY, Once, checked_key, fingerprint
from codeforge_ls.operations.operation import Call, Operation, Progress
from codeforge_ls.operations.rate import CHANGE, LOOK, RateLimit
from codeforge_ls.store.reservations import Scope
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
        *keeping.OPERATIONS,
        *auditing.OPERATIONS,
        *tending.OPERATIONS,
    )
}


def _quiet(_percent: float | None, _message: str) -> None:
    """Progress that nobody asked for."""


def _no_replay() -> None:
    """Nobody wants to know that an answer was given before."""


def _no_stop(_reason: str) -> None:
    raise InvalidInput("This workspace is embedded; it ends with its session.")


class Operations:
    """The operations over one workspace. ``stop`` asks the process that keeps it to shut down."""

    def __init__(self, workspace: Workspace, stop: Callable[[str], None] = _no_stop) -> None:
        self._workspace, self._stop = workspace, stop
        self._rate = RateLimit(lambda: workspace.settings.rate_limit)
        self._once = Once(workspace.store.reservations)
        workspace.health_parts["rate_limit"] = self._rate.report

    async def call(
        self,
        name: str,
        arguments: JsonValue,
        actor: Actor,
        progress: Progress | None = None,
        *,
        counted: bool = True,
        on_replay: Callable[[], None] = _no_replay,
    ) -> JsonObject:
        """Run one operation. Raises ``CodeForgeError`` with a stable code; unexpected errors pass through.

        ``arguments`` may hold an ``idempotencyKey`` beside the operation's own; ``on_replay`` is called when the
        answer is that of an earlier call with it. Not ``counted`` is what a client did not ask for as an operation,
        such as an outline that an editor draws.
        """
        operation = ALL.get(name)
        if operation is None:
            raise InvalidInput(
                f"There is no operation {name!r}.", hint=f"There are: {', '.join(sorted(ALL))}."
            )
        if counted and not operation.vital:
            self._rate.take(actor.client, CHANGE if operation.changes else LOOK)
        key, own = None, arguments
        if isinstance(arguments, dict) and KEY in arguments:
            own = {field: value for field, value in arguments.items() if field != KEY}
            key = arguments[KEY]
        call = Call(self._workspace, actor, progress or _quiet, self._stop)
        given = operation.checked(actor, own)
        if key is None or not operation.changes or operation.only_looks(given):
            return await operation.run(call, given)
        scope = Scope(name, actor.client, checked_key(key))
        return await self._once.perform(
            scope, fingerprint(given), lambda: operation.run(call, given), on_replay
        )

    @staticmethod
    def names() -> list[str]:
        """All names, sorted."""
        return sorted(ALL)

    @staticmethod
    def schema(name: str) -> JsonObject:
        """The JSON schema of an operation's arguments."""
        return dict(ALL[name].arguments.model_json_schema())
