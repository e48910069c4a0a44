"""What the path of a file says of its worth: tests, examples, barrels and prose stand behind the rest."""

from __future__ import annotations

import re
from functools import lru_cache

NOISE = re.compile(
    r"(^|/)(tests?|testing|__tests__|spec|testdata|fixtures|examples?|_examples?|docs?_src|compat|_compat|legacy|vendor"
    r"|third_party|node_modules|bench|benches|benchmarks?|mocks?|__mocks__)(/|$)"
    r"|(^|/)(test_[^/]*|conftest)\.(py|c|cc|cpp|go|lua|rb|dart)$|(^|/)[^/]*_(tests?|benchmarks?|bench|mocks?)\.\w+$"
    r"|(^|/)[^/]*_spec\.(rb|lua)$"
    r"|\.(test|spec|bench)\.[mc]?[jt]sx?$|[a-z0-9](Tests?|Spec|Suite)\.(java|kt|swift|cs|php|scala)$"
)
BARREL = re.compile(r"(^|/)(__init__\.py|package-info\.java|index\.d\.ts)$|\.d\.ts$")
PROSE = re.compile(
    r"\.(md|rst|txt|json|ya?ml|toml|html|css|scss)$|(^|/)(docs?|changelog)(/|$)", re.IGNORECASE
)


def path_weight(path: str) -> float:
    """What a hit in this file is worth: tests and examples 0.3, barrels and prose 0.5, the rest 1."""
    weight = 1.0
    for _, factor in path_factors(path):
        weight *= factor
    return weight


def is_beside(path: str) -> bool:
    """Whether a file is a test, an example, prose or data: beside what a repository is about."""
    return bool(NOISE.search(path) or PROSE.search(path))


@lru_cache(maxsize=20_000)
def path_factors(path: str) -> tuple[tuple[str, float], ...]:
    """The factors of a path by rule."""
    rules = (("test or example", NOISE, 0.3), ("barrel or declarations", BARREL, 0.5), ("prose", PROSE, 0.5))
    return tuple((name, factor) for name, pattern, factor in rules if pattern.search(path))
