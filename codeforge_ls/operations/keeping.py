"""Operations on keys: handed over by a person, listed by name. A value goes in and never comes out."""

from __future__ import annotations

import asyncio

from pydantic import Field

from codeforge_ls.model.base import Frozen, JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.operations.operation import Call, Nothing, Operation
from codeforge_ls.vault import MAX_KEYS


class Keys(Frozen):
    """Keys by the name of the variable that a provider's client looks for; null takes one back."""

    keys: dict[str, str | None] = Field(min_length=1, max_length=MAX_KEYS, repr=False)


async def keys_set(call: Call, arguments: Keys) -> JsonObject:
    """Take keys into memory, until the daemon ends. The log names them and who gave them, no more."""
    vault = call.workspace.vault
    try:
        vault.hand_over(arguments.keys, call.actor.label)
    except ValueError as error:
        raise InvalidInput(str(error), data={"field": "keys"}) from error
    given: list[JsonValue] = [name for name, value in arguments.keys.items() if value is not None]
    gone: list[JsonValue] = [name for name, value in arguments.keys.items() if value is None]
    await call.workspace.store.append(
        EventDraft(
            stream="workspace",
            type=EventType.KEYS_CHANGED,
            payload={"given": given, "taken_back": gone},
            actor=call.actor.label,
        )
    )
    return await keys_list(call, Nothing())


async def keys_list(call: Call, _arguments: Nothing) -> JsonObject:
    """The names of the keys and where each came from, and what is wrong with the file of keys."""
    vault = call.workspace.vault
    await asyncio.to_thread(vault.wait)
    listed: list[JsonValue] = [{"name": entry.name, "source": entry.source} for entry in vault.entries()]
    return {"keys": listed, "file": str(vault.file), "problems": [*vault.problems]}


OPERATIONS = (
    Operation("keys.list", "Keys by name", Nothing, keys_list, persons_only=True),
    Operation("keys.set", "Hand over keys", Keys, keys_set, persons_only=True, changes=True),
)
