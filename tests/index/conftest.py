"""Workspaces for the index tests: real git repositories, and an index with its real workers on them."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from codeforge_ls.index import Index
from codeforge_ls.index.limits import Limits

MakeIndex = Callable[..., Awaitable[Index]]


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files below ``root``."""
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())


def make_repository(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """A git repository with these files, untracked: the index lists them all the same."""
    root.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    write_tree(root, files)
    return root


@pytest.fixture
async def make_index(tmp_path: Path) -> AsyncIterator[MakeIndex]:
    """Start an index on a root; all are stopped at the end."""
    started: list[Index] = []

    async def make(root: Path, state: Path | None = None, *, build: bool = True, **limits: float) -> Index:
        settings = Limits(**{"parsers": 1, **limits})  # type: ignore[arg-type]
        index = Index(root, state or tmp_path / "state", settings)
        started.append(index)
        await index.start()
        if build:
            await index.build()
        return index

    yield make
    for index in started:
        await index.stop()
