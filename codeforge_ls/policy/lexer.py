"""A second opinion on a command line: a tiny lexer that knows only the part of bash that needs no interpretation.

The shell parser and this lexer must agree on every word before anything is allowed by a list. It refuses
what it does not know: expansions, escapes, braces, tildes, redirections other than to nowhere, control characters.
"""

from __future__ import annotations

import re

# A tilde is only plain text behind a letter, as in HEAD~2; at the start of a word or of a value it is a home.
_SAFE = r"(?:[A-Za-z0-9_@%+=:,./^*?\[\]-]|(?<=[A-Za-z0-9^])~)"
_TOKEN = re.compile(
    rf"""
    (?P<space>\ +)
  | (?P<quiet>(?:[12]?>{{1,2}}|&>)\ *(?:/dev/null)(?=[\ ;|&]|$)|2>&1(?=[\ ;|&]|$)|1?>&2(?=[\ ;|&]|$))
  | (?P<operator>&&|\|\||;|\|(?!&))
  | (?P<comment>\#.*$)
  | (?P<word>(?:{_SAFE}|'[^']*'|"[^"$`\\!]*")(?:{_SAFE}|\#|'[^']*'|"[^"$`\\!]*")*)
    """,
    re.VERBOSE,
)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_PRINTABLE = re.compile(r"[ -~]*\Z")


def lex(text: str) -> list[tuple[str, ...]] | None:
    """The argument vectors of a chain of simple commands, or None when the line is anything more than that."""
    if not _PRINTABLE.match(text):
        return None
    commands: list[tuple[str, ...]] = []
    current: list[str] = []
    dangling, quoted_word_open, at = False, False, 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return None
        at = token.end()
        kind = token.lastgroup
        if kind == "word":
            # a word that touches the word or the number before it would be one word in bash
            if quoted_word_open:
                return None
            current.append(_QUOTED.sub(lambda m: m.group(1) or m.group(2) or "", token.group()))
        elif kind == "operator":
            if not current:
                return None
            commands.append(tuple(current))
            current = []
            dangling = token.group() != ";"
        elif not _stands_alone(kind, text[: token.start()], bool(current)):
            return None
        quoted_word_open = kind == "word"
    if current:
        commands.append(tuple(current))
        dangling = False
    return None if dangling or not commands else commands


def _stands_alone(kind: str | None, before: str, has_words: bool) -> bool:
    """A redirection must follow a blank (``a2>f`` is the word a2), a comment must not be part of a word."""
    if kind == "quiet":
        return has_words and before.endswith(" ")
    return kind != "comment" or not before or before[-1] in " ;|&"
