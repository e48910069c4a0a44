"""Given somebody who swaps folders for links all the time, nothing outside the root is ever read or written."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeforge_ls.actions.beneath import read_file, write_file
from codeforge_ls.checkpoints import folders
from codeforge_ls.model.actions import content_hash
from codeforge_ls.model.errors import CodeForgeError, Conflict, InvalidInput

SECRET = b"outside"


@pytest.fixture(params=["one call", "part by part"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a folder, beside a folder that is none of ours; with and without ``openat2``."""
    if request.param == "part by part":
        monkeypatch.setattr(folders, "has_openat2", lambda: False)
    for folder in ("ws/a/b", "ws/other", "outside/b"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ws/a/b/f").write_bytes(b"inside")
    (tmp_path / "outside/b/f").write_bytes(SECRET)
    return tmp_path / "ws"


def write(root: Path, path: str, data: bytes | None, base: bytes | None) -> None:
    base_hash = None if base is None else content_hash(base)
    write_file(str(root), path, data, base_hash, root.parent / "journal")


def test_links_and_ways_out_are_refused_and_files_are_not(root: Path) -> None:
    assert read_file(str(root), "a/b/f") == b"inside"
    write(root, "a/b/f", b"new", b"inside")
    write(root, "made/on/the/way", b"x", None)
    assert (root / "made/on/the/way").read_bytes() == b"x"
    assert read_file(str(root), "no/such/file") is None
    (root / "out").symlink_to("../outside")
    (root / "abs").symlink_to(root.parent / "outside")
    (root / "near").symlink_to("a")  # even one that stays inside: another path was judged
    (root / "a/b/link").symlink_to("f")
    for path in ("out/b/f", "abs/b/f", "near/b/f", "a/b/link"):
        with pytest.raises(InvalidInput) if path == "a/b/link" else contextlib.suppress(InvalidInput):
            assert read_file(str(root), path) is None
        with pytest.raises(CodeForgeError):
            write(root, path, b"evil", SECRET)
    for path in ("../outside/b/f", "a/../../outside/b/f"):
        with pytest.raises(CodeForgeError):
            write(root, path, b"evil", SECRET)
        with pytest.raises(InvalidInput):
            read_file(str(root), path)
    with pytest.raises(InvalidInput):
        read_file(str(root), f"/proc/self/cwd/{root}")
    with pytest.raises(InvalidInput):
        read_file(str(root), "a/..")
    assert (root.parent / "outside/b/f").read_bytes() == SECRET
    write(root, "a/b/f", None, b"new")
    assert not (root / "a/b/f").exists()


@contextlib.contextmanager
def swapping(root: Path) -> Iterator[None]:
    """``a`` is a folder and a link to the outside in turn, as fast as it goes, and always one of them."""
    stop = threading.Event()
    (root / "link").symlink_to("../outside")
    exchange, here = ctypes.CDLL(None).renameat2, -100  # AT_FDCWD
    names = [os.fsencode(root / name) for name in ("a", "link")]

    def swap() -> None:
        while not stop.is_set():
            assert exchange(here, names[0], here, names[1], 2) == 0  # RENAME_EXCHANGE

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_no_race_leads_outside(root: Path) -> None:
    read, written, refused = 0, 0, 0
    inside = b"inside"
    with swapping(root):
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            try:
                found = read_file(str(root), "a/b/f")
                assert found != SECRET
                read += found is not None
                write(root, "a/b/f", inside + b"!", inside)
                written += 1
                inside += b"!"
            except (Conflict, InvalidInput):
                refused += 1
    assert (root.parent / "outside/b/f").read_bytes() == SECRET
    assert [path.name for path in (root.parent / "outside/b").iterdir()] == ["f"]
    assert min(read, written, refused) > 0, (read, written, refused)
