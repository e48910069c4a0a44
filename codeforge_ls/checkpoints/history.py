"""Checkpoints as commits: write one, read one back, list them all."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from codeforge_ls.checkpoints.capture import Picture
from codeforge_ls.checkpoints.meta import META, MODES, Meta, decode_modes, encode_modes
from codeforge_ls.checkpoints.names import REFS, quoted, stream_ref, unquoted
from codeforge_ls.checkpoints.shadow import EMPTY_TREE, Contents, Shadow
from codeforge_ls.checkpoints.units import Unit
from codeforge_ls.checkpoints.writing import Writer
from codeforge_ls.git import GitFailed
from codeforge_ls.model.base import new_id
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind, SkippedPath
from codeforge_ls.model.errors import NotFound, Unavailable

log = logging.getLogger(__name__)

MAX_LABEL = 500
LEAST_SECONDS = 0.001  # between two checkpoints


@dataclass(frozen=True)
class Purpose:
    """Why a checkpoint is taken and for whom."""

    stream: str
    label: str
    kind: CheckpointKind
    call_id: str | None = None


@dataclass(frozen=True)
class Stored:
    """A checkpoint as it lies in the shadow repository: its record and the names of its parts."""

    commit: str
    meta: Meta
    units: dict[bytes, str]
    modes: dict[bytes, int]

    def looked_at(self) -> frozenset[bytes] | None:
        """The only paths that were looked at for it; None: all were."""
        listed = self.meta.looked_at
        return None if listed is None else frozenset(map(unquoted, listed))


def record(
    shadow: Shadow,
    writing: Writer,
    root: bytes,
    picture: Picture,
    purpose: Purpose,
    outside: Collection[SkippedPath] = (),
) -> Checkpoint:
    """Commit a picture to its stream; stored once ``writing`` has finished."""
    head, branch = Unit(shadow, root, b"").user_head()
    names = sorted(picture.units)
    looked_at = picture.looked_at
    meta = Meta(
        id=new_id("checkpoint"),
        stream=purpose.stream,
        label=purpose.label.encode("utf-8", "backslashreplace").decode()[:MAX_LABEL],
        kind=purpose.kind,
        call_id=purpose.call_id,
        created_at=_next_moment(shadow),
        head=head,
        branch=branch,
        units=tuple(quoted(name) for name in names),
        skipped=tuple(sorted([*picture.skipped, *outside], key=lambda entry: entry.path)),
        by_force=tuple(sorted(map(quoted, picture.by_force))),
        looked_at=None if looked_at is None else tuple(sorted(map(quoted, looked_at))),
        too_much=picture.too_much,
    )
    trees = {f"u{number}": picture.units[name] for number, name in enumerate(names)}
    files = {META: meta.model_dump_json().encode(), MODES: encode_modes(picture.modes)}
    message = f"codeforge-checkpoint: {purpose.call_id or meta.kind}"
    reference = stream_ref(purpose.stream)
    commit = writing.commit(reference, shadow.tip(reference), trees, files, message)
    return meta.checkpoint(commit)


def _next_moment(shadow: Shadow) -> float:
    """Now, or just after the newest checkpoint where the clock was set back: times must tell their order."""
    file = shadow.own / "newest"
    try:
        newest = float(file.read_text("ascii"))
    except (OSError, ValueError):
        newest = 0.0
    moment = max(time.time(), newest + LEAST_SECONDS)
    partial = file.with_suffix(".new")
    partial.write_text(repr(moment), "ascii")
    partial.replace(file)
    return moment


def load(contents: Contents, commit: str) -> Stored:
    """Read a checkpoint. Raises NotFound when it is no longer stored, Unavailable when it cannot be read."""
    entries = contents.folder(commit)
    if META not in entries or MODES not in entries:
        raise NotFound(f"The commit {commit[:12]} is not a checkpoint.")
    meta = Meta.parse(contents.read(entries[META]))
    units = {unquoted(name): entries.get(f"u{number}", EMPTY_TREE) for number, name in enumerate(meta.units)}
    return Stored(commit, meta, units, decode_modes(contents.read(entries[MODES])))


def known(shadow: Shadow) -> list[Checkpoint]:
    """Every checkpoint that is stored, oldest first. Unreadable ones are logged and left out."""
    return [meta.checkpoint(commit) for commit, meta in _records(shadow)]


def first_forced(shadow: Shadow, contents: Contents, paths: Collection[bytes]) -> dict[bytes, Stored]:
    """Of paths that came along by force: the oldest checkpoint they came along with."""
    wanted = {quoted(path): path for path in paths}
    found: dict[bytes, str] = {}
    for commit, meta in _records(shadow):
        for name in wanted.keys() & set(meta.by_force):
            found.setdefault(wanted[name], commit)
    return {path: load(contents, commit) for path, commit in found.items()}


def _records(shadow: Shadow) -> list[tuple[str, Meta]]:
    """Commit and record of every checkpoint, oldest first."""
    commits = shadow.git("rev-list", f"--glob={REFS}*").decode().split()
    found = []
    with shadow.contents() as contents:
        for commit in commits:
            try:
                found.append((commit, Meta.parse(contents.read(f"{commit}:{META}"))))
            except (NotFound, Unavailable) as error:
                log.warning("The checkpoint %s is left out: %s", commit[:12], error.message)
    return sorted(found, key=lambda one: one[1].created_at)


def read(shadow: Shadow, commit: str, path: bytes) -> bytes:
    """The bytes of one file (or the target of a link) in a checkpoint. Raises NotFound when it holds none."""
    with shadow.contents() as contents:
        stored = load(contents, commit)
    for tree, relative in trees_above(stored, path):
        with contextlib.suppress(GitFailed):
            return shadow.git("cat-file", "blob", f"{tree}:{relative}")
    raise NotFound("The checkpoint holds no such file.", data={"commit": commit})


def trees_above(stored: Stored, path: bytes) -> Iterator[tuple[str, str]]:
    """The unit trees that may hold a path, the innermost first, and its name in each."""
    owners = [name for name in stored.units if not name or path.startswith(name + b"/")]
    for name in sorted(owners, key=len, reverse=True):
        relative = path[len(name) + 1 :] if name else path
        yield stored.units[name], relative.decode("utf-8", "surrogateescape")
