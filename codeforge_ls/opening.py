"""How a workspace is opened: what takes long is begun first, the rest is imported and composed meanwhile."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Callable
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


_one_at_a_time, _whole = threading.Lock(), set[str]()


async def imported(*names: str) -> None:
    """Import large modules beside the loop, one after the other whoever asks: threads would not make it faster."""
    for name in names:
        if name not in _whole:
            await asyncio.to_thread(_import, name)


async def no_imports() -> None:
    """Wait until what is being imported is there."""
    await asyncio.to_thread(_wait)


def is_imported(name: str) -> bool:
    """Whether it was imported here to the end: a module that is still being imported is among ``sys.modules`` too."""
    return name in _whole


def _wait() -> None:
    with _one_at_a_time:
        return


def _import(name: str) -> None:
    with _one_at_a_time, importing():
        importlib.import_module(name)
    _whole.add(name)


async def open_workspace(
    root: Path, config: ConfigStore, early: Standby | None, on_imported: Callable[[], None]
) -> Workspace:
    """The open workspace of a root. ``early`` has the workers of the index, if they were started before;
    ``on_imported`` is called when all code is there.

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
        on_imported()
        from codeforge_ls.workspace import Workspace

        return await Workspace.open(root, state, config, index, environment, vault)
    except BaseException:
        await index.stop()
        raise
