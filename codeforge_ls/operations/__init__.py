"""The one catalogue behind every surface: LSP commands, MCP tools and CLI verbs are views of these operations."""

from __future__ import annotations

from codeforge_ls.operations.catalogue import Operations
from codeforge_ls.operations.operation import Progress

__all__ = ["Operations", "Progress"]
