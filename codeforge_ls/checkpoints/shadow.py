"""The shadow repository: a bare git directory of our own, its lock, its objects and its references."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from codeforge_ls import git
from codeforge_ls.checkpoints.names import REFS
from codeforge_ls.git import Cancellation
from codeforge_ls.model.errors import NotFound, Unavailable

CONFIG: Mapping[str, str] = {
    "core.bare": "false",
    "core.autocrlf": "false",
    "core.safecrlf": "false",
    "core.fileMode": "true",
    "core.symlinks": "true",
    "core.precomposeUnicode": "false",
    "core.protectNTFS": "false",
    "core.protectHFS": "false",
    "core.fsync": "objects,reference",
    "core.logAllRefUpdates": "false",
    "pack.compression": "1",
    "fastimport.unpackLimit": "1",  # always a pack: loose objects cost a file and a flush each
}
IDENTITY: Mapping[str, str] = {
    "GIT_AUTHOR_NAME": "codeforge",
    "GIT_AUTHOR_EMAIL": "codeforge@localhost",
    "GIT_COMMITTER_NAME": "codeforge",
    "GIT_COMMITTER_EMAIL": "codeforge@localhost",
}
# No conversion ever: neither line ends nor filters nor encodings may touch a snapshot.
ATTRIBUTES = "* -text -eol -crlf -filter -ident -working-tree-encoding -merge\n"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
NOW = "refs/codeforge-now/"  # the tree of each unit's newest picture, so that nothing of it is pruned
LOCK_TIMEOUT = 120.0  # seconds to wait for another process that makes a snapshot of the same workspace
DEAD_FILES = (
    "objects/??/tmp_obj_*",
    "objects/pack/tmp_*",
    "objects/pack/*.keep",
    "objects/tmp_*",
    "fast_import_crash_*",
    "refs/**/*.lock",
    "*.lock",
    "packed-refs.new",
    "codeforge/*.lock",
    "codeforge/*.new",
    "codeforge/index-*",  # of versions that had private indexes
)


def blob_id(content: bytes) -> str:
    """The name git gives to a file with these bytes."""
    digest = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()


class Shadow:
    """``shadow.git`` as one operation sees it; blocking, for threads. ``cancellation`` stops its git calls."""

    def __init__(self, folder: Path, cancellation: Cancellation) -> None:
        self.folder = folder
        self.own = folder / "codeforge"  # what is ours beside what is git's: indexes, stamps, lock, journal
        self.cancellation = cancellation
        self._held: tuple[int, ...] = ()

    def ensure(self) -> None:
        """Create the repository when it is not there."""
        if not self._ready():
            with self.locked():
                pass

    def _ready(self) -> bool:
        attributes = self.folder / "info" / "attributes"  # written last, so it vouches for the rest
        whole = (self.folder / "HEAD").is_file() and (self.folder / "objects").is_dir()
        return whole and attributes.is_file() and attributes.read_text() == ATTRIBUTES

    def is_new(self) -> bool:
        """Whether nothing was ever stored here, or nothing of it is left."""
        parts = ("objects/pack/*.pack", "objects/??", "refs/codeforge*", "packed-refs", "codeforge/stamps-*")
        return not any(True for part in parts for _ in self.folder.glob(part))

    def _create(self) -> None:
        self.folder.chmod(0o700)
        git.call(
            self.folder,
            "init",
            "--quiet",
            "--bare",
            "--object-format=sha1",
            "--template=",
            ".",
            inherit=self._held,
        )
        (self.folder / "info").mkdir(exist_ok=True)
        (self.folder / "info" / "attributes").write_text(ATTRIBUTES)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the repository against every other process. What a dead holder left behind is swept first."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.own.mkdir(mode=0o700, exist_ok=True)
        busy = self.own / "busy"
        with (self.own / "lock").open("w") as handle:
            self._wait_for(handle.fileno())
            # Every git inherits the lock: when we are killed, it lasts until the last orphan has ended too.
            self._held = (handle.fileno(),)
            if busy.exists():
                self.sweep()
            busy.touch()
            try:
                if not self._ready():
                    self._create()
                yield
            except BaseException:
                self.sweep()
                raise
            finally:
                self._held = ()
                busy.unlink(missing_ok=True)

    def _wait_for(self, descriptor: int) -> None:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.cancellation.check()
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "Another process holds the checkpoints of this workspace.",
                        hint="Stop it, or try again when it is done.",
                    ) from None
                time.sleep(0.02)
            else:
                return

    def sweep(self) -> None:
        """Remove what killed gits leave behind and what fills disks. Only under the lock: all are dead."""
        for pattern in DEAD_FILES:
            for leftover in self.folder.glob(pattern):
                with contextlib.suppress(OSError):
                    leftover.unlink()

    def git(
        self,
        *arguments: str,
        folder: Path | None = None,
        stdin: bytes = b"",
        accept: Collection[int] = (0,),
        environment: Mapping[str, str] | None = None,
        timeout: float = git.DEFAULT_TIMEOUT,
    ) -> bytes:
        """One git command on the shadow repository, run in ``folder`` (default: in the repository itself)."""
        return git.call(
            folder or self.folder,
            *arguments,
            stdin=stdin,
            accept=accept,
            timeout=timeout,
            config=CONFIG,
            environment=self._environment(environment),
            cancellation=self.cancellation,
            inherit=self._held,
        )

    @contextlib.contextmanager
    def process(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A git process on the shadow repository, to talk with while it runs."""
        with git.started(
            self.folder,
            *arguments,
            config=CONFIG,
            environment=self._environment(environment),
            cancellation=self.cancellation,
            inherit=self._held,
        ) as process:
            yield process

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        return {"GIT_DIR": str(self.folder), **IDENTITY, **(more or {})}

    def references(self) -> dict[str, str]:
        """Every stream's reference and its newest commit."""
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)", REFS).decode().splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def tip(self, reference: str) -> str:
        """The newest commit of a reference, or ""."""
        loose = self.folder / reference
        with contextlib.suppress(OSError):
            return loose.read_text("ascii").strip()
        return self.references().get(reference, "")

    @contextlib.contextmanager
    def contents(self) -> Iterator[Contents]:
        """Read many objects through one process."""
        with self.process("cat-file", "--batch") as process:
            yield Contents(process)

    def size(self) -> int:
        """Bytes on disk of everything here."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with contextlib.suppress(OSError):
                    total += (Path(folder) / name).lstat().st_size
        return total


class Contents:
    """Objects by name, from a running ``git cat-file --batch``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def folder(self, commit: str) -> dict[str, str]:
        """The names and objects at the top of a commit. Raises NotFound when it is not there."""
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise NotFound("This is not the name of a checkpoint's commit.")
        try:
            raw = self.read(f"{commit}^{{tree}}")
        except NotFound as error:
            raise NotFound(
                f"The checkpoint {commit[:12]} is no longer stored.",
                hint="Old checkpoints are removed by age and size.",
            ) from error
        found = {}
        while raw:  # mode, blank, name, NUL, twenty bytes of the object's name
            head, _, rest = raw.partition(b"\0")
            found[head.partition(b" ")[2].decode()] = rest[:20].hex()
            raw = rest[20:]
        return found

    def read(self, name: str) -> bytes:
        """The bytes of an object. Raises NotFound when it is not stored."""
        source, sink = self._process.stdout, self._process.stdin
        if source is None or sink is None:
            raise Unavailable("git cat-file has no pipes.")
        with contextlib.suppress(BrokenPipeError):
            sink.write(name.encode() + b"\n")
            sink.flush()
        fields = source.readline().split()
        if not fields:
            raise git.failure("cat-file", self._process.wait(), b"it ended early")
        if len(fields) != 3:
            raise NotFound(f"The object {name} is not stored.")
        content = source.read(int(fields[2]))
        source.read(1)
        return content
