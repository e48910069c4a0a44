"""JSON schemas of arguments and results as agents get them: flat, short, closed."""

from __future__ import annotations

import json
from typing import Annotated, Any

from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

Schema = dict[str, Any]  # any JSON schema keyword may stand in it

MAX_INTEGER = 2**53 - 1  # more is not exact in every JSON reader

# A result's schema says what is there; it stays true when a later version adds something.
RESULT_LEAVES = ("title", "$defs", "description", "default", "additionalProperties", "required")


def _from_text(value: object) -> object:
    """A list or object that a client sent as JSON text, as some do."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


LooseJson = BeforeValidator(_from_text)


def _exact(value: int) -> int:
    if abs(value) > MAX_INTEGER:
        raise ValueError("Input should be a number that JSON can hold exactly")
    return value


Whole = Annotated[int, AfterValidator(_exact)]


class Arguments(ArgModelBase):
    """The arguments of a tool: types only, the operation behind it checks the rest. ``null`` means absent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, raw: object) -> object:
        return (
            {name: value for name, value in raw.items() if value is not None}
            if isinstance(raw, dict)
            else raw
        )


ListOfText = Annotated[list[str], LooseJson]


class Edit(Arguments):
    """One edit, told apart by what it has: ``old_text`` and ``new_text``, or ``content``."""

    path: str
    old_text: str | None = None
    new_text: str | None = None
    content: str | None = None
    base_hash: str | None = None


class Place(Arguments):
    """A place in a file."""

    path: str
    line: Whole
    column: Whole = 1


class Tighten(Arguments):
    """What a run may do less than its policy says: tools by name, and limits."""

    deny: ListOfText | None = None
    ask: ListOfText | None = None
    max_steps: Whole | None = None
    max_cost: float | None = None
    max_seconds: float | None = None
    no_network: bool | None = None


def arguments_schema(model: type[BaseModel]) -> Schema:
    """The schema of a tool's arguments: an optional one may be absent, so ``null`` is not mentioned."""
    return _plain(model.model_json_schema(), leave=("title", "$defs"), optional_null=True)


def result_schema(model: type[BaseModel]) -> Schema:
    """The schema of a tool's structured result: names and types, which is all that programs need. That a part is always
    there is said of the topmost ones."""
    whole = model.model_json_schema(mode="serialization")
    plain = _plain(whole, leave=RESULT_LEAVES, optional_null=False)
    return {**plain, "required": whole["required"]}


def _plain(schema: Schema, *, leave: tuple[str, ...], optional_null: bool) -> Schema:
    """The schema without references, class docstrings and the keywords to leave out."""
    definitions = schema.get("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = definitions[node["$ref"].rpartition("/")[2]]
            inlined = {key: value for key, value in target.items() if key != "description"}
            return walk({**inlined, **{key: value for key, value in node.items() if key != "$ref"}})
        if {"type": "null"} in node.get("anyOf", ()):
            return walk(without_null(node)) if optional_null else or_null(node)
        kept = {key: inside(key, value) for key, value in node.items() if key not in leave}
        if "default" in kept and kept["default"] in ("", [], 0, False):
            del kept["default"]  # absent means nothing anyway
        if not optional_null and "enum" in kept:
            del kept["type"]  # the values say it; models that read arguments want both
        return kept

    def inside(key: str, value: Any) -> Any:
        return {name: walk(one) for name, one in value.items()} if key == "properties" else walk(value)

    def without_null(node: Schema) -> Schema:
        real = next(choice for choice in node["anyOf"] if choice != {"type": "null"})
        kept = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return {**real, **kept}

    def or_null(node: Schema) -> Schema:
        """The short way to say that a plain value may be null."""
        kinds = [choice.get("type") for choice in node["anyOf"]]
        plain_choices = all(choice.keys() == {"type"} for choice in node["anyOf"])
        return {"type": kinds} if plain_choices else {**node, "anyOf": walk(node["anyOf"])}

    plain: Schema = walk({key: value for key, value in schema.items() if key != "description"})
    return plain
