"""The grounds of the end-to-end tests, under attack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import ground_of
from tests.e2e.ground import Ground


@pytest.fixture
def fresh() -> Iterator[Ground]:
    """A ground of this test alone."""
    with ground_of() as ground:
        yield ground


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """A ground that the tests of a module share."""
    with ground_of() as shared:
        yield shared
