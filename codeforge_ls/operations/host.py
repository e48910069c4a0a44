"""Who keeps the workspace of a session: the port that the daemon, or an embedding process, fills."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from codeforge_ls.operations.catalogue import Operations
    from codeforge_ls.workspace import Workspace


class WorkspaceHost(Protocol):
    """Who keeps the workspace of a session: the daemon, or the process itself when embedded."""

    @property
    def root(self) -> Path:
        """The real path of the workspace."""
        ...

    async def workspace(self) -> Workspace:
        """The workspace, opened by the first who asks. Never awaited before a session's first answer."""
        ...

    async def operations(self) -> Operations:
        """The operations over that workspace."""
        ...

    async def imported(self) -> None:
        """Wait, while the workspace is opened, for the imports to be through: more of them need not compete."""
        ...

    def close_soon(self, reason: str) -> None:
        """Ask for a clean shutdown."""
        ...
