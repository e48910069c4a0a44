"""What a sandbox has to hide from a command and to keep as it is: a command can read anything that is mounted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from codeforge_ls.model.policy import Decision, PolicyLayer
from codeforge_ls.policy.evaluate import Evaluator
from codeforge_ls.policy.globs import matches_any_folded
from codeforge_ls.policy.guard import Access, protected
from codeforge_ls.policy.rules import ANY_TOOL

_SKIPPED = frozenset({".git", "node_modules", "__pycache__", ".tox", ".mypy_cache"})
_MAX_ENTRIES = 200_000


class Shielded(NamedTuple):
    """Existing files and folders (which are not entered further): ``hidden`` to be masked, ``fixed`` read-only."""

    hidden: tuple[Path, ...]
    fixed: tuple[Path, ...]


def shielded(root: Path, layers: Sequence[PolicyLayer] = ()) -> Shielded:
    """What a command below ``root`` must not see or change: secrets, what a rule closes to reading, rc files.

    Walks the tree (blocking; call it in a thread), at most 200,000 entries; links to other places are not followed, and
    ``.git`` is not entered: the sandbox itself knows what to pin there.
    """
    extra = [glob for layer in layers for glob in layer.profile.protected_paths]
    closed = list(_closed_to_reading(layers))
    evaluator = Evaluator(layers, root)

    def must_be_hidden(path: str) -> bool:
        if protected(path, Access.NAME, extra):
            return True
        return matches_any_folded(closed, path) and evaluator.of_path("Read", path) is Decision.DENY

    hidden: list[Path] = []
    fixed: list[Path] = []
    stack, seen = [str(root)], 0
    while stack and seen < _MAX_ENTRIES:
        try:
            entries = list(os.scandir(stack.pop()))
        except OSError:
            continue
        seen += len(entries)
        for entry in entries:
            if entry.is_symlink() or entry.name in _SKIPPED:
                continue
            path = os.path.relpath(entry.path, root)
            if must_be_hidden(path):
                hidden.append(Path(entry.path))
            elif protected(path, Access.READ):
                fixed.append(Path(entry.path))
            elif entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
    return Shielded(tuple(hidden), tuple(fixed))


def _closed_to_reading(layers: Sequence[PolicyLayer]) -> Iterator[str]:
    """The globs of rules that refuse a read; which of them hold, the evaluator says."""
    for layer in layers:
        for rule in layer.profile.rules:
            if rule.decision is Decision.DENY and rule.specifier.tool in ("Read", ANY_TOOL):
                yield from rule.path_allow
