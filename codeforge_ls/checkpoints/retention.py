"""Keep the shadow repository small: drop old streams, drop the oldest above a quota, pack, prune."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.checkpoints.names import REFS
from codeforge_ls.checkpoints.shadow import EMPTY_TREE, NOW, Shadow
from codeforge_ls.checkpoints.stamps import Stamps
from codeforge_ls.git import GitFailed

MAX_PACKS = 50
OLD_INDEXES = "refs/codeforge-index/"  # of versions that had private indexes
YOUNG = (
    3600.0  # seconds; a stream younger than this may belong to a run at work and is never dropped for space
)
REPACK_TIMEOUT = 1800.0  # seconds


@dataclass(frozen=True)
class Stream:
    """One stream's reference, newest commit and its time (seconds since 1970)."""

    reference: str
    commit: str
    newest: float


def cleanup(shadow: Shadow, keep_days: float, quota_bytes: int, now: float) -> list[str]:
    """Drop whole streams by age and quota, then pack what is worth packing; returns the dropped references.

    Under the lock. ``now`` is in seconds since 1970. The newest stream and those of the last hour stay, whatever
    the quota says.
    """
    streams = _streams(shadow)
    dropped = [stream for stream in streams if stream.newest < now - keep_days * 86400]
    rest = [stream for stream in streams if stream not in dropped]
    dropped += _over_quota(shadow, rest, quota_bytes, now)
    if dropped:
        orders = [f"delete {stream.reference} {stream.commit}\n" for stream in dropped]
        shadow.git("update-ref", "--stdin", stdin="".join(orders).encode())
    if dropped or scattered(shadow.folder):
        _pack(shadow, now - keep_days * 86400)
    shadow.sweep()
    return [stream.reference for stream in dropped]


def _streams(shadow: Shadow) -> list[Stream]:
    layout = "--format=%(refname) %(objectname) %(committerdate:unix)"
    rows = (line.split(" ") for line in shadow.git("for-each-ref", layout, REFS).decode().splitlines())
    return sorted((Stream(row[0], row[1], float(row[2])) for row in rows), key=lambda stream: stream.newest)


def _over_quota(shadow: Shadow, streams: list[Stream], quota_bytes: int, now: float) -> list[Stream]:
    """The oldest streams whose own objects must go for the rest to fit."""
    excess = shadow.size() - quota_bytes
    dropped: list[Stream] = []
    for position, stream in enumerate(streams[:-1]):
        if excess <= 0 or stream.newest > now - YOUNG:
            break
        others = [other.commit for other in streams[position + 1 :]]
        used = shadow.git("rev-list", "--objects", "--disk-usage", stream.commit, "--not", *others)
        excess -= int(used)
        dropped.append(stream)
    return dropped


def scattered(folder: Path) -> bool:
    """Whether there are so many packs that joining the small ones pays."""
    return sum(1 for _ in folder.glob("objects/pack/*.pack")) > MAX_PACKS


def join_packs(shadow: Shadow) -> None:
    """Join small packs into one, so that each is at least twice the size of all smaller ones together: the large
    ones, which hold most, are not written again. Under the lock."""
    shadow.git("repack", "--geometric=2", "-d", "--quiet", timeout=REPACK_TIMEOUT)


def _pack(shadow: Shadow, oldest: float) -> None:
    """Write what is still referred to as one pack and let the rest go. A unit that nobody pictures any more is
    forgotten with its stamps."""
    for stamps in shadow.own.glob("stamps-*"):
        if stamps.stat().st_mtime < oldest:
            stamps.unlink()
    saved = list(shadow.own.glob("stamps-*"))
    kept = {NOW + file.name.removeprefix("stamps-") + part for file in saved for part in ("", "-saved")}
    known = shadow.git("for-each-ref", "--format=%(refname)", NOW, OLD_INDEXES).decode().split()
    orders = [f"delete {reference}\n" for reference in known if reference not in kept]
    if orders:
        shadow.git("update-ref", "--stdin", stdin="".join(orders).encode())
    for file in saved:
        # It may be older than the reference, which is that of the newest picture.
        tree = Stamps.load(file).tree
        try:
            if tree != EMPTY_TREE:
                shadow.git("update-ref", f"{NOW}{file.name.removeprefix('stamps-')}-saved", tree)
        except GitFailed:
            file.unlink()  # its tree is gone: the next snapshot reads everything
    shadow.git("repack", "-a", "-d", "--quiet", timeout=REPACK_TIMEOUT)
    shadow.git("prune", "--expire=now", timeout=REPACK_TIMEOUT)
