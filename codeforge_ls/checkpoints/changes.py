"""The difference of two checkpoints, path by path over all units, as states to leave and states to reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from codeforge_ls.checkpoints.history import Stored, trees_above
from codeforge_ls.checkpoints.meta import standard_bits
from codeforge_ls.checkpoints.names import joined, shown, unquoted
from codeforge_ls.checkpoints.placing import ABSENT, ABSENT_MODE, FileState, bits_for
from codeforge_ls.checkpoints.shadow import EMPTY_TREE, Shadow
from codeforge_ls.model.actions import FileChange

MAX_DIFF_BYTES = 4 << 20


@dataclass(frozen=True)
class Change:
    """One path: what it is ``now`` and what it was ``then``. Equal objects mean that only permission bits differ."""

    path: bytes
    now: FileState
    then: FileState


def changes(shadow: Shadow, now: Stored, then: Stored) -> list[Change]:
    """What must happen to get from ``now`` to ``then``. Paths that either of them skipped are never in it."""
    now_bits, then_bits = now.modes, then.modes
    found: dict[bytes, Change] = {}
    for unit, before, after in _unit_trees(now, then):
        for path, (old, new) in _raw_differences(shadow, before, after):
            full = joined(unit, path)
            change = Change(full, _with_bits(old, now_bits.get(full)), _with_bits(new, then_bits.get(full)))
            found[full] = _merged(found[full], change) if full in found else change
    for path in now_bits.keys() | then_bits.keys():
        bits = now_bits.get(path), then_bits.get(path)
        if path not in found and bits[0] != bits[1]:
            found[path] = _bits_change(path, *bits)
    skipped = {unquoted(entry.path) for stored in (now, then) for entry in stored.meta.skipped}
    return [
        change for path, change in sorted(found.items()) if path not in skipped and change.now != change.then
    ]


def state_in(shadow: Shadow, stored: Stored, path: bytes) -> FileState:
    """What a path is in a checkpoint."""
    for tree, name in trees_above(stored, path):
        for row in shadow.git("ls-tree", "-z", "--full-tree", tree, "--", name).split(b"\0")[:-1]:
            fields, found = row.split(b"\t", 1)
            mode, kind, blob = fields.decode().split()
            if kind == "blob" and os.fsdecode(found) == name:
                return _with_bits(FileState(mode, blob), stored.modes.get(path))
    return ABSENT


def _unit_trees(now: Stored, then: Stored) -> Iterator[tuple[bytes, str, str]]:
    for unit in sorted(now.units.keys() | then.units.keys()):
        before, after = now.units.get(unit, EMPTY_TREE), then.units.get(unit, EMPTY_TREE)
        if before != after:
            yield unit, before, after


def _raw_differences(
    shadow: Shadow, before: str, after: str
) -> Iterator[tuple[bytes, tuple[FileState, FileState]]]:
    listed = shadow.git("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", before, after)
    fields = listed.split(b"\0")[:-1]
    for summary, path in zip(fields[0::2], fields[1::2], strict=True):
        old_mode, new_mode, old_name, new_name, _ = summary[1:].decode().split(" ")
        yield path, (FileState(old_mode, old_name), FileState(new_mode, new_name))


def _with_bits(state: FileState, odd: int | None) -> FileState:
    if state.absent:
        return ABSENT
    return state if state.link else FileState(state.mode, state.name, bits_for(state.mode, odd))


def _merged(first: Change, second: Change) -> Change:
    # A folder that became a repository of its own (or stopped being one) is gone here and new there.
    now = second.now if first.now.mode == ABSENT_MODE else first.now
    then = second.then if first.then.mode == ABSENT_MODE else first.then
    return Change(first.path, now, then)


def _bits_change(path: bytes, now: int | None, then: int | None) -> Change:
    standard = standard_bits(bool((now or then or 0) & 0o100))
    mode = "100755" if standard == 0o755 else "100644"
    return Change(
        path,
        FileState(mode, "", standard if now is None else now),
        FileState(mode, "", standard if then is None else then),
    )


def changed_paths(
    shadow: Shadow,
    before: dict[bytes, str],
    after: dict[bytes, str],
    modes: tuple[dict[bytes, int], dict[bytes, int]],
) -> list[FileChange]:
    """The files that differ between two sets of unit trees, by path; ``modes`` are the odd permission bits of both."""
    found: list[FileChange] = []
    for unit in sorted(before.keys() | after.keys()):
        old_tree, new_tree = before.get(unit, EMPTY_TREE), after.get(unit, EMPTY_TREE)
        if old_tree == new_tree:
            continue
        for path, (old, new) in _raw_differences(shadow, old_tree, new_tree):
            change = "created" if old.absent else "deleted" if new.absent else "modified"
            found.append(FileChange(path=shown(joined(unit, path)), change=change))
    known = {change.path for change in found}
    odd = {path for path in modes[0].keys() | modes[1].keys() if modes[0].get(path) != modes[1].get(path)}
    found += [FileChange(path=shown(p), change="modified") for p in sorted(odd) if shown(p) not in known]
    return found


def unified_diff(shadow: Shadow, old: dict[bytes, str], new: dict[bytes, str]) -> str:
    """A unified diff of two sets of unit trees, cut at 4 MiB with a last line that says so."""
    parts: list[bytes] = []
    left = MAX_DIFF_BYTES
    for unit in sorted(old.keys() | new.keys()):
        before, after = old.get(unit, EMPTY_TREE), new.get(unit, EMPTY_TREE)
        if before == after or left <= 0:
            continue
        folder = shown(unit) + "/" if unit else ""
        prefixes = [f"--src-prefix=a/{folder}", f"--dst-prefix=b/{folder}"]
        with shadow.process("diff-tree", "-r", "-p", *prefixes, before, after) as process:
            output = process.stdout.read(left + 1) if process.stdout else b""
        shadow.cancellation.check()
        parts.append(output[:left])
        left -= len(output)
    text = b"".join(parts).decode("utf-8", "replace")
    return text if left >= 0 else f"{text}\n... the diff is longer than 4 MiB and was cut\n"
