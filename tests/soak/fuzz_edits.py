"""Fuzz of edits: only the wanted place changes; every other byte, the mark, the encoding and the line ends stay."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from codeforge_ls.actions.text import Text, decode, replace
from codeforge_ls.model.errors import CodeForgeError, Conflict, InvalidInput
from tests.soak.hostile import Hostile
from tests.soak.report import Part

ENCODINGS = (
    ("utf-8", b""),
    ("utf-8", codecs.BOM_UTF8),
    ("utf-16-le", codecs.BOM_UTF16_LE),
    ("utf-16-be", codecs.BOM_UTF16_BE),
    ("utf-32-le", codecs.BOM_UTF32_LE),
    ("latin-1", b""),
)
ENDS = ("\n", "\r\n", "\r")
WORDS = (
    "alpha", "beta", " ", "  ", "\t", "x = 1", "aa", "aaa", "é", "ß", "日本", "\U0001f600", "{", "}", "\f", "\x0b",
    "\x85", "\u2028", "e\u0301", "", "a",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A file, the piece of it to replace, and the replacement."""

    data: bytes
    encoding: str
    start: int
    old: str
    new: str
    asked: str  # ``old`` as the agent writes it: line ends perhaps bare


def prove(part: Part, *, cases: int) -> None:
    """So many replacements, each compared with what plain slicing says."""
    hostile = Hostile(part.seed)
    with part.timed():
        for number in range(cases):
            case = _case(hostile)
            try:
                problem = _check(part, case)
            except Exception as error:
                problem = f"raised {error!r}"
            if problem:
                part.fail(f"case {number} (seed {part.seed}): {problem}: {case}"[:900])


def _case(hostile: Hostile) -> Case:
    rng = hostile.rng
    encoding, bom = rng.choice(ENCODINGS)
    words = [word for word in WORDS if encoding != "latin-1" or all(ord(char) < 256 for char in word)]
    ends = rng.choices(ENDS, (8, 8, 1), k=1) if rng.random() < 0.8 else list(ENDS)
    lines = [
        "".join(rng.choices(words, k=rng.randint(0, 4))) + rng.choice(ends) for _ in range(rng.randint(1, 12))
    ]
    text = "".join(lines)
    text = text.rstrip("\r\n") if rng.random() < 0.4 else text
    text = text or "a"
    start = rng.randrange(len(text))
    old = text[start : start + rng.randint(1, 20)]
    new = "".join(rng.choices([*words, "\n", "\r\n"], k=rng.randint(0, 5)))
    asked = old.replace("\r\n", "\n") if rng.random() < 0.4 else old
    return Case(bom + text.encode(encoding), encoding, start, old, new, asked)


def _check(part: Part, case: Case) -> str:
    """What is wrong; empty when all is well."""
    current = decode(case.data)
    if current.encode(current.text) != case.data:
        return "decode and encode lose bytes"
    try:
        after = replace(current, case.asked, case.new)
        data = current.encode(after)
    except CodeForgeError as error:
        part.count(f"refused: {error.code}")
        return _unfounded(error, current, case)
    part.count("replaced")
    return _other_change(current, case, after, data)


def _unfounded(error: CodeForgeError, current: Text, case: Case) -> str:
    """A refusal must have its reason in the text."""
    if isinstance(error, InvalidInput):
        equal = case.asked == case.new
        cannot = not _fits(case.new, current.encoding)
        return "" if equal or cannot else f"refused without a reason: {error}"
    if not isinstance(error, Conflict):
        return f"an odd refusal: {error!r}"
    if _occurrences(current.text, case.asked) == 1 and "\n" not in case.asked:
        return f"refused though it is there exactly once: {error}"
    return ""


def _other_change(current: Text, case: Case, after: str, data: bytes) -> str:
    """What is not as it must be after a replacement."""
    text = current.text
    only_crlf = "\r\n" in text and "\n" not in text.replace("\r\n", "")
    found = case.asked if case.asked in text and not only_crlf else _plain(case.asked).replace("\n", "\r\n")
    if _occurrences(text, found) != 1:
        return f"replaced though it is there {_occurrences(text, found)} times"
    at = text.index(found)
    head, tail = text[:at], text[at + len(found) :]
    if not (after.startswith(head) and after.endswith(tail) and len(after) >= len(head) + len(tail)):
        return "something else changed"
    middle = after[len(head) : len(after) - len(tail)]
    if _plain(middle) != _plain(case.new):
        return f"the new text is {middle!r}"
    if not data.startswith(current.bom + head.encode(current.encoding)) or not data.endswith(
        tail.encode(current.encoding)
    ):
        return "the bytes around it changed"
    if only_crlf and "\n" in middle.replace("\r\n", ""):
        return f"a bare line end in a file without any: {middle!r}"
    return ""


def _occurrences(text: str, wanted: str) -> int:
    """How often it is there, overlapping ones included."""
    return sum(text.startswith(wanted, place) for place in range(len(text)))


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n")


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
