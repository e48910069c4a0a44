"""What an operation is: a name, checked arguments, and one function over the workspace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from codeforge_ls.actions.tool import invalid
from codeforge_ls.model.actions import Action, Actor, Applied, Outcome, Tool
from codeforge_ls.model.base import Frozen, JsonObject, JsonValue, new_id
from codeforge_ls.model.errors import CodeForgeError, Denied, InvalidInput, error_from_json
from codeforge_ls.workspace import Workspace

Progress = Callable[[float | None, str], None]
Arguments = TypeVar("Arguments", bound=Frozen)


class Nothing(Frozen):
    """No arguments."""


@dataclass(frozen=True)
class Call:
    """Who calls, over which workspace, and how to report progress (percent or None, message)."""

    workspace: Workspace
    actor: Actor
    progress: Progress
    stop: Callable[[str], None]

    @property
    def stream(self) -> str:
        """The event stream for what this caller does directly."""
        return f"session:{self.actor.session or self.actor.label}"


def _never(_arguments: Any) -> bool:
    return False


@dataclass(frozen=True)
class Operation(Generic[Arguments]):
    """One operation.

    ``persons_only``: never for an agent, foreign or built-in. ``changes``: it changes something, starts work or
    costs money, unless ``only_looks`` says that these arguments do not. ``vital``: the rate limit never refuses it,
    because it is how a person sees what goes on, answers, or stops it.
    """

    name: str
    summary: str
    arguments: type[Arguments]
    run: Callable[[Call, Arguments], Awaitable[JsonObject]]
    persons_only: bool = False
    changes: bool = False
    vital: bool = False
    only_looks: Callable[[Arguments], bool] = _never

    def checked(self, actor: Actor, raw: JsonValue) -> Arguments:
        """The arguments, if this caller may and they fit. Raises ``InvalidInput`` or ``Denied``."""
        if self.persons_only and not actor.is_person:
            raise Denied(f"{self.name} is for people, not for agents.", hint="Use an editor or `codeforge`.")
        if raw is not None and not isinstance(raw, dict):
            raise InvalidInput(f"{self.name} takes one object of arguments.", data={"field": "(whole)"})
        try:
            return self.arguments.model_validate(raw or {})
        except ValidationError as error:
            raise invalid(self.name, error) from error


async def through_gate(
    call: Call, tool: Tool, arguments: JsonObject, *, stream: str | None = None
) -> Applied:
    """Perform an action of this caller through the gate; a refusal or a failure raises."""
    action = Action(
        id=new_id("action"), actor=call.actor, tool=tool, arguments=arguments, stream=stream or call.stream
    )
    applied = await call.workspace.gate.perform(action, call.workspace.authority.layers(call.actor))
    if isinstance(error := applied.data.get("error"), dict):
        raise error_from_json(error)
    if applied.outcome is Outcome.FAILED:
        raise CodeForgeError(applied.output, hint="See `codeforge logs errors`.")
    return applied
