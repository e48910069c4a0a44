"""The text of an open document: a list of lines, edited in place, with the protocol's line ends and positions."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum

from codeforge_ls.model.base import JsonObject, JsonValue

MAX_NUMBER = 2**31 - 1  # the protocol's uinteger
PIECES = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")
SURROGATES = re.compile("[\ud800-\udfff]")


class Encoding(StrEnum):
    """What a character of a position counts."""

    UTF8 = "utf-8"
    UTF16 = "utf-16"
    UTF32 = "utf-32"


class OutOfStep(Exception):
    """A change that cannot be applied: from here on the text is not what the editor shows."""


def sanitised(text: str) -> str:
    """The text with lone surrogates, which no file can hold, as U+FFFD."""
    return SURROGATES.sub("\ufffd", text) if not text.isascii() else text


def split_lines(text: str) -> list[str]:
    r"""The lines with their ends: \n, \r\n and \r, nothing else. There is always a last line without an end."""
    if text.count("\r") != text.count("\r\n"):
        lines: list[str] = PIECES.findall(text)
        return lines if text[-1] not in "\r\n" else [*lines, ""]
    head, *rest = text.split("\n")
    lines = [line + "\n" for line in (head, *rest[:-1])] if rest else []
    lines.append(rest[-1] if rest else head)
    return lines


def content_length(line: str) -> int:
    """Characters of a line before its end."""
    if line.endswith("\r\n"):
        return len(line) - 2
    return len(line) - 1 if line.endswith(("\n", "\r")) else len(line)


def units(text: str, encoding: Encoding) -> int:
    """How much a text counts in positions."""
    if encoding is Encoding.UTF32 or text.isascii():
        return len(text)
    return len(text.encode("utf-16-le")) // 2 if encoding is Encoding.UTF16 else len(text.encode())


def offset_in_line(line: str, character: int, encoding: Encoding) -> int:
    """The index of a position's ``character`` in a line. Past the end is the end; inside a character its start."""
    end = content_length(line)
    if encoding is Encoding.UTF32 or line.isascii():
        return min(character, end)
    head = line[: min(character, end)]  # every character counts at least one unit
    if encoding is Encoding.UTF16:
        data = head.encode("utf-16-le")
        return (
            len(head)
            if len(data) == 2 * len(head)
            else len(data[: 2 * character].decode("utf-16-le", "ignore"))
        )
    return len(head.encode()[:character].decode("utf-8", "ignore"))


@dataclass
class Document:
    """One open document. ``path`` is relative to the workspace, None outside of it; ``stale`` says why the text
    is not the editor's any more, empty while it is. ``version`` None: the editor counts none."""

    uri: str
    path: str | None
    language: str
    version: int | None
    encoding: Encoding
    lines: list[str]
    stale: str = ""

    def __post_init__(self) -> None:
        self._text: str | None = None

    @property
    def text(self) -> str:
        """The whole text."""
        if self._text is None:
            self._text = "".join(self.lines)
        return self._text

    def change(self, version: JsonValue, changes: JsonValue) -> None:
        """Apply a ``didChange``. Raises ``OutOfStep`` once, when the document becomes stale by it.

        A change of the whole text makes a stale document good again.
        """
        was_stale = bool(self.stale)
        try:
            self._check_version(version)
            if not isinstance(changes, list):
                raise OutOfStep("contentChanges is not a list")
            for change in changes:
                self._change(change)
        except OutOfStep as error:
            self.stale = str(error)
            if not was_stale:
                raise

    def _check_version(self, version: JsonValue) -> None:
        if not isinstance(version, int) or isinstance(version, bool):
            self.version = None
            return
        backwards = self.version is not None and version <= self.version
        known, self.version = self.version, version
        if backwards:
            raise OutOfStep(f"version {version} came after {known}")

    def _change(self, change: JsonValue) -> None:
        text = change.get("text") if isinstance(change, dict) else None
        if not isinstance(change, dict) or not isinstance(text, str):
            raise OutOfStep("a change without a text")
        place = change.get("range")
        if place is None:
            self.lines, self._text, self.stale = split_lines(sanitised(text)), None, ""
        elif self.stale:
            raise OutOfStep(self.stale)
        else:
            self._replace(_position(place, "start"), _position(place, "end"), sanitised(text))

    def _replace(self, start: tuple[int, int], end: tuple[int, int], text: str) -> None:
        if start > end:
            raise OutOfStep("a range that ends before it starts")
        first, before = self._locate(*start)
        last, after = self._locate(*end)
        segment = self.lines[first][:before] + text + self.lines[last][after:]
        if first and segment.startswith("\n") and self.lines[first - 1].endswith("\r"):
            first -= 1  # a lone \r and this \n are one line end now
            segment = self.lines[first] + segment
        self.lines[first : last + 1] = (
            split_lines(segment) if last + 1 == len(self.lines) else _inner(segment)
        )
        self._text = None

    def _locate(self, line: int, character: int) -> tuple[int, int]:
        if line >= len(self.lines):
            return len(self.lines) - 1, len(self.lines[-1])
        return line, offset_in_line(self.lines[line], character, self.encoding)

    def position(self, offset: int) -> JsonObject:
        """The protocol's position of an index into ``text``."""
        ends = list(itertools.accumulate(map(len, self.lines)))
        line = min(bisect_right(ends, offset), len(self.lines) - 1)
        begin = ends[line - 1] if line else 0
        return {"line": line, "character": units(self.lines[line][: offset - begin], self.encoding)}


def _inner(segment: str) -> list[str]:
    """The lines of a segment that is followed by another line, and so ends with a line end."""
    lines = split_lines(segment)
    lines.pop()
    return lines


def _position(place: JsonValue, name: str) -> tuple[int, int]:
    where = place.get(name) if isinstance(place, dict) else None
    if isinstance(where, dict):
        line, character = where.get("line"), where.get("character")
        if (
            isinstance(line, int)
            and isinstance(character, int)
            and 0 <= line <= MAX_NUMBER
            and 0 <= character <= MAX_NUMBER
        ):
            return line, character
    raise OutOfStep(f"a range whose {name} is no position")
