"""The store: the append-only log of events, the state folded from it, and its migrations."""

from __future__ import annotations

from codeforge_ls.store.migrate import DatabaseVersion, migrate, rollback, version
from codeforge_ls.store.ports import EventStore, StateStore
from codeforge_ls.store.reading import OpenToolCall
from codeforge_ls.store.store import Store

__all__ = [
    "DatabaseVersion",
    "EventStore",
    "OpenToolCall",
    "StateStore",
    "Store",
    "migrate",
    "rollback",
    "version",
]
