"""Text as bytes and back without losing one: byte order mark, encoding, line ends; exact and unique replacement."""

from __future__ import annotations

import codecs
import difflib
from dataclasses import dataclass

from codeforge_ls.model.errors import Conflict, InvalidInput

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
NEAREST_LINES = 12


@dataclass(frozen=True)
class Text:
    """Decoded text with all that is needed to encode it to the same bytes again."""

    text: str
    encoding: str = "utf-8"
    bom: bytes = b""

    def encode(self, text: str) -> bytes:
        """Other text in this file's encoding. Raises ``InvalidInput`` when a character does not exist there."""
        try:
            return self.bom + text.encode(self.encoding)
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"The text has a character that {self.encoding} cannot hold: {error.object[error.start]!r}.",
                hint="Remove it, or rewrite the whole file in UTF-8.",
            ) from error

    @property
    def line_end(self) -> str:
        """The prevailing line end of the text."""
        return "\r\n" if self.text.count("\r\n") * 2 > self.text.count("\n") else "\n"


def decode(data: bytes) -> Text:
    """Decode by byte order mark, then UTF-8, then Latin-1, which maps every byte. Raises on binary data."""
    for bom, encoding in BOMS:
        if data.startswith(bom):
            try:
                return Text(data[len(bom) :].decode(encoding), encoding, bom)
            except UnicodeDecodeError:
                break
    if b"\0" in data[:8192]:
        raise InvalidInput("This is a binary file.", hint="CodeForge edits text files only.")
    try:
        return Text(data.decode("utf-8"))
    except UnicodeDecodeError:
        return Text(data.decode("latin-1"), "latin-1")


def adapt_line_ends(new: str, like: Text) -> str:
    """Text that was written with bare ``\\n``, with the line ends of the file it goes to."""
    if "\r" in new or like.line_end == "\n":
        return new
    return new.replace("\n", "\r\n")


def replace(current: Text, old: str, new: str, *, everywhere: bool = False) -> str:
    """Replace ``old`` by ``new``; exact and unique, or a ``Conflict`` that shows where the text is or what is nearest.

    Where the file has ``\\r\\n``, an ``old`` with bare ``\\n`` matches it, and ``new`` gets the same line ends.
    """
    if not old:
        raise InvalidInput(
            "old_text is empty.", hint="Give the exact text to replace, or write the whole file."
        )
    if old == new:
        raise InvalidInput("old_text and new_text are equal: nothing would change.")
    text = current.text
    wanted, replacement = _with_line_ends(current, old, new)
    first = text.find(wanted)
    if first < 0:
        raise Conflict(
            f"old_text is not in the file.\n{nearest(text, old)}", hint="Read the file again and retry."
        )
    # Places may overlap: "aa" is there twice in "aaa".
    if not everywhere and text.find(wanted, first + 1) >= 0:
        found = places(text, wanted)
        raise Conflict(
            f"old_text is there {_times(text, wanted)} times, at lines {', '.join(map(str, found))}.",
            hint="Add lines around it to make it unique, or set replace_all.",
        )
    return text.replace(wanted, replacement)


def _with_line_ends(current: Text, old: str, new: str) -> tuple[str, str]:
    """``old`` as it stands in the file, and ``new`` with the line ends of the place it goes to."""
    text = current.text
    only_crlf = "\r\n" in text and text.count("\r\n") == text.count("\n")
    if only_crlf or old not in text:
        # Also where ``old`` is there as it is: a match that begins inside a line end would tear it apart.
        return _crlf(old), _crlf(new)
    return old, (new if "\n" in old else adapt_line_ends(new, current))


def _crlf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def places(text: str, wanted: str, most: int = 10) -> list[int]:
    """The 1-based lines where ``wanted`` begins, at most ``most``."""
    lines: list[int] = []
    start = text.find(wanted)
    while start >= 0 and len(lines) < most:
        lines.append(text.count("\n", 0, start) + 1)
        start = text.find(wanted, start + 1)
    return lines


def _times(text: str, wanted: str) -> int:
    """How often ``wanted`` is there, overlapping ones included."""
    count, start = 0, text.find(wanted)
    while start >= 0:
        count, start = count + 1, text.find(wanted, start + 1)
    return count


def nearest(text: str, wanted: str) -> str:
    """The place in ``text`` that looks most like ``wanted``, with line numbers, for the error message only."""
    lines, target = text.splitlines(), wanted.splitlines()
    if not lines or not target or len(lines) > 50_000:
        return "The file has nothing like it."
    anchor = max(target, key=lambda line: len(line.strip()))
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(anchor.strip())
    best, best_ratio = 0, 0.0
    for number, line in enumerate(lines):
        matcher.set_seq1(line.strip())
        if matcher.real_quick_ratio() <= best_ratio or matcher.quick_ratio() <= best_ratio:
            continue
        if (ratio := matcher.ratio()) > best_ratio:
            best, best_ratio = number, ratio
    if best_ratio < 0.5:
        return "The file has nothing like it."
    first = max(0, best - target.index(anchor))
    shown = lines[first : first + min(len(target) + 1, NEAREST_LINES)]
    return "The nearest text is:\n" + "\n".join(
        f"{first + 1 + i}: {line[:200]}" for i, line in enumerate(shown)
    )


def unified(path: str, before: str, after: str, *, existed: bool = True, exists: bool = True) -> str:
    """A unified diff with three lines of context; ``/dev/null`` stands for a file that is not there."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"a/{path}" if existed else "/dev/null",
        f"b/{path}" if exists else "/dev/null",
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def count_changes(diff: str) -> tuple[int, int]:
    """Added and removed lines of a unified diff."""
    body = diff.splitlines()[2:]
    return sum(line.startswith("+") for line in body), sum(line.startswith("-") for line in body)
