"""Files for a text: an issue, a commit message, a question. Evidence of a whole file's words and of its best chunks."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath

from codeforge_ls.index.bm25 import Collection
from codeforge_ls.index.ranking import Leg, Ranked, identifiers, path_factors
from codeforge_ls.index.tokens import STOP_WORDS, stem, tokens

CHUNKS, WHOLE, NAME, MEANING = 1.0, 0.5, 0.2, 0.1  # shares in the score of a file
NAMED, WRITTEN = 0.3, 1.5  # for a file that is called like an identifier of the text, or whose path is in it
BETWEEN = re.compile(r"[\s\"'`()<>\[\]{},:;=]+")
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
    named = {name.lower().replace("_", "") for name in identifiers(text)}
    pieces = (piece.strip("./") for piece in BETWEEN.split(text))
    written = [piece for piece in dict.fromkeys(pieces) if FILE.search(piece)][:MOST_PATHS]
    subject = {stem(word) for word in tokens(text.strip().split("\n", 1)[0]) if word not in STOP_WORDS}
    for path, ranked in found.items():
        name = {stem(word) for word in tokens(PurePosixPath(path).stem)}
        if name:
            ranked.reward("file name", NAME * len(name & subject) / len(name))
        if PurePosixPath(path).stem.lower().replace("_", "") in named:
            ranked.reward("named", NAMED)
        if any(f"/{path}".endswith(f"/{one}") or f"/{one}".endswith(f"/{path}") for one in written):
            ranked.reward("path", WRITTEN)
        for rule, factor in path_factors(path):
            ranked.scale(rule, factor)
    return sorted(found.values(), key=lambda one: (-one.score, one.place.path))
