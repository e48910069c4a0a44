"""What the names of many files are made of, turned round: from a word, or a name, to the files that have it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.path_rules import path_weight
from codeforge_ls.index.tokens import stem, tokens

Ints = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]


class FileNames:
    """Files by number, in the order of ``paths``. Words are stems (``tokens.stem``).

    ``words`` and ``parts`` are how many different words the name of each file has, with and without the name as a
    whole; ``weights`` what its path makes a hit in it worth (``path_rules.path_weight``).
    """

    def __init__(self, paths: Sequence[str]) -> None:
        with_word, with_part = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
        self._called = defaultdict[str, list[int]](list)
        words, parts, weights = list[int](), list[int](), list[float]()
        for at, path in enumerate(paths):
            name = bare_name(path)
            whole, *rest = map(stem, tokens(name) or [name])
            for one, found in (({whole, *rest}, with_word), ({*rest}, with_part)):
                for word in one:
                    found[word].append(at)
            words.append(len({whole, *rest}))
            parts.append(len({*rest}))
            weights.append(path_weight(path))
            self._called[as_called(name)].append(at)
        self.words, self.parts = np.array(words, np.int64), np.array(parts, np.int64)
        self.weights = np.array(weights, np.float64)
        self._with_word, self._with_part = _packed(with_word), _packed(with_part)

    def __len__(self) -> int:
        return len(self.words)

    def words_among(self, wanted: Iterable[str]) -> Counts:
        """How many of these words each name has, itself as a whole included."""
        return self._among(self._with_word, wanted)

    def parts_among(self, wanted: Iterable[str]) -> Counts:
        """How many of these words each name has among its parts."""
        return self._among(self._with_part, wanted)

    def called(self, name: str) -> Sequence[int]:
        """The files with this name as ``as_called`` gives it."""
        return self._called.get(name, ())

    def _among(self, having: dict[str, Ints], wanted: Iterable[str]) -> Counts:
        counts = np.zeros(len(self), np.int64)
        for word in wanted:
            if (files := having.get(word)) is not None:
                counts[files] += 1
        return counts


def bare_name(path: str) -> str:
    """The name of a file without its last suffix: ``src/HttpClient.java`` -> ``HttpClient``."""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def as_called(name: str) -> str:
    """A name as it is compared: without case and underscores."""
    return name.lower().replace("_", "")


def _packed(files: dict[str, list[int]]) -> dict[str, Ints]:
    return {word: np.array(numbers, np.int32) for word, numbers in files.items()}
