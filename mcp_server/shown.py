"""Pieces of a result: the two channels, and how long texts and lists are cut."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from codeforge_ls.model.base import Frozen

TEXT_CHARS = 36_000  # of one long text, below the 40,000 of a whole result
LIST_CHARS = 24_000  # of a list in one answer; what is left out is counted


@dataclass(frozen=True)
class Shown:
    """An answer: the text, and the same facts structured where a tool has a result schema."""

    text: str
    facts: Frozen | None = None


Item = TypeVar("Item")


def within(items: Iterable[Item], budget: int) -> list[Item]:
    """The first items whose JSON together stays within a budget of characters; at least one."""
    kept: list[Item] = []
    for item in items:
        budget -= len(item.model_dump_json() if isinstance(item, Frozen) else json.dumps(item))
        if budget < 0 and kept:
            break
        kept.append(item)
    return kept


def omitted(count: int) -> list[str]:
    """A line that says how much was left out, where something was."""
    return [f"{count} more left out"] if count else []


def head(text: str, most: int) -> str:
    """The first whole lines that fit, and how many follow."""
    text = text.rstrip()
    if len(text) <= most:
        return text
    end = text.rfind("\n", 0, most)
    kept = text[: end if end > 0 else most]
    return f"{kept}\n… {text[len(kept) :].count(chr(10))} more lines"


def cut(text: str, narrow_by: str, most: int = TEXT_CHARS) -> str:
    """The text, or its beginning and a line that says how to ask for less."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[{len(text) - most} characters left out: use {narrow_by}]"
