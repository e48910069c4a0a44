"""A source in UTF-8 with its line starts: the places of byte offsets."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate


class Lines:
    """``starts`` has the byte offset of each line, and behind them that of a line after the last."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.starts = [0, *accumulate(len(line) + 1 for line in source.split(b"\n"))]
        self.is_ascii = source.isascii()

    def __len__(self) -> int:
        return len(self.starts) - 1

    def row(self, offset: int) -> int:
        """The 0-based line of a byte offset."""
        return bisect_right(self.starts, offset) - 1

    def place(self, offset: int) -> tuple[int, int]:
        """The 1-based line and the 0-based UTF-16 column of a byte offset, as editors count."""
        line = bisect_right(self.starts, offset)
        column = offset - self.starts[line - 1]
        if not self.is_ascii:
            prefix = self.source[self.starts[line - 1] : offset]
            if not prefix.isascii():
                column = len(prefix.decode("utf-8", "replace").encode("utf-16-le")) // 2
        return line, column

    def line(self, row: int) -> bytes:
        """The bytes of a 0-based line without its end."""
        return self.source[self.starts[row] : self.starts[row + 1] - 1]
