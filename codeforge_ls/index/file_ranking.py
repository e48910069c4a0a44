"""Files for a text: an issue, a commit message, a question. Evidence of a whole file's words and of its best chunks."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

from codeforge_ls.index.bm25 import Collection
from codeforge_ls.index.ranking import Leg, Ranked, identifiers, path_factors
from codeforge_ls.index.tokens import STOP_WORDS, stem, tokens

CHUNKS, WHOLE, NAME, MEANING = 1.0, 0.5, 0.2, 0.1  # shares in the score of a file
SAID, SAID_PARTS = 0.4, 3  # for a file whose name has so many words that are anywhere in the text
NAMED, WRITTEN = 0.3, 1.5  # for a file that is called like an identifier of the text, or whose path is in it
BETWEEN = re.compile(r"[\s\"'`()<>\[\]{},:;=]+")
# ``run-time`` is ``runtime`` in a name.
HYPHENATED = re.compile(r"(?<![\w-])([A-Za-z]{2,})-([A-Za-z]{2,})(?![\w-])")
FILE = re.compile(r"\.[A-Za-z]\w{0,9}$")  # how a path ends, as in stack traces and lists of files
MOST_PATHS = 200


def rank_files(text: str, collection: Collection, near: Leg | None) -> list[Ranked]:
    """The files that a text speaks of, best first, each with its best chunk; ``near`` is what was found by meaning.

    What the first line says weighs more: it names the file's subject, if the file's name has its words. Identifiers
    that are a file's name, and paths, as in a stack trace, speak for that file.
    """
    counts = Counter(word for word in tokens(text) if word not in STOP_WORDS)
    evidence = collection.files(counts)
    most_chunks = max((one.chunks for one in evidence), default=1.0)
    most_whole = max((one.whole for one in evidence), default=1.0)
    found: dict[str, Ranked] = {}
    order = sorted(evidence, key=lambda one: (-one.chunks, one.place.path))
    for at, one in enumerate(order, 1):
        ranked = found.setdefault(one.place.path, Ranked(one.place))
        ranked.legs["bm25"] = at, one.chunks
        ranked.reward("best chunks", CHUNKS * one.chunks / most_chunks)
        ranked.reward("whole file", WHOLE * one.whole / max(most_whole, 1e-9))
    for at, (cosine, place) in enumerate(near.hits if near else (), 1):
        ranked = found.setdefault(place.path, Ranked(place))
        if near and near.name not in ranked.legs:
            ranked.legs[near.name] = at, cosine
            ranked.reward("meaning", MEANING * cosine)
    mentions = Mentions.of(text)
    for ranked in found.values():
        mentions.reward(ranked)
        for rule, factor in path_factors(ranked.place.path):
            ranked.scale(rule, factor)
    return sorted(found.values(), key=lambda one: (-one.score, one.place.path))


@dataclass(frozen=True)
class Mentions:
    """What a text says of names: the words of its first line and of all of it (stems, ``run-time`` also as
    ``runtime``), identifiers without case and underscores, and paths."""

    subject: frozenset[str]
    words: frozenset[str]
    identifiers: frozenset[str]
    paths: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Mentions:
        """Read them out of a text."""
        first = text.strip().split("\n", 1)[0]
        pieces = dict.fromkeys(piece.strip("./") for piece in BETWEEN.split(text))
        joined = (a.lower() + b.lower() for a, b in HYPHENATED.findall(text))
        return cls(
            frozenset(stem(word) for word in tokens(first) if word not in STOP_WORDS),
            frozenset(stem(word) for word in (*tokens(text), *joined) if word not in STOP_WORDS),
            frozenset(name.lower().replace("_", "") for name in identifiers(text)),
            tuple(piece for piece in pieces if FILE.search(piece))[:MOST_PATHS],
        )

    def reward(self, ranked: Ranked) -> None:
        """Raise a file that is spoken of."""
        path = ranked.place.path
        name = PurePosixPath(path).stem
        whole, *parts = (stem(word) for word in tokens(name) or [name])
        if said := len({whole, *parts} & self.subject):
            ranked.reward("file name", NAME * said / len({whole, *parts}))
        if (said := len({*parts} & self.words)) >= SAID_PARTS:
            ranked.reward("words of the file name", SAID * said / len({*parts}))
        if name.lower().replace("_", "") in self.identifiers:
            ranked.reward("named", NAMED)
        if any(f"/{path}".endswith(f"/{one}") or f"/{one}".endswith(f"/{path}") for one in self.paths):
            ranked.reward("path", WRITTEN)
