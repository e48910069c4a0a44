"""Path globs: ``**`` is zero or more segments, ``*`` stays inside one. Time grows with the length, never faster."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_WILDCARDS = re.compile(r"[*?]")


@lru_cache(maxsize=4096)
def _segment(pattern: str) -> re.Pattern[str]:
    # fnmatch puts each star into an atomic group, so a hostile pattern cannot backtrack for long.
    return re.compile(fnmatch.translate(pattern), re.DOTALL)


def _segment_matches(pattern: str, text: str) -> bool:
    if pattern in (text, "*"):
        return True
    if not any(character in pattern for character in "*?["):
        return False
    return _segment(pattern).match(text) is not None


@lru_cache(maxsize=4096)
def _groups(pattern: str) -> tuple[tuple[str, ...], ...]:
    """The runs of fixed segments between ``**``: ``a/**/b/c`` is ``((a,), (b, c))``."""
    groups: list[list[str]] = [[]]
    for segment in pattern.removeprefix("./").split("/"):
        if segment == "**":
            groups.append([])
        elif segment:
            groups[-1].append(segment)
    return tuple(tuple(group) for group in groups)


@lru_cache(maxsize=4096)
def needle(pattern: str) -> str:
    """The longest piece of plain text in a glob: a path without it cannot match, which spares most paths the rest."""
    plain = [
        piece
        for group in _groups(pattern)
        for segment in group
        # a bracket may be a set or stand for itself; what comes before it is plain either way
        for piece in _WILDCARDS.split(segment.split("[", 1)[0])
    ]
    return max(plain, key=len, default="")


def plain_path(path: str) -> str:
    """The segments of a path or of a glob without wildcards, as they are compared; empty for the root."""
    return "" if path == "." else "/".join(part for part in path.split("/") if part)


def matches(pattern: str, path: str) -> bool:
    """Whether the glob matches the whole of a workspace-relative path. ``secrets/**`` also matches ``secrets``."""
    if needle(pattern) not in path:
        return False
    groups = _groups(pattern)
    segments = () if path == "." else tuple(part for part in path.split("/") if part)
    first, last = groups[0], groups[-1]
    if len(groups) == 1:
        return len(first) == len(segments) and _run_matches(first, segments, 0)
    if len(first) + len(last) > len(segments) or not _run_matches(first, segments, 0):
        return False
    end = len(segments) - len(last)
    if not _run_matches(last, segments, end):
        return False
    at = len(first)
    for group in groups[1:-1]:  # leftmost is enough: what stands between two ** may slide
        while at + len(group) <= end and not _run_matches(group, segments, at):
            at += 1
        if at + len(group) > end:
            return False
        at += len(group)
    return at <= end


def _run_matches(run: tuple[str, ...], segments: tuple[str, ...], at: int) -> bool:
    if at + len(run) > len(segments):
        return False
    return all(_segment_matches(run[index], segments[at + index]) for index in range(len(run)))


def matches_any(patterns: Iterable[str], path: str) -> bool:
    """Whether one of the globs matches."""
    return any(matches(pattern, path) for pattern in patterns)


def matches_any_folded(patterns: Iterable[str], path: str) -> bool:
    """Like ``matches_any`` for denying only: a path that some file system takes for the same file matches too."""
    folded = fold(path)
    for pattern in patterns:
        low = _folded(pattern)
        if matches(low, folded) or ((low != pattern or folded != path) and matches(pattern, path)):
            return True
    return False


@lru_cache(maxsize=4096)
def _folded(pattern: str) -> str:
    return pattern.casefold()


@lru_cache(maxsize=1024)
def fold(path: str) -> str:
    """The path without what file systems may ignore: case, ignorable characters, trailing dots and blanks, streams."""
    if path.isascii():
        plain = path.casefold()
    else:
        normal = unicodedata.normalize("NFKC", path).casefold()
        plain = "".join(character for character in normal if unicodedata.category(character) != "Cf")
    return "/".join(_fold_segment(segment) for segment in plain.split("/") if segment)


def _fold_segment(segment: str) -> str:
    if segment in (".", ".."):
        return segment
    return segment.split(":", 1)[0].strip().rstrip(". \t") or segment
