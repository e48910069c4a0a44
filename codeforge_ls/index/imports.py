"""From the text of an import to files of the workspace, by the tail of their paths. No language's own resolver."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from posixpath import normpath, splitext

MANY_FILES = 8  # an import that fits more files than this is not resolved
INDEX_STEMS = {"__init__", "index", "mod", "lib", "main"}
SEPARATORS = re.compile(r"::|[./\\:]+")


class ImportResolver:
    """Knows the paths of all files by number; ``resolve`` gives numbers."""

    NOTHING, DEPENDS = -1, -2

    def __init__(self, paths: Iterable[tuple[int, str]]) -> None:
        self._tails: dict[str, list[int]] = defaultdict(list)
        self._keys: dict[int, tuple[str, ...]] = {}
        self._exact: dict[str, int] = {}
        self._names: Counter[str] = Counter()
        self._absolute: dict[str, list[int]] = {}
        for at, path in paths:
            self.add(at, path)

    def add(self, at: int, path: str) -> None:
        """One more file."""
        self._exact[path] = at
        self._names[path.rpartition("/")[2]] += 1
        self._keys[at] = key = path_key(path)
        self._tails[key[-1]].append(at)
        self._absolute.clear()

    def remove(self, at: int, path: str) -> None:
        """One file less."""
        del self._exact[path]
        self._names[path.rpartition("/")[2]] -= 1
        self._tails[self._keys.pop(at)[-1]].remove(at)
        self._absolute.clear()

    def resolve(self, importer: str, module: str) -> list[int]:
        """The files an import means, ascending; empty when it is foreign or not clear."""
        folder = importer.rpartition("/")[0]
        if self._names[module.rpartition("/")[2]]:
            near = self._exact.get(normpath(f"{folder}/{module}".lstrip("/")))
            if near is not None:
                return [near]
        if module.startswith("."):
            return self._closest(folder, self._fitting(module_parts(folder, module)))
        found = self._absolute.get(module)
        if found is None:
            found = self._absolute[module] = self._fitting(module_parts("", module))
        return self._closest(folder, found)

    def everywhere(self, module: str) -> int:
        """The one file that an import means in every file; ``NOTHING``; or ``DEPENDS``: on who imports."""
        if module.startswith(".") or self._names[module.rpartition("/")[2]]:
            return self.DEPENDS
        found = self._absolute[module] = self._fitting(module_parts("", module))
        return self.DEPENDS if len(found) > 1 else found[0] if found else self.NOTHING

    def _fitting(self, parts: tuple[str, ...]) -> list[int]:
        """The files whose paths end with these parts."""
        # The last part may be a name inside the module, so one part may be left off.
        for wanted in (parts, parts[:-1]):
            if wanted and (len(wanted) > 1 or wanted == parts):
                found = [at for at in self._tails.get(wanted[-1], ()) if _ends_with(self._keys[at], wanted)]
                if found:
                    return found
        return []

    def _closest(self, folder: str, found: list[int]) -> list[int]:
        """Of several files that fit, those that share the longest path with the importer."""
        if len(found) < 2:
            return found
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
        return sorted(best) if len(best) <= MANY_FILES else []


def path_key(path: str) -> tuple[str, ...]:
    """What an import must end with to mean a file: its folders and stem, or only the folders of an ``index`` file."""
    *folders, name = path.split("/")
    stem = splitext(name)[0]
    return (*folders,) if stem in INDEX_STEMS and folders else (*folders, stem)


def module_parts(folder: str, module: str) -> tuple[str, ...]:
    """The parts of an import as they stand in a path; relative ones from the importer's folder on."""
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


def mentions(folder: str, module: str) -> set[str]:
    """What an import in a file of a folder may be about; a path of ``meant_by`` that is not in it changes nothing."""
    return {normpath(f"{folder}/{module}".lstrip("/")), *module_parts(folder, module)[-2:]}


def meant_by(path: str) -> tuple[str, str]:
    """What an import mentions whose answer can change when ``path`` comes or goes: the whole, or its last part."""
    return path, path_key(path)[-1]


def _ends_with(key: tuple[str, ...], tail: tuple[str, ...]) -> bool:
    return key[-len(tail) :] == tail
