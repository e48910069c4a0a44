"""The base of every model, JSON types and identifiers."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"
else:
    from pydantic import JsonValue

JsonObject: TypeAlias = dict[str, JsonValue]
if TYPE_CHECKING:
    KnownJson: TypeAlias = JsonObject
else:
    # Made by our own code, or read as JSON: to look through it value by value is half of what a large answer costs.
    KnownJson = dict[str, Any]


class Frozen(BaseModel):
    """An immutable model that refuses unknown fields: wire, disk and model output all pass through one."""

    # Built at its first use: a process imports ten models for each one that it ever checks.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def new_id(prefix: str) -> str:
    """A sortable identifier such as ``run-0193a1b2c3d4e5f60718``: 12 hex digits of milliseconds, 8 random."""
    return f"{prefix}-{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"
