"""Grounds for end-to-end tests. Whoever leaves a process behind fails."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.ground import Ground


@contextmanager
def ground_of(**settings: object) -> Iterator[Ground]:
    """A workspace with a home of its own; fails at the end when a process is left."""
    base = Path(tempfile.mkdtemp(prefix="cf", dir="/tmp"))  # a short path: a socket's name has 107 bytes
    ground = Ground(base, **settings)
    try:
        yield ground
    finally:
        try:
            ground.close()
        finally:
            shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def fresh() -> Iterator[Ground]:
    """A ground of this test alone, with a daemon that this test may kill."""
    with ground_of() as ground:
        yield ground


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """A ground that the tests of a module share. Approvals time out after 4 seconds."""
    with ground_of(approvals_timeout_seconds=4) as shared:
        yield shared
