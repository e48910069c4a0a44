"""Every test gets its own folders; whatever it started is gone afterwards."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location(
    "codeforge_test_place", Path(__file__).parents[1] / "daemon" / "place.py"
)
assert _spec
assert _spec.loader
_module = importlib.util.module_from_spec(_spec)
sys.modules["codeforge_test_place"] = _module
_spec.loader.exec_module(_module)


@pytest.fixture
def place() -> Iterator[Any]:
    # A short path: a socket's name has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as folder:
        yield from _module.places(Path(folder))
