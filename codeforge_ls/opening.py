"""How a workspace is opened: what takes long is begun first, the rest is imported and composed meanwhile."""

from __future__ import annotations

import asyncio
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from codeforge_ls.child import importing
from codeforge_ls.standby import Standby
from codeforge_ls.vault import KEYS_FILE, Vault, take_from_environment

if TYPE_CHECKING:
    from codeforge_ls.config import ConfigStore
    from codeforge_ls.workspace import Workspace

REST = (
    "codeforge_ls.workspace",
    "codeforge_ls.operations",
    "watchfiles",  # the index imports it when it starts to watch, on the loop
    "anyio._backends._asyncio",  # and watchfiles that, when it is first used
)


async def imported(*names: str) -> None:
    """Import large modules beside the loop."""
    with importing():
        for name in names:
            await asyncio.to_thread(importlib.import_module, name)


async def open_workspace(root: Path, config: ConfigStore, early: Standby | None = None) -> Workspace:
    """The open workspace of a root. ``early`` has the workers of the index, if they were started before.

    The index begins at once: its workers list and load while this process still imports the rest.
    """
    await imported("codeforge_ls.index.service")
    from codeforge_ls.config import state_dir, user_config_dir, worker_environment
    from codeforge_ls.index import Index
    from codeforge_ls.workers import STATE_DIR

    settings = config.current
    state = await asyncio.to_thread(state_dir, root)
    # Workers read the settings from their environment only (row CFG-4), and log beside the daemon.
    keys = take_from_environment()
    environment = worker_environment(settings, os.environ) | {STATE_DIR: str(state)}
    vault = await asyncio.to_thread(Vault, keys, user_config_dir() / KEYS_FILE)
    index = Index(root, state, settings.index, environment, search=lambda: config.current.search, early=early)
    await index.start()
    try:
        await imported(*REST)
        from codeforge_ls.workspace import Workspace

        return await Workspace.open(root, state, config, index, environment, vault)
    except BaseException:
        await index.stop()
        raise
