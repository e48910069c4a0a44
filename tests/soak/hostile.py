"""Hostile values from a seeded generator: text, JSON, JSON made after a schema, and broken copies of bytes."""

from __future__ import annotations

import random
from typing import Any

TEXTS = (
    "", " ", "a", "work/a.py", "../x", "/etc/passwd", "~", ".git/config", "a\0b", "\ud800", "\U0001f600" * 3,
    "\u202e\u200b", "x" * 5000, "%2e%2e/x", "file:///etc/passwd", "file://\0", "untitled:1", "-rf", "*", "**/*",
    "[", "{", "(?P<", "'; DROP TABLE runs; --", "${HOME}", "$(touch x)", "run-1", "latest", "null", "\r\n", "\n",
    "C:\\x", "\x1b[31m", "NaN", "é", "e\u0301", "\ufeff", ".", "work", "a/" * 2000, "def main",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 10, 50, 1e308, -1e-9, 0.5, 2**31, 2**53, 2**63, -(2**63), 2**64, 10**40)
TOKENS = (
    b"Content-Length: 10\r\n\r\n", b"\r\n", b"\n", b"\0", b"\xff\xfe", b"{", b"}", b'"', b"[" * 50, b"\\u0000",
    b'"id":1', b'"jsonrpc":"1.0"', b"null", b"-0", b"1e999", b"\\ud800", b"\xef\xbb\xbf", b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 0\r\n\r\n", b"content-length:7\n\n", b"Content-Type: x\r\n",
)  # fmt: skip


class Hostile:
    """One seeded source of values."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def text(self) -> str:
        """A text, often a nasty one."""
        if self.rng.random() < 0.7:
            return self.rng.choice(TEXTS)
        return "".join(chr(self._point()) for _ in range(self.rng.randint(0, 30)))

    def _point(self) -> int:
        low, high = self.rng.choice(
            ((0, 0x7F), (0x80, 0x2FF), (0x2000, 0x206F), (0xD7F0, 0xE010), (0x10000, 0x10FFFF))
        )
        return self.rng.randint(low, high)

    def json(self, depth: int = 3) -> Any:
        """Any JSON value."""
        kind = self.rng.randrange(8 if depth else 5)
        if kind == 0:
            return self.rng.choice((None, True, False))
        if kind == 1:
            return self.rng.choice(NUMBERS)
        if kind < 5:
            return self.text()
        if kind < 7:
            return {self.text(): self.json(depth - 1) for _ in range(self.rng.randint(0, 4))}
        return [self.json(depth - 1) for _ in range(self.rng.randint(0, 4))]

    def fitting(self, schema: dict[str, Any], root: dict[str, Any] | None = None, depth: int = 4) -> Any:
        """A value made after a JSON schema; now and then something else in its place."""
        root = root or schema
        if depth == 0 or self.rng.random() < 0.06:
            return self.json(2)
        if "$ref" in schema:
            return self.fitting(root["$defs"][schema["$ref"].rpartition("/")[2]], root, depth)
        if "anyOf" in schema:
            return self.fitting(self.rng.choice(schema["anyOf"]), root, depth)
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        if "const" in schema:
            return schema["const"]
        return self._of_type(schema, root, depth)

    def _of_type(self, schema: dict[str, Any], root: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if kind == "object":
            required = schema.get("required", ())
            return {
                name: self.fitting(part, root, depth - 1)
                for name, part in schema.get("properties", {}).items()
                if name in required or self.rng.random() < 0.5
            } | ({self.text(): self.json(1)} if self.rng.random() < 0.03 else {})
        if kind == "array":
            return [
                self.fitting(schema.get("items", {}), root, depth - 1) for _ in range(self.rng.randint(0, 3))
            ]
        if kind == "string":
            return self.text()
        if kind in ("integer", "number"):
            low, high = schema.get("minimum", 0), schema.get("maximum", 100)
            return self.rng.choice(
                (low, high, low - 1, high + 1, self.rng.randint(int(low), int(max(low, high))))
            )
        return self.rng.choice((True, False, None))

    def broken(self, data: bytes) -> bytes:
        """The bytes with a few faults: cut, flipped, doubled, with something put in or taken out."""
        for _ in range(self.rng.randint(1, 4)):
            place = self.rng.randint(0, len(data))
            far = min(len(data), place + self.rng.randint(0, 40))
            kind = self.rng.randrange(6)
            if kind == 0:
                data = data[:place]
            elif kind == 1:
                data = data[:place] + bytes([self.rng.randrange(256)]) + data[place + 1 :]
            elif kind == 2:
                data = data[:place] + self.rng.choice(TOKENS) + data[place:]
            elif kind == 3:
                data = data[:place] + data[far:]
            elif kind == 4:
                data = data[:far] + data[place:far] + data[far:]
            else:
                data = data[:place] + self.rng.randbytes(far - place) + data[far:]
        return data
