"""Words of code for lexical search: identifiers whole and split, stop words, a light stemmer."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import PurePosixPath

WORD = re.compile(r"[^\W\d]\w*")
PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
# For bytes.translate: everything that cannot be in a word becomes a blank.
SEPARATORS = bytes(at if at > 127 or chr(at).isalnum() or at == ord("_") else 32 for at in range(256))
MAX_WORD = 80  # longer ones are data, not names
MAX_CACHED = 10_000  # words whose parts are remembered: more cost a long-lived process memory and save little

# fmt: off
STOP_WORDS = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "between", "by", "can", "do", "does", "each", "for", "from", "get",
    "has", "have", "how", "if", "in", "into", "is", "it", "its", "not", "of", "on", "or", "than", "that", "the",
    "their", "then", "these", "this", "to", "used", "using", "via", "was", "what", "when", "where", "which", "who",
    "why", "with", "work", "works",
))
# fmt: on
SUFFIXES = (
    "izations",
    "ization",
    "ations",
    "ation",
    "ings",
    "ing",
    "ers",
    "ies",
    "ied",
    "er",
    "ed",
    "es",
    "s",
    "e",
)  # fmt: skip

_parts: dict[str, tuple[str, ...]] = {}


def parts_of(word: str) -> tuple[str, ...]:
    """``getUserName`` -> ``getusername get user name``; a word of one part gives itself in lower case."""
    pieces = PART.findall(word)
    return (word.lower(), *map(str.lower, pieces)) if len(pieces) > 1 else (word.lower(),)


def split_word(word: str) -> tuple[str, ...]:
    """The same as ``parts_of``, remembered: for words that come again and again."""
    parts = _parts.get(word)
    if parts is None:
        parts = parts_of(word)
        if len(_parts) > MAX_CACHED:
            _parts.clear()
        _parts[word] = parts
    return parts


def raw_words(text: bytes) -> list[bytes]:
    """The runs of letters, digits, ``_`` and bytes beyond ASCII in UTF-8 text: fast, for counting in bulk.

    ``tokens`` of each run, decoded, are the tokens of the text.
    """
    return text.translate(SEPARATORS).split()


def tokens(text: str) -> list[str]:
    """All tokens of a text in order, repeats included."""
    return [part for word in WORD.findall(text) if len(word) <= MAX_WORD for part in split_word(word)]


def query_tokens(query: str, *, keep_stop_words: bool) -> list[str]:
    """The distinct tokens of a query in order, without stop words unless nothing else would be left."""
    every = list(dict.fromkeys(tokens(query)))
    kept = every if keep_stop_words else [token for token in every if token not in STOP_WORDS]
    return kept or every


def file_stem(path: str) -> str:
    """The file name without its last suffix, lower case: ``src/HttpClient.java`` -> ``httpclient``."""
    return PurePosixPath(path).stem.lower()


def stem(token: str) -> str:
    """A light suffix stripper: enough to join plural, -ing, -ed and -er forms."""
    for suffix in SUFFIXES:
        if token.endswith(suffix) and len(token) - len(suffix) >= 4:
            token = token[: -len(suffix)]
            break
    return token[:-1] if len(token) > 4 and token[-1] == token[-2] else token


@lru_cache(maxsize=5_000)
def forms(word: str) -> tuple[str, ...]:
    """Likely grammatical forms of a query's word, itself left out: those with the same stem."""
    if len(word) < 4 or not word.isalpha():
        return ()
    base = stem(word)
    likely = {base + ending for ending in ("", "s", "es", "e", "er", "ers", "ed", "d", "ing", "ation", "or")}
    return tuple(sorted(form for form in likely if form != word and len(form) > 2 and stem(form) == base))
