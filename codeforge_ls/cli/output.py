"""What the terminal shows: text made safe, tables, JSON, colours only where somebody sees them."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
ODD = frozenset(
    {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
)  # controls, direction marks, surrogates, private use


def safe(text: object, *, lines: bool = False) -> str:
    """The text with everything that could steer a terminal written out; ``lines`` keeps newlines and tabs."""
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(_visible(letter, lines=lines) for letter in shown)


def _visible(letter: str, *, lines: bool) -> str:
    if lines and letter in "\n\t":
        return letter
    if unicodedata.category(letter) in ODD:
        return letter.encode("unicode_escape", "backslashreplace").decode("ascii")
    return letter


class Output:
    """Where a verb writes. ``as_json`` turns results into one JSON document a line and silences the rest."""

    def __init__(self, *, as_json: bool = False, color: bool = True) -> None:
        self.as_json = as_json
        self.is_terminal = sys.stdout.isatty()
        self.color = color and self.is_terminal and "NO_COLOR" not in os.environ
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    def paint(self, text: object, *codes: str, lines: bool = False) -> str:
        """Safe text, coloured on a terminal."""
        shown = safe(text, lines=lines)
        return f"\033[{';'.join(codes)}m{shown}\033[0m" if self.color and codes and shown else shown

    def line(self, *parts: str) -> None:
        """One line of parts that went through ``paint`` or ``safe``; nothing when JSON is wanted."""
        if not self.as_json:
            print(*parts, flush=self.is_terminal)

    def text(self, text: str) -> None:
        """Several lines of foreign text, made safe."""
        if not self.as_json:
            print(safe(text, lines=True))

    def write(self, text: str) -> None:
        """A piece of foreign text without an end of line, such as what a model is saying."""
        if not self.as_json:
            print(safe(text, lines=True), end="", flush=True)

    def json(self, value: Any) -> None:
        """One JSON document on one line; nothing unless JSON is wanted. ASCII only: it cannot steer anything."""
        if self.as_json:
            print(json.dumps(value, separators=(",", ":")), flush=True)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Rows under headers: drawn on a terminal, tab-separated without headers in a pipe."""
        if self.as_json:
            return
        shown = [[safe(cell) for cell in row] for row in rows]
        if not self.is_terminal:
            for row in shown:
                print("\t".join(row))
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for header in headers:
            table.add_column(header, overflow="fold")
        for row in shown:
            table.add_row(*(Text(cell) for cell in row))
        Console(no_color=not self.color, highlight=False).print(table)

    def diff(self, text: str) -> None:
        """A unified diff, coloured by line."""
        colors = {"+": GREEN, "-": RED, "@": CYAN}
        for line in text.splitlines():
            code = colors.get(line[:1])
            self.line(self.paint(line, code, lines=True) if code else safe(line, lines=True))

    def note(self, text: str) -> None:
        """A remark on stderr, beside the result."""
        print(f"codeforge: {safe(text)}", file=sys.stderr, flush=True)

    def error(self, error: dict[str, Any]) -> None:
        """What went wrong, and what to do: on stderr, or as ``{"error": ...}`` when JSON is wanted."""
        if self.as_json:
            self.json({"error": error})
            return
        self.note(f"{error.get('message', 'unknown error')} {error.get('hint') or ''}".strip())
