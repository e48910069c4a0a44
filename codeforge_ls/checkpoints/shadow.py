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
    "core.fsync": "objects,reference",  # the private index can be rebuilt
    "core.logAllRefUpdates": "false",
    "pack.compression": "1",
    # Ten changed files as one small pack cost one fsync instead of ten.
    "fastimport.unpackLimit": "10",
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
NO_OBJECT = "0" * 40
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
    def process(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A git process on the shadow repository, to talk with while it runs."""
        environment = self._environment(None)
        with git.started(
            self.folder,
            *arguments,
            config=CONFIG,
            environment=environment,
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

    def resolve(self, name: str) -> str:
        """The object a reference names, or ""."""
        return self.git("rev-parse", "--quiet", "--verify", name, accept=(0, 1)).decode().strip()

    def commit(self, reference: str, tree: str, message: str) -> str:
        """Add a commit to a stream by compare-and-swap of its reference; returns the commit."""
        previous = self.resolve(reference)
        parent = ["-p", previous] if previous else []
        commit = self.git("commit-tree", tree, *parent, "-m", message).decode().strip()
        self.git("update-ref", reference, commit, previous or NO_OBJECT)
        return commit

    def add_blob(self, content: bytes) -> str:
        """Store some bytes; returns their name."""
        return self.git("hash-object", "-w", "--no-filters", "--stdin", stdin=content).decode().strip()

    def add_tree(self, entries: Mapping[str, tuple[str, str]]) -> str:
        """Store a tree of name -> (kind ``blob`` or ``tree``, object); returns its name."""
        modes = {"blob": "100644", "tree": "040000"}
        lines = [f"{modes[kind]} {kind} {name}\t{path}\n" for path, (kind, name) in entries.items()]
        return self.git("mktree", stdin="".join(lines).encode()).decode().strip()

    def commit_tree_entries(self, commit: str) -> dict[str, str]:
        """The names and objects at the top of a commit. Raises NotFound when it is not there."""
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise NotFound("This is not the name of a checkpoint's commit.")
        try:
            listed = self.git("ls-tree", "-z", commit).decode()
        except git.GitFailed as error:
            raise NotFound(
                f"The checkpoint {commit[:12]} is no longer stored.",
                hint="Old checkpoints are removed by age and size.",
            ) from error
        rows = (line.split("\t", 1) for line in listed.split("\0")[:-1])
        return {name: fields.split(" ")[2] for fields, name in rows}

    @contextlib.contextmanager
    def contents(self) -> Iterator[Contents]:
        """Read many objects through one process."""
        with self.process("cat-file", "--batch") as process:
            yield Contents(process)

    @contextlib.contextmanager
    def importer(self) -> Iterator[Importer]:
        """Store many blobs through one process and, when there are more than a few, as one pack."""
        with contextlib.ExitStack() as stack:
            yield Importer(self, stack)

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


class Importer:
    """Blobs on their way into a running ``git fast-import``, started by the first one."""

    def __init__(self, shadow: Shadow, stack: contextlib.ExitStack) -> None:
        self._shadow = shadow
        self._stack = stack
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, content: bytes) -> None:
        """Store one blob; it can be used after ``finish``."""
        if self._process is None:
            command = self._shadow.process("fast-import", "--quiet", "--depth=0")
            self._process = self._stack.enter_context(command)
        sink = self._process.stdin
        try:
            if sink is not None:
                sink.write(b"blob\ndata %d\n" % len(content))
                sink.write(content)
                sink.write(b"\n")
        except BrokenPipeError:
            self.finish()
            raise git.failure("fast-import", 1, b"it ended early") from None

    def finish(self) -> None:
        """Wait until everything is on disk. Raises GitFailed when it could not be stored."""
        if self._process is None:
            return
        process, self._process = self._process, None
        try:
            _, errors = process.communicate(timeout=git.DEFAULT_TIMEOUT * 5)
        except subprocess.TimeoutExpired as error:
            raise git.GitFailed("git fast-import did not end.") from error
        self._shadow.cancellation.check()
        if process.returncode != 0:
            raise git.failure("fast-import", process.returncode, errors)
