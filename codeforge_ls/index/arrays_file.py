"""Named numpy arrays and texts in one file that readers map: written beside its place, then renamed."""

from __future__ import annotations

import json
import mmap
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"codeforge arrays 1\n"
ALIGNMENT = 16

Array = npt.NDArray[Any]


class BadArrays(Exception):
    """The file is missing, cut off, or not one of ours."""


def write_arrays(path: Path, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
    """Write all, so that ``path`` is either the old file or the whole new one."""
    entries: dict[str, tuple[str, int, int]] = {}
    position = 0
    for name, array in arrays.items():
        entries[name] = (array.dtype.str, len(array), position)
        position += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    header = json.dumps({"meta": dict(meta), "arrays": entries, "bytes": position}).encode()
    start = len(MAGIC) + 8 + len(header)
    padding = -start % ALIGNMENT
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(MAGIC + (len(header) + padding).to_bytes(8, "little") + header + b" " * padding)
        for array in arrays.values():
            raw = np.ascontiguousarray(array).tobytes()
            file.write(raw + bytes(-len(raw) % ALIGNMENT))
    partial.rename(path)


def map_arrays(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays, read only and mapped, and what else was noted. Raises ``BadArrays``."""
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = len(MAGIC) + 8
        size = int.from_bytes(mapped[len(MAGIC) : start], "little")
        if mapped[: len(MAGIC)] != MAGIC or start + size > len(mapped):
            raise BadArrays(f"{path} is not a file of arrays")
        header = json.loads(mapped[start : start + size])
        if len(mapped) != start + size + header["bytes"]:
            raise BadArrays(f"{path} is cut off")
        arrays = {
            name: np.frombuffer(mapped, np.dtype(kind), count, start + size + offset)
            for name, (kind, count, offset) in header["arrays"].items()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadArrays(f"{path}: {error}") from error
    return arrays, header["meta"]


class Texts:
    """Many texts in two arrays, so that they cost no object each and can be mapped: UTF-8 bytes, and the offsets
    between which each lies, ``len(texts) + 1`` of them."""

    def __init__(self, raw: Array, offsets: Array) -> None:
        self.raw, self.offsets = raw, offsets
        # numpy arrays are buffers; views give plain bytes and numbers, which cost a third.
        self._view, self._ends = memoryview(raw), memoryview(offsets)  # type: ignore[arg-type]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Pack them."""
        raw = [text.encode("utf-8", "surrogatepass") for text in texts]
        offsets = np.zeros(len(raw) + 1, np.int64)
        np.cumsum([len(one) for one in raw], out=offsets[1:])
        return cls(np.frombuffer(b"".join(raw), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, at: int) -> str:
        return self.bytes_of(at).decode("utf-8", "surrogatepass")

    def bytes_of(self, at: int) -> bytes:
        """One text as bytes."""
        return self._view[self._ends[at] : self._ends[at + 1]].tobytes()

    def __iter__(self) -> Iterator[str]:
        return (text.decode("utf-8", "surrogatepass") for text in self.every())

    def every(self) -> Iterator[bytes]:
        """All of them as bytes, in order: five times as fast as one by one."""
        raw, offsets = self.raw.tobytes(), self.offsets.tolist()
        return (raw[start:end] for start, end in pairwise(offsets))

    def find(self, text: str, first: int = 0, last: int | None = None) -> int:
        """The position of a text, -1 when it is not there; in ``[first, last)`` they are sorted by their bytes."""
        wanted = text.encode("utf-8", "surrogatepass")
        end = len(self) if last is None else last
        low = bisect_left(range(end), wanted, first, key=self.bytes_of)
        return low if low < end and self.bytes_of(low) == wanted else -1
