"""The embedding model of the scripted server: words of a text as numbers, with words that it takes for the same."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping

from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput

WORD = re.compile(r"[A-Za-z]{2,}")


class ScriptedEmbeddings:
    """``same`` maps a word to the one it is taken for. ``failing`` is the status that every call is answered with."""

    def __init__(self, same: Mapping[str, str] | None = None, dimensions: int = 512) -> None:
        self.same, self.dimensions = dict(same or {}), dimensions
        self.failing: int | None = None

    def answer(self, body: JsonObject) -> JsonObject:
        """The body of the answer. Raises ``InvalidInput`` for what is no request for embeddings."""
        wanted = body.get("input")
        texts = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InvalidInput("input must be a text or a list of texts")
        rows: list[JsonValue] = [
            {"object": "embedding", "index": at, "embedding": [*self.vector(str(text))]}
            for at, text in enumerate(texts)
        ]
        count = sum(len(str(text)) for text in texts) // 4
        usage: JsonObject = {"prompt_tokens": count, "total_tokens": count}
        return {"object": "list", "model": body.get("model"), "data": rows, "usage": usage}

    def vector(self, text: str) -> list[float]:
        """A vector of length 1; all zeros but the first number for a text without words."""
        vector = [1e-3] + [0.0] * (self.dimensions - 1)
        for found in WORD.findall(text):
            word = found.lower()
            digest = hashlib.blake2b(self.same.get(word, word).encode(), digest_size=4).digest()
            vector[1 + int.from_bytes(digest) % (self.dimensions - 1)] += 1.0
        length = math.sqrt(sum(value * value for value in vector))
        return [round(value / length, 6) for value in vector]
