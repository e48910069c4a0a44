"""The files that take longest come first, so that no process of ``make test`` is left alone with one at the end."""

from __future__ import annotations

import pytest

LONGEST = (
    "tests/soak/",
    "tests/e2e/test_crashes.py",
    "tests/editors/",
    "tests/cli/",
    "tests/e2e/",
    "tests/index/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the order within these, and of the rest."""
    items.sort(
        key=lambda item: next((at for at, name in enumerate(LONGEST) if item.nodeid.startswith(name)), 99)
    )
