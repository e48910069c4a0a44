"""The shipped table of word vectors: what a word of code means, in 256 numbers, with no model at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.tokens import MAX_CACHED, stem

FOLDER = Path(__file__).with_name("vectors")
WORDS, VECTORS, RARITY = "words.txt", "vectors.npy", "rarity.npy"

Floats = npt.NDArray[np.float32]


class WordVectors:
    """``vectors``: int8 of shape (words, dimensions), mapped from disk; a row's length says how much the word means.

    Dimensions are in the order of their variance, so that the first ones alone tell most. ``rarity`` says of each word
    how rare it is in code at large: 1 for one that is in no chunk, 0 for one in all.
    """

    def __init__(self, words: Sequence[str], vectors: npt.NDArray[np.int8], rarity: Floats) -> None:
        self._rows = {word: at for at, word in enumerate(words)}
        self._known: dict[str, int] = {}
        self.vectors = vectors
        self.rarity = rarity
        self.dimensions = int(vectors.shape[1])

    @classmethod
    def read(cls, folder: Path = FOLDER) -> Self:
        """Map the table. Raises ``OSError`` or ``ValueError`` when the package is incomplete."""
        words = (folder / WORDS).read_text(encoding="utf-8").split("\n")
        vectors = np.load(folder / VECTORS, mmap_mode="r")
        if vectors.dtype != np.int8 or vectors.ndim != 2 or len(vectors) != len(words):
            raise ValueError(f"{folder} does not hold a table of word vectors")
        rarity = np.load(folder / RARITY)
        if rarity.dtype != np.uint8 or rarity.shape != (len(words),):
            raise ValueError(f"{folder} does not hold the rarity of each word")
        return cls(words, vectors, rarity.astype(np.float32) / 255)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, word: str) -> int:
        """The row of a word or else of its stem; -1 when neither is known."""
        known = self._known.get(word)
        if known is None:
            known = self._rows.get(word, -1)
            if known < 0:
                known = self._rows.get(stem(word), -1)
            if len(self._known) > MAX_CACHED:
                self._known.clear()
            self._known[word] = known
        return known

    def mean(self, weights: Mapping[int, float]) -> Floats:
        """The weighted sum of rows, of length 1; all zeros when there are none."""
        if not weights:
            return np.zeros(self.dimensions, np.float32)
        rows = np.fromiter(weights.keys(), np.int64, len(weights))
        factors = np.fromiter(weights.values(), np.float32, len(weights))
        total: Floats = factors @ self.vectors[rows].astype(np.float32)
        length = float(np.linalg.norm(total))
        return total / length if length else total


@cache
def shipped() -> WordVectors:
    """The table that comes with the package."""
    return WordVectors.read()
