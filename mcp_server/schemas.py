"""JSON schemas of arguments and results as agents get them: flat, short, closed."""

from __future__ import annotations

import json
from typing import Annotated, Any

from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

Schema = dict[str, Any]  # any JSON schema keyword may stand in it


def _from_text(value: object) -> object:
    """A list or object that a client sent as JSON text, as some do."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


LooseJson = BeforeValidator(_from_text)


class Arguments(ArgModelBase):
    """The arguments of a tool: types only, the operation behind it checks the rest. ``null`` means absent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, raw: object) -> object:
        return {name: value for name, value in raw.items() if value is not None} if isinstance(raw, dict) else raw


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
    line: int
    column: int = 1


ListOfText = Annotated[list[str], LooseJson]


def schema_of(model: type[BaseModel], *, by_validation: bool = True) -> Schema:
    """The schema of a model without titles, references, class docstrings and ``null`` alternatives."""
    whole = model.model_json_schema(mode="validation" if by_validation else "serialization")
    plain: Schema = _plain(whole, whole.get("$defs", {}), nullable=not by_validation)
    plain.pop("$defs", None)
    plain.pop("description", None)
    return plain


def _plain(node: Any, definitions: Schema, *, nullable: bool) -> Any:
    if isinstance(node, list):
        return [_plain(item, definitions, nullable=nullable) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = dict(definitions[node["$ref"].rpartition("/")[2]])
        target.pop("description", None)
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    choices = node.get("anyOf", [])
    real = [choice for choice in choices if choice != {"type": "null"}]
    if not nullable and len(choices) == 2 and len(real) == 1:
        node = {**{k: v for k, v in node.items() if k not in ("anyOf", "default")}, **real[0]}
        return _plain(node, definitions, nullable=nullable)
    result: Schema = {}
    for key, value in node.items():
        if key == "properties":
            result[key] = {k: _plain(v, definitions, nullable=nullable) for k, v in value.items()}
        elif key != "title" and key != "$defs":
            result[key] = _plain(value, definitions, nullable=nullable)
    return result
