"""Every test gets its own folders; whatever it started is gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.place import Place, places


@pytest.fixture
def place() -> Iterator[Place]:
    # A short path: a socket's name has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as folder:
        yield from places(Path(folder))
