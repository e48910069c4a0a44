"""From lexical scores to the order of hits: fusion by rank, boosts for definitions and names, penalties for noise.

The rules and their weights are those measured in facts/retrieval.md (section 1): ranking is worth 0.16 NDCG@10.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

from codeforge_ls.index.lexical import ChunkPlace
from codeforge_ls.index.tokens import file_stem, stem, tokens

Key = TypeVar("Key", bound=Hashable)

RRF_K = 60
DEFINITION_SYMBOL, DEFINITION_EMBEDDED, STEM_FACTOR = 3.0, 1.5, 1.5
COHERENCE, FOLDER = 0.2, 0.25
NEXT_CHUNK = 0.5  # each further chunk of a file counts half as much as the one before

NOISE = re.compile(
    r"(^|/)(tests?|testing|__tests__|spec|testdata|fixtures|examples?|_examples?|docs?_src|compat|_compat|legacy|vendor"
    r"|third_party|node_modules)(/|$)"
    r"|(^|/)(test_[^/]*|[^/]*_test|conftest)\.(py|c|cc|cpp|go|lua|rb|dart)$|(^|/)[^/]*_spec\.(rb|lua)$"
    r"|\.(test|spec|bench)\.[mc]?[jt]sx?$|[a-z0-9](Tests?|Spec|Suite)\.(java|kt|swift|cs|php|scala)$"
)
BARREL = re.compile(r"(^|/)(__init__\.py|package-info\.java|index\.d\.ts)$|\.d\.ts$")
PROSE = re.compile(
    r"\.(md|rst|txt|json|ya?ml|toml|html|css|scss)$|(^|/)(docs?|changelog)(/|$)", re.IGNORECASE
)
SYMBOL = re.compile(
    r"^(?:[A-Za-z_][\w]*(?:(?:::|\\|->|\.)[A-Za-z_]\w*)+|_\w*|[A-Za-z]\w*[A-Z_]\w*|[A-Z]\w*)$"
)
EMBEDDED = re.compile(
    r"\b(?:[A-Z][a-z0-9]+(?:[A-Z][A-Za-z0-9]*)+|[a-z][a-z0-9]*[A-Z]\w+|[A-Za-z]+(?:_[A-Za-z0-9]+)+)\b"
)


def is_symbol(query: str) -> bool:
    """Whether the whole query reads like one identifier, qualified or not."""
    return SYMBOL.match(query.strip()) is not None


def named_symbols(query: str) -> list[str]:
    """The identifiers a query names: all of it, or the ones inside a sentence."""
    if is_symbol(query):
        return [re.split(r"::|\\|->|\.", query.strip())[-1]]
    return list(dict.fromkeys(EMBEDDED.findall(query)))


def path_weight(path: str) -> float:
    """What a hit in this file is worth: tests and examples 0.3, barrels and prose 0.5, the rest 1."""
    weight = 0.3 if NOISE.search(path) else 1.0
    if BARREL.search(path):
        weight *= 0.5
    return weight * (0.5 if PROSE.search(path) else 1.0)


def fuse(legs: Sequence[tuple[Sequence[Key], float]]) -> dict[Key, float]:
    """Reciprocal rank fusion: ``sum of weight / (60 + rank)`` over the legs, each a list best first."""
    scores: dict[Key, float] = defaultdict(float)
    for keys, weight in legs:
        for rank, key in enumerate(keys, 1):
            scores[key] += weight / (RRF_K + rank)
    return dict(scores)


def rank(
    query: str,
    words: Sequence[str],
    fused: Mapping[ChunkPlace, float],
    definitions: Callable[[Sequence[str]], Sequence[tuple[str, ChunkPlace]]],
    limit: int,
) -> list[tuple[float, ChunkPlace]]:
    """Order chunks, best first. ``definitions`` gives ``(name, chunk)`` for the chunks that define some names."""
    scores = dict(fused)
    top = max(scores.values(), default=1 / (RRF_K + 1))
    _reward_coherence(scores, top)
    _reward_definitions(query, scores, top, definitions)
    if not is_symbol(query):
        _reward_names(words, scores, top)
    weighted = [(score * path_weight(place.path), place) for place, score in scores.items()]
    weighted.sort(key=_order)
    seen: Counter[str] = Counter()
    spread: list[tuple[float, ChunkPlace]] = []
    for score, place in weighted[: 6 * limit]:
        spread.append((score * NEXT_CHUNK ** seen[place.path], place))
        seen[place.path] += 1
    return sorted(spread, key=_order)


def _order(one: tuple[float, ChunkPlace]) -> tuple[float, str, int]:
    return -one[0], one[1].path, one[1].start_line


def _reward_coherence(scores: dict[ChunkPlace, float], top: float) -> None:
    """The best chunk of a file that has many good ones rises."""
    sums: dict[str, float] = defaultdict(float)
    best: dict[str, ChunkPlace] = {}
    for place, score in scores.items():
        sums[place.path] += score
        if place.path not in best or score > scores[best[place.path]]:
            best[place.path] = place
    most = max(sums.values(), default=1.0)
    for path, place in best.items():
        scores[place] += COHERENCE * top * sums[path] / most


def _reward_definitions(
    query: str,
    scores: dict[ChunkPlace, float],
    top: float,
    definitions: Callable[[Sequence[str]], Sequence[tuple[str, ChunkPlace]]],
) -> None:
    """A chunk that defines a named symbol rises, more so when its file is named after it."""
    whole = is_symbol(query)
    names = named_symbols(query)
    for name, place in definitions(names) if names else ():
        flat, file = name.lower().replace("_", ""), file_stem(place.path).replace("_", "").replace("-", "")
        same = file in {flat, name.lower()} or file.rstrip("s") == flat
        if not whole and place not in scores and not same:
            continue
        boost = (DEFINITION_SYMBOL if whole else DEFINITION_EMBEDDED) * top * (STEM_FACTOR if same else 1.0)
        scores[place] = scores.get(place, 0.0) + boost


def _reward_names(words: Sequence[str], scores: dict[ChunkPlace, float], top: float) -> None:
    """Files and folders whose names have the query's words rise."""
    wanted = {stem(word) for word in words if len(word) > 2}
    by_path: dict[str, float] = {}
    for place in list(scores):
        if place.path not in by_path:
            by_path[place.path] = _name_match(wanted, place.path)
        scores[place] += top * by_path[place.path]


def _name_match(wanted: set[str], path: str) -> float:
    if not wanted:
        return 0.0
    name = PurePosixPath(path)
    parts = {stem(word) for word in tokens(name.stem)}
    folder = {stem(word) for word in tokens(name.parent.name)}
    hits = sum(1 for word in wanted if word in parts or any(_akin(word, part) for part in parts))
    return min(1.0, hits / len(wanted)) + FOLDER * len(wanted & folder) / len(wanted)


def _akin(word: str, part: str) -> bool:
    return min(len(word), len(part)) >= 3 and (part.startswith(word) or word.startswith(part))
