"""A second opinion on a command line: a tiny lexer that knows only the part of bash that needs no interpretation.

The shell parser and this lexer must agree on every word before anything is allowed by a list. It refuses
what it does not know: expansions, escapes, braces, tildes, redirections other than to nowhere, control characters.
"""

from __future__ import annotations

import re

_SAFE = r"[A-Za-z0-9_@%+=:,./^*?\[\]-]"
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
        elif kind == "quiet" and (not current or (text[token.start() - 1] != " ")):
            return None
        elif kind == "comment" and token.start() and text[token.start() - 1] not in " ;|&":
            return None
        quoted_word_open = kind == "word"
    if current:
        commands.append(tuple(current))
        dangling = False
    return None if dangling or not commands else commands
