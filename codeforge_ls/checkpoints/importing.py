"""Write into the shadow repository: files, trees and commits through one ``git fast-import``, as one pack.

Thousands of loose objects would each cost a file and a flush to the disk; a pack costs one of either.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping

from codeforge_ls import git
from codeforge_ls.checkpoints.shadow import EMPTY_TREE, Shadow
from codeforge_ls.checkpoints.writing import FILE, FOLDER, committer
from codeforge_ls.model.errors import Unavailable

TIMEOUT = git.DEFAULT_TIMEOUT * 5
AT_ONCE = 1 << 18  # bytes
# It frees each file's memory only to ask for it again: for glibc that is a system call each, a third of its time.
ALLOCATION = {"MALLOC_TOP_PAD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}


class Importer:
    """A ``git fast-import`` that the first order starts. What it was told can be read after ``finish``."""

    def __init__(self, shadow: Shadow, stack: contextlib.ExitStack) -> None:
        self._shadow = shadow
        self._stack = stack
        self._process: subprocess.Popen[bytes] | None = None
        self._orders = bytearray()

    def tree(self, reference: str, base: str) -> ImportedTree:
        """A tree that starts as ``base``; ``reference`` keeps what it becomes from being pruned. One at a time."""
        return ImportedTree(self, reference, base)

    def commit(
        self, reference: str, parent: str, trees: Mapping[str, str], files: Mapping[str, bytes], message: str
    ) -> str:
        """Move ``reference`` from ``parent`` to a new commit of trees and files by name; returns the commit."""
        text = message.encode()
        self.order(
            b"commit %s\nmark :1\ncommitter %s\ndata %d\n%s\n"
            % (reference.encode(), committer(), len(text), text)
        )
        if parent:
            self.order(b"from %s\ndeleteall\n" % parent.encode())
        for name, tree in trees.items():
            if tree != EMPTY_TREE:  # git stores no empty folder in another
                self.order(b"M %s %s %s\n" % (FOLDER.encode(), tree.encode(), name.encode()))
        for name, content in files.items():
            self.order(
                b"M %s inline %s\ndata %d\n%s\n" % (FILE.encode(), name.encode(), len(content), content)
            )
        self.order(b"\nget-mark :1\n")
        return self.answer().strip().decode()

    def finish(self) -> None:
        """Wait until everything is on disk and the references point at it. Raises GitFailed when it is not."""
        if self._process is None:
            return
        self._send()
        process, self._process = self._process, None
        try:
            _, errors = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise git.GitFailed("git fast-import did not end.") from error
        self._shadow.cancellation.check()
        if process.returncode != 0:
            raise git.failure("fast-import", process.returncode, errors)

    def order(self, order: bytes) -> None:
        """Part of what it is told."""
        if self._process is None:
            # Forced: a reference that only keeps a tree has no history.
            command = self._shadow.process(
                "fast-import", "--quiet", "--force", "--depth=0", environment=ALLOCATION
            )
            self._process = self._stack.enter_context(command)
        self._orders += order
        if len(self._orders) > AT_ONCE:
            self._send()

    def answer(self) -> bytes:
        """One line of what it says to the last order."""
        self._send()
        process = self._process
        if process is None or process.stdout is None:
            raise Unavailable("git fast-import has no pipes.")
        line = process.stdout.readline()
        if not line:
            raise self._failed()
        return line

    def _send(self) -> None:
        """What was ordered by now, in one piece."""
        if self._process is None or self._process.stdin is None:
            raise Unavailable("git fast-import has no pipes.")
        orders, self._orders = self._orders, bytearray()
        try:
            self._process.stdin.write(orders)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def _failed(self) -> git.GitFailed:
        """Why it ended before it was told to."""
        process, self._process = self._process, None
        if process is None:
            return git.failure("fast-import", 1, b"")
        _, errors = process.communicate(timeout=TIMEOUT)
        self._shadow.cancellation.check()
        return git.failure("fast-import", process.returncode, errors)


class ImportedTree:
    """A tree on its way; begun by its first change."""

    def __init__(self, importer: Importer, reference: str, base: str) -> None:
        self._importer = importer
        self._reference = reference
        self._base = base
        self._begun = False

    def put(self, path: bytes, mode: str, content: bytes) -> None:
        """A file or link; parents of ``path`` that are files give way."""
        self._begin()
        self._importer.order(b"M %s inline %s\ndata %d\n" % (mode.encode(), _quoted(path), len(content)))
        self._importer.order(content)
        self._importer.order(b"\n")

    def delete(self, path: bytes) -> None:
        """Nothing at this path any more. Before what is put below it."""
        self._begin()
        self._importer.order(b"D %s\n" % _quoted(path))

    def holds(self, path: bytes) -> bool:
        """Whether there is something at this path."""
        self._begin()
        self._importer.order(b"ls %s\n" % _quoted(path))
        return not self._importer.answer().startswith(b"missing ")

    def end(self) -> str:
        """The name of the tree as it is now."""
        if not self._begun:
            return self._base
        self._importer.order(b'ls ""\n')
        return self._importer.answer().split()[2].decode()  # mode, "tree", name

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        self._importer.order(b"commit %s\ncommitter %s\ndata 0\n" % (self._reference.encode(), committer()))
        if self._base != EMPTY_TREE:
            self._importer.order(b'M %s %s ""\n' % (FOLDER.encode(), self._base.encode()))


@contextlib.contextmanager
def importer(shadow: Shadow) -> Iterator[Importer]:
    """Write into the shadow repository; what was not finished at the end is dropped."""
    with contextlib.ExitStack() as stack:
        yield Importer(shadow, stack)


def _quoted(path: bytes) -> bytes:
    return b'"%s"' % path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
