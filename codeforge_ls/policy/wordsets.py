"""Sets of names, written as running text so that a table of fifty stays readable."""

from __future__ import annotations


def names(text: str) -> frozenset[str]:
    """The white-space separated words of a text."""
    return frozenset(text.split())
