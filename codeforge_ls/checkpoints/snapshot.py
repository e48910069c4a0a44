"""A snapshot: one picture and, if it is to be kept, the checkpoint of it, written by one git process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from codeforge_ls.checkpoints import history
from codeforge_ls.checkpoints.capture import Capture, Picture, Progress, TooMuch
from codeforge_ls.checkpoints.history import Purpose
from codeforge_ls.checkpoints.importing import importer
from codeforge_ls.checkpoints.packing import Packer
from codeforge_ls.checkpoints.shadow import Shadow
from codeforge_ls.checkpoints.units import Cache
from codeforge_ls.checkpoints.writing import Writer
from codeforge_ls.git import GitFailed
from codeforge_ls.model.checkpoints import Checkpoint, SkippedPath

log = logging.getLogger(__name__)

MAX_KNOWN = 500  # paths; for more, looking at everything is not dearer


@dataclass
class Memory:
    """What one process knows from its last snapshot.

    ``last`` is the newest picture as long as nothing but ``noted`` can have changed since; ``named`` are the paths
    that were named to us by now. ``too_much`` says why the workspace is not pictured as a whole.
    """

    last: Picture | None = None
    noted: set[bytes] = field(default_factory=set)
    named: set[bytes] = field(default_factory=set)
    too_much: str = ""
    cache: Cache = field(default_factory=Cache)

    def expect(self, paths: Collection[bytes] | None) -> None:
        """These paths are about to change; None: anything is."""
        if paths is None:
            self.last = None
            return
        self.named.update(paths)
        self.noted.update(paths)


@dataclass
class Snapshots:
    """Takes snapshots of one workspace; every call under the lock. ``forced`` are all paths that were ever named."""

    shadow: Shadow
    root: bytes
    memory: Memory
    progress: Progress

    def whole(
        self, forced: Collection[bytes], purpose: Purpose | None = None, outside: Collection[SkippedPath] = ()
    ) -> tuple[Picture, Checkpoint | None]:
        """The whole workspace; where that is too much, the files that were ever named.

        A stat cache that git cannot follow is rebuilt once, by reading everything again. Raises GitFailed.
        """
        memory = self.memory
        memory.last, noted = None, set(memory.noted)
        try:
            taken = self._rebuilt(lambda capture: self._widest(capture, forced), purpose, outside)
        except TooMuch as much:
            log.warning("Checkpoints of %r hold only files that are named: there are %s.", self.root, much)
            memory.too_much = str(much)
            taken = self._rebuilt(lambda capture: self._widest(capture, forced), purpose, outside)
        memory.last = taken[0]
        memory.noted -= noted
        return taken

    def known(
        self, paths: Collection[bytes], forced: Collection[bytes], purpose: Purpose, outside: Collection[SkippedPath]
    ) -> tuple[Picture, Checkpoint | None]:  # fmt: skip
        """Only these paths and those that were seen to change since, if that is enough to know them all."""
        memory = self.memory
        noted = memory.noted - memory.named
        enough = memory.last is not None and not memory.too_much and not noted
        looked_at = {*paths, *memory.noted}
        if memory.last is None or not enough or len(looked_at) > MAX_KNOWN:
            return self.whole(forced, purpose, outside)
        before, seen, new = memory.last, set(memory.noted), looked_at - memory.named
        try:
            taken = self._taken(lambda capture: capture.known(before, looked_at, new), purpose, outside)
        except GitFailed as error:
            log.warning("Everything is read for a snapshot: %s", error.message)
            return self.whole(forced, purpose, outside)
        memory.last = taken[0]
        memory.noted -= seen
        return taken

    def _widest(self, capture: Capture, forced: Collection[bytes]) -> Picture:
        too_much = self.memory.too_much
        return capture.touched(forced, too_much) if too_much else capture.everything(forced)

    def _rebuilt(
        self, take: Callable[[Capture], Picture], purpose: Purpose | None, outside: Collection[SkippedPath]
    ) -> tuple[Picture, Checkpoint | None]:
        try:
            return self._taken(take, purpose, outside)
        except GitFailed as error:
            log.warning("The stat cache of the snapshots is rebuilt: %s", error.message)
        for leftover in (*self.shadow.own.glob("stamps-*"), *self.shadow.own.glob("user-*")):
            leftover.unlink(missing_ok=True)
        self.memory.cache = Cache()
        return self._taken(take, purpose, outside)

    def _taken(
        self, take: Callable[[Capture], Picture], purpose: Purpose | None, outside: Collection[SkippedPath]
    ) -> tuple[Picture, Checkpoint | None]:
        new = self.shadow.is_new()
        with contextlib.nullcontext(Packer(self.shadow)) if new else importer(self.shadow) as writing:
            capture = Capture(self.shadow, self.root, writing, self.memory.cache, self.progress)
            picture = take(capture)
            checkpoint = self._recorded(writing, picture, purpose, outside) if purpose else None
            writing.finish()
            capture.save()
        return picture, checkpoint

    def _recorded(
        self, writing: Writer, picture: Picture, purpose: Purpose, outside: Collection[SkippedPath]
    ) -> Checkpoint:
        return history.record(self.shadow, writing, self.root, picture, purpose, outside)


def remember(shadow: Shadow, more: Collection[bytes] = (), known: Collection[bytes] = ()) -> set[bytes]:
    """The ignored files that are snapshotted all the same, with ``more`` added to those ``known`` or in the file."""
    file, all_of_them = shadow.own / "forced", set(known)
    if not known:
        with contextlib.suppress(FileNotFoundError):
            all_of_them = set(file.read_bytes().split(b"\0")[:-1])
    if all_of_them.issuperset(more):
        return all_of_them
    all_of_them.update(more)
    partial = file.with_suffix(".new")
    partial.write_bytes(b"".join(path + b"\0" for path in sorted(all_of_them)))
    partial.replace(file)
    return all_of_them
