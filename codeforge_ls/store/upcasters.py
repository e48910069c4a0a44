"""Upcasters: payloads of older schema versions in the shape of today's (row EVT-13)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.events import SCHEMA_VERSION

Upcaster = Callable[[JsonObject], JsonObject]

# (event type, schema version it was written with) -> its payload one version later. A type without an entry
# did not change in that version. Each version adds a fixture of the log before it under tests/store/fixtures.
UPCASTERS: Mapping[tuple[str, int], Upcaster] = {}


def upcast(
    kind: str,
    version: int,
    payload: JsonObject,
    registry: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    current: int = SCHEMA_VERSION,
) -> JsonObject:
    """The payload as version ``current`` would have written it; one of a newer version is left as it is."""
    for step in range(version, current):
        change = registry.get((kind, step))
        payload = change(payload) if change else payload
    return payload
