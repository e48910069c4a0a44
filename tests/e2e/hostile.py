"""Hostile arguments, made from the JSON schemas of what is called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

# One good value for each field that some operation needs; ids name nothing.
GOOD: Json = {
    "query": "total",
    "task": "a harmless task",
    "tasks": ["a harmless task"],
    "path": "README.md",
    "run_id": "run-none",
    "plan_id": "plan-none",
    "approval_id": "approval-none",
    "checkpoint_id": "checkpoint-none",
    "verdict": "deny",
    "tool": "Read",
    "name": "editor-interactive",
    "line": 1,
    "index": 0,
    "rule": 0,
    "keys": {"NO_SUCH_KEY": None},
    "yaml": "name: not-kept\nmode: nonsense\n",
    "sha256": "0" * 64,
    "edits": [{"path": "README.md", "old_text": "no such text", "new_text": "x"}],
}
IDS = frozenset({"run_id", "plan_id", "approval_id", "checkpoint_id", "other"})
PATHS = frozenset({"path", "file"})
NAMES = frozenset({"profile", "mode", "verdict", "to", "scope", "relation", "group_by"})
OUTSIDE = ("../outside.txt", "a/../../outside.txt", "/etc/passwd", "file:///etc/passwd", "link/outside.txt")
TEXTS = ("nul\0nul", "\ud800", "x" * 300_000, "'; DROP TABLE runs; --", "../../../etc", "\x1b[2J", "")
EDITS: tuple[Json, ...] = (
    *({"path": path, "content": "x"} for path in OUTSIDE),
    *({"path": path, "content": "x"} for path in (".git/config", ".git/hooks/pre-commit", ".env", "")),
    *({"path": path, "content": "x"} for path in ("nul\0", "\ud800.txt", "x" * 5000, ".", "shop", "fifo")),
    {"path": "README.md", "content": "\ud800"},
    {"path": "README.md"},
    {"path": "README.md", "old_text": "Shop"},
    {"path": "README.md", "old_text": "", "new_text": "x"},
    {"path": "README.md", "old_text": "Shop", "new_text": "x", "content": "x"},
    {"path": "README.md", "old_text": "Shop", "new_text": "\ud800"},
    {"path": "README.md", "old_text": "Shop", "new_text": "x", "base_hash": "stale"},
    {"path": "README.md", "old_text": "Shop", "new_text": "x", "surprise": 1},
    {"path": "latin.txt", "old_text": "zwei", "new_text": "漢字"},
    {"path": "shop/cart.py", "old_text": "prices", "new_text": "ambiguous"},
    {"path": 7, "content": []},
)


def hostile(schema: Json) -> Iterator[tuple[Json, bool]]:
    """Arguments that break a schema, and whether they must be refused; the others may also be answered."""
    fields: Json = schema.get("properties", {})
    needed = schema.get("required", [])
    base = {name: GOOD[name] for name in needed}
    yield {**base, "surprise": 1}, True
    for name in needed:
        yield {key: value for key, value in base.items() if key != name}, True
    for name, field in fields.items():
        for value, refused in _values(name, field, schema):
            yield {**base, name: value}, refused


def _values(name: str, field: Json, schema: Json) -> Iterator[tuple[Any, bool]]:
    kinds = _kinds(field, schema)
    if not kinds:
        return
    if "object" not in kinds:
        yield {"a": {"b": [1]}}, True
    if "array" not in kinds:
        yield [["nested"], 1], True
    else:
        yield [7, None, {}], True
        yield "not a list", True
    if "boolean" in kinds:
        yield "perhaps", True
    if "string" not in kinds and "array" not in kinds:
        yield "\ud800", True
    if kinds & {"integer", "number"}:
        for number in (-1, -(10**30)):
            yield number, True
        for number in (10**30, 1e308):
            yield number, "maximum" in str(field)
    if "string" in kinds:
        yield 7.5, True
        for text in TEXTS:
            yield text, name in IDS | NAMES and bool(text)
    if name in IDS:
        for text in ("run-none", "../state.db", "--all"):
            yield text, True
    if name in PATHS and name != "file":
        for text in OUTSIDE:
            yield text, False  # a policy can be asked about any path; reading it is refused, see CLOSED


def _kinds(field: Json, schema: Json) -> set[str]:
    found = {field["type"]} if "type" in field else set()
    if "enum" in field or "const" in field:
        found.add("string")
    if "$ref" in field:
        found |= _kinds(schema["$defs"][field["$ref"].rsplit("/", 1)[1]], schema)
    for part in field.get("anyOf", []):
        found |= _kinds(part, schema)
    return found
