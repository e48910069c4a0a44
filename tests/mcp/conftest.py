"""The folder of a test of MCP; what the test started has to leave it by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mcp.leftovers import clear


@pytest.fixture
def base() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cf", dir="/tmp"))  # a socket's name has 107 bytes
    yield folder
    clear(folder)
