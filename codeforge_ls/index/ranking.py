"""From the legs to the order of hits: fusion by rank, rewards for definitions and names, less for noise.

Weights are shares of the best fused score. What each rule gave is kept, so that a hit can say why it is there.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from posixpath import splitext

from codeforge_ls.index.lexical import ChunkPlace
from codeforge_ls.index.path_rules import path_factors
from codeforge_ls.index.tokens import file_stem, stem, tokens
from codeforge_ls.model.base import JsonObject, JsonValue

DEFINITION_SYMBOL, DEFINITION_EMBEDDED, DEFINITION_MENTIONED, STEM_FACTOR = 3.0, 1.5, 0.5, 1.5
MINOR_KIND = 0.5  # fields, constants, variables and methods: a bare name mostly means a type or a function
MAJOR_KINDS = {"class", "interface", "struct", "enum", "type", "module", "function", "macro"}
MANY_FILES = 10  # a name that more files define, such as a namespace, speaks for none of them
COHERENCE, FILE_NAME, FOLDER, DEFINES = 0.2, 1.0, 0.5, 0.8
# A file all of whose name is in the query is rather meant than one with more words to its name.
NAMED_WHOLE = 0.3
# What the ten best files import. PageRank of a file was tried and did not help.
NEIGHBOUR, IMPORTERS = 0.05, 10
NEXT_CHUNK = 0.4  # what each further chunk of a file counts beside the one before

SYMBOL = re.compile(
    r"^(?:[A-Za-z_][\w]*(?:(?:::|\\|->|\.)[A-Za-z_]\w*)+|_\w*|[A-Za-z]\w*[A-Z_]\w*|[A-Z]\w*)$"
)
EMBEDDED = re.compile(
    r"\b(?:[A-Z][a-z0-9]+(?:[A-Z][A-Za-z0-9]*)+|[a-z][a-z0-9]*[A-Z]\w+|[A-Za-z]+(?:_[A-Za-z0-9]+)+)\b"
)

# A capital inside a sentence may mean a type, if there is one of that name in a file of that name.
MENTIONED = re.compile(r"(?<=\w )[A-Z][a-z0-9]{2,}\b")
TYPES = {"class", "interface", "struct", "enum", "type", "module"}
QUALIFIED = re.compile(r"(?:::|->)([A-Za-z_]\w+)")  # the name itself in ``absl::Hash``


@dataclass(frozen=True)
class Leg:
    """One way of finding: its hits ``(its own score, chunk)``, best first, and its weight in the fusion."""

    name: str
    weight: float
    hits: Sequence[tuple[float, ChunkPlace]]


@dataclass(frozen=True)
class Definition:
    """A chunk that defines a name which the query asks for; ``kind`` is that of the definition."""

    name: str
    kind: str
    place: ChunkPlace


@dataclass(slots=True)
class Ranked:
    """A chunk on its way to a hit. ``legs`` are rank and score by leg, ``rewards`` and ``factors`` go by rule."""

    place: ChunkPlace
    score: float = 0.0
    legs: dict[str, tuple[int, float]] = field(default_factory=dict)
    rewards: dict[str, float] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)

    def reward(self, rule: str, amount: float) -> None:
        """Add to the score in the name of a rule."""
        if amount:
            self.score += amount
            self.rewards[rule] = self.rewards.get(rule, 0.0) + amount

    def scale(self, rule: str, factor: float) -> None:
        """Multiply the score in the name of a rule."""
        if factor != 1.0:
            self.score *= factor
            self.factors[rule] = factor

    def explanation(self) -> JsonObject:
        """Why it is where it is, as JSON."""
        legs: dict[str, JsonValue] = {
            name: {"rank": at, "score": round(score, 4)} for name, (at, score) in self.legs.items()
        }
        return {
            "legs": legs,
            "rewards": {rule: round(amount, 5) for rule, amount in self.rewards.items()},
            "factors": {rule: round(factor, 4) for rule, factor in self.factors.items()},
        }


def is_symbol(query: str) -> bool:
    """Whether the whole query reads like one identifier, qualified or not."""
    return SYMBOL.match(query.strip()) is not None


def named_symbols(query: str) -> list[str]:
    """The identifiers a query names: all of it, or the ones inside a sentence."""
    if is_symbol(query):
        return [re.split(r"::|\\|->|\.", query.strip())[-1]]
    return identifiers(query)


def identifiers(text: str) -> list[str]:
    """The words of a text that can only be identifiers: with a capital inside, underscores, or qualified."""
    return list(dict.fromkeys([*EMBEDDED.findall(text), *QUALIFIED.findall(text)]))


def fuse(legs: Sequence[Leg], rrf_k: int) -> dict[ChunkPlace, Ranked]:
    """Reciprocal rank fusion: ``sum of weight / (rrf_k + rank)`` over the legs."""
    fused: dict[ChunkPlace, Ranked] = {}
    for leg in legs:
        for at, (score, place) in enumerate(leg.hits, 1):
            one = fused.get(place) or fused.setdefault(place, Ranked(place))
            one.score += leg.weight / (rrf_k + at)
            one.legs[leg.name] = at, score
    return fused


def rank(
    query: str,
    words: Sequence[str],
    legs: Sequence[Leg],
    definitions: Callable[[Sequence[str]], Sequence[Definition]],
    imported: Callable[[str], Iterable[str]],
    limit: int,
    rrf_k: int,
) -> list[Ranked]:
    """Order the chunks that the legs found, and those that define what the query names, best first.

    ``imported`` gives the files that a file imports.
    """
    found = fuse(legs, rrf_k)
    top = max((one.score for one in found.values()), default=1 / (rrf_k + 1))
    _reward_coherence(found, top)
    _reward_definitions(query, found, top, definitions)
    if not is_symbol(query):
        _reward_names(words, found, top)
        _reward_neighbours(found, top, imported)
    for one in found.values():
        for rule, factor in path_factors(one.place.path):
            one.scale(rule, factor)
    seen: Counter[str] = Counter()
    spread = sorted(found.values(), key=_order)[: 6 * limit]
    for one in spread:
        one.scale("further chunk", NEXT_CHUNK ** seen[one.place.path])
        seen[one.place.path] += 1
    return sorted(spread, key=_order)


def _order(one: Ranked) -> tuple[float, str, int]:
    return -one.score, one.place.path, one.place.start_line


def _reward_coherence(found: Mapping[ChunkPlace, Ranked], top: float) -> None:
    """The best chunk of a file that has many good ones rises."""
    sums: dict[str, float] = defaultdict(float)
    best: dict[str, Ranked] = {}
    for one in found.values():
        path = one.place.path
        sums[path] += one.score
        if path not in best or _order(one) < _order(best[path]):
            best[path] = one
    most = max(sums.values(), default=1.0)
    for path, one in best.items():
        one.reward("coherent file", COHERENCE * top * sums[path] / most)


def _reward_definitions(
    query: str,
    found: dict[ChunkPlace, Ranked],
    top: float,
    definitions: Callable[[Sequence[str]], Sequence[Definition]],
) -> None:
    """A chunk that defines a named symbol rises, more so when its file is named after it."""
    whole = is_symbol(query)
    names = named_symbols(query)
    mentioned = [] if whole else [word for word in MENTIONED.findall(query) if word not in names]
    best: dict[ChunkPlace, float] = {}
    defining = definitions([*names, *mentioned]) if names or mentioned else ()
    files = Counter(name for name, _ in {(one.name, one.place.path) for one in defining})
    for one in defining:
        flat, place = one.name.lower().replace("_", ""), one.place
        file = file_stem(place.path).replace("_", "").replace("-", "")
        same = file in {flat, one.name.lower()} or file.rstrip("s") == flat
        if one.name in mentioned:
            if not same or one.kind not in TYPES:
                continue
            amount = DEFINITION_MENTIONED
        elif not whole and (files[one.name] > MANY_FILES or (place not in found and not same)):
            continue
        else:
            amount = DEFINITION_SYMBOL if whole else DEFINITION_EMBEDDED
        amount *= top * (STEM_FACTOR if same else 1.0) * (1.0 if one.kind in MAJOR_KINDS else MINOR_KIND)
        best[place] = max(best.get(place, 0.0), amount)
    for place, amount in best.items():
        found.setdefault(place, Ranked(place)).reward("defines the name", amount)


def _reward_names(words: Sequence[str], found: Mapping[ChunkPlace, Ranked], top: float) -> None:
    """Files, folders and definitions whose names have the query's words rise."""
    wanted = {stem(word) for word in words if len(word) > 2}
    if not wanted:
        return
    alike = _Alike(wanted)
    by_path: dict[str, tuple[float, float]] = {}
    for one in found.values():
        path = one.place.path
        if path not in by_path:
            above, _, name = path.rpartition("/")
            folder = len(wanted & _stems(above.rpartition("/")[2])) / len(wanted)
            parts = _stems(splitext(name)[0])
            by_path[path] = FILE_NAME * alike.said_in(parts) + NAMED_WHOLE * alike.said_of(parts), folder
        one.reward("file name", top * by_path[path][0])
        one.reward("folder", FOLDER * top * by_path[path][1])
        if one.place.symbol:
            one.reward("defined name", DEFINES * top * alike.said_in(_stems(one.place.symbol)))


def _reward_neighbours(
    found: Mapping[ChunkPlace, Ranked], top: float, imported: Callable[[str], Iterable[str]]
) -> None:
    """Files that the best ones import rise a little."""
    best: dict[str, float] = {}
    for one in found.values():
        best[one.place.path] = max(one.score, best.get(one.place.path, 0.0))
    sums: dict[str, float] = defaultdict(float)
    for path in sorted(best, key=lambda path: (-best[path], path))[:IMPORTERS]:
        for other in imported(path):
            if other in best and other != path:
                sums[other] += best[path]
    most = max(sums.values(), default=0.0)
    for one in found.values():
        if most:
            one.reward("imported by others", NEIGHBOUR * top * sums.get(one.place.path, 0.0) / most)


@lru_cache(maxsize=10_000)
def _stems(name: str) -> frozenset[str]:
    return frozenset(stem(word) for word in tokens(name))


class _Alike(dict[str, int]):
    """Which of a query's words are in names, begin a word of them, or are begun by one: for each word of a name met so
    far a bit for each word of the query."""

    def __init__(self, wanted: Set[str]) -> None:
        super().__init__()
        self._wanted = sorted(wanted)

    def __missing__(self, part: str) -> int:
        near = 0
        for at, word in enumerate(self._wanted):
            begins = part.startswith(word) or word.startswith(part)
            if part == word or (begins and len(part) > 2 < len(word)):
                near |= 1 << at
        self[part] = near
        return near

    def said_in(self, parts: Set[str]) -> float:
        """The share of the query's words that a name has."""
        near = 0
        for part in parts:
            near |= self[part]
        return near.bit_count() / len(self._wanted)

    def said_of(self, parts: Set[str]) -> float:
        """The share of a name's words that the query has."""
        return sum(1 for part in parts if self[part]) / len(parts) if parts else 0.0
