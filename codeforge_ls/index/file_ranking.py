"""Files for a text: an issue, a commit message, a question. Evidence of a whole file's words and of its best chunks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.bm25 import Collection
from codeforge_ls.index.file_names import as_called, bare_name
from codeforge_ls.index.lexical import ChunkPlace
from codeforge_ls.index.path_rules import path_factors
from codeforge_ls.index.ranking import Leg, Ranked, identifiers
from codeforge_ls.index.tokens import STOP_WORDS, stem, tokens

CHUNKS, WHOLE, NAME, MEANING = 1.0, 0.5, 0.2, 0.1  # shares in the score of a file
SAID, SAID_PARTS = 0.4, 3  # for a file whose name has so many words that are anywhere in the text
NAMED, WRITTEN = 0.3, 1.5  # for a file that is called like an identifier of the text, or whose path is in it
BETWEEN = re.compile(r"[\s\"'`()<>\[\]{},:;=]+")
# ``run-time`` is ``runtime`` in a name.
HYPHENATED = re.compile(r"(?<![\w-])([A-Za-z]{2,})-([A-Za-z]{2,})(?![\w-])")
FILE = re.compile(r"\.[A-Za-z]\w{0,9}$")  # how a path ends, as in stack traces and lists of files
MOST_PATHS = 200


Amounts = npt.NDArray[np.float64]


def rank_files(text: str, collection: Collection, near: Leg | None) -> Iterator[Ranked]:
    """The files that a text speaks of, best first, each with its best chunk; ``near`` is what was found by meaning.

    What the first line says weighs more: it names the file's subject, if the file's name has its words. Identifiers
    that are a file's name, and paths, as in a stack trace, speak for that file.
    """
    evidence = collection.files(Counter(word for word in tokens(text) if word not in STOP_WORDS))
    close = _closest(collection, near)
    meaning = np.zeros(len(evidence.best))
    for file, (_, cosine, _) in close.items():
        meaning[file] = MEANING * cosine
    rewards = {
        "best chunks": CHUNKS * evidence.chunks / max(float(evidence.chunks.max(initial=0.0)), 1e-9),
        "whole file": WHOLE * evidence.whole / max(float(evidence.whole.max(initial=0.0)), 1e-9),
        "meaning": meaning,
        **Mentions.of(text).rewards(collection),
    }
    weights = np.concatenate([np.zeros(0), *(names.weights for _, names in collection.file_names)])
    scores = sum(rewards.values(), np.zeros(len(weights))) * weights
    files = np.union1d(np.flatnonzero(evidence.best >= 0), np.array([*close], np.int64))
    by_words = np.sort(evidence.chunks)
    order = files[np.argsort(-scores[files], kind="stable")].tolist()
    for _, equal in groupby(order, key=scores.__getitem__):
        for path, file in sorted((collection.file_path(file), file) for file in equal):
            best = int(evidence.best[file])
            ranked = Ranked(collection.place(best) if best >= 0 else close[file][2])
            if best >= 0:
                better = len(by_words) - int(np.searchsorted(by_words, evidence.chunks[file], side="right"))
                ranked.legs["bm25"] = 1 + better, float(evidence.chunks[file])
            if near and file in close:
                ranked.legs[near.name] = close[file][:2]
            for rule, amounts in rewards.items():
                ranked.reward(rule, float(amounts[file]))
            for rule, factor in path_factors(path):
                ranked.scale(rule, factor)
            yield ranked


def _closest(collection: Collection, near: Leg | None) -> dict[int, tuple[int, float, ChunkPlace]]:
    """For each file found by meaning the rank, the cosine and the place of its first chunk."""
    found: dict[int, tuple[int, float, ChunkPlace]] = {}
    for at, (cosine, place) in enumerate(near.hits if near else (), 1):
        if (file := collection.file_number(place.path)) >= 0:
            found.setdefault(file, (at, cosine, place))
    return found


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
            frozenset(as_called(name) for name in identifiers(text)),
            tuple(piece for piece in pieces if FILE.search(piece))[:MOST_PATHS],
        )

    def rewards(self, collection: Collection) -> dict[str, Amounts]:
        """By rule, what each file gets that is spoken of."""
        names = [*collection.file_names]
        pieces: dict[str, list[Amounts]] = {
            "file name": [],
            "words of the file name": [],
            "named": [],
            "path": [],
        }
        for first, part in names:
            said, parts = part.words_among(self.subject), part.parts_among(self.words)
            pieces["file name"].append(NAME * said / part.words)
            pieces["words of the file name"].append(
                np.where(parts >= SAID_PARTS, SAID * parts / np.maximum(part.parts, 1), 0.0)
            )
            named, written = np.zeros(len(part)), np.zeros(len(part))
            for name in self.identifiers:
                named[list(part.called(name))] = NAMED
            for one in self.paths:
                for at in part.called(as_called(bare_name(one))):
                    path = collection.file_path(first + at)
                    if f"/{path}".endswith(f"/{one}") or f"/{one}".endswith(f"/{path}"):
                        written[at] = WRITTEN
            pieces["named"].append(named)
            pieces["path"].append(written)
        return {rule: np.concatenate([np.zeros(0), *amounts]) for rule, amounts in pieces.items()}
