"""From the text of an import to files of the workspace, by the tail of their paths. No language's own resolver."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from posixpath import normpath

MANY_FILES = 8  # an import that fits more files than this is not resolved
INDEX_STEMS = {"__init__", "index", "mod", "lib", "main"}
SEPARATORS = re.compile(r"::|[./\\:]+")


class ImportResolver:
    """Knows the paths of all files; ``resolve`` gives positions in that list."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._tails: dict[str, list[int]] = defaultdict(list)
        self._keys: list[tuple[str, ...]] = []
        self._exact = {path: at for at, path in enumerate(paths)}
        for at, path in enumerate(paths):
            name = PurePosixPath(path)
            parts = (*name.parent.parts, name.stem)
            if name.stem in INDEX_STEMS and len(parts) > 1:
                parts = parts[:-1]
            self._keys.append(parts)
            self._tails[parts[-1]].append(at)

    def resolve(self, importer: str, module: str) -> list[int]:
        """The files an import means; empty when it is foreign or not clear."""
        folder = importer.rpartition("/")[0]
        if (near := self._exact.get(normpath(f"{folder}/{module}".lstrip("/")))) is not None:
            return [near]
        parts = self._parts(folder, module)
        # The last part may be a name inside the module, so one part may be left off.
        for wanted in (parts, parts[:-1]):
            if wanted and (len(wanted) > 1 or wanted == parts):
                found = [at for at in self._tails.get(wanted[-1], ()) if _ends_with(self._keys[at], wanted)]
                if found:
                    return self._closest(folder, found)
        return []

    def _parts(self, folder: str, module: str) -> tuple[str, ...]:
        if module.startswith("."):
            dots = len(module) - len(module.lstrip("."))
            if "/" in module:
                joined = normpath(f"{folder}/{module}".lstrip("/"))
                return tuple(PurePosixPath(re.sub(r"\.[mc]?[jt]sx?$", "", joined)).parts)
            base = folder.split("/") if folder else []
            return (*base[: len(base) - dots + 1], *(part for part in module.lstrip(".").split(".") if part))
        module = re.sub(r"\.(h|hpp|hh|hxx|rb|zig|sh|bash|php|lua|[mc]?[jt]sx?)$", "", module)
        parts = [part for part in SEPARATORS.split(module) if part]
        return tuple(part for part in parts if part not in {"crate", "self", "super", "@"})

    def _closest(self, folder: str, found: list[int]) -> list[int]:
        """Of several files that fit, those that share the longest path with the importer."""
        here = folder.split("/")

        def shared(at: int) -> int:
            count = 0
            for one, other in zip(here, self._keys[at], strict=False):
                if one != other:
                    break
                count += 1
            return count

        most = max(map(shared, found))
        best = [at for at in found if shared(at) == most]
        return best if len(best) <= MANY_FILES else []


def _ends_with(key: tuple[str, ...], tail: tuple[str, ...]) -> bool:
    return key[-len(tail) :] == tail
