"""A folder of the workspace that is a folder, then a link out of it, thousands of times, while a test goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.ground import Ground


@contextmanager
def swapped(ground: Ground) -> Iterator[Path]:
    """Swap ``race`` with a link to the folder that this gives, which holds ``a.txt`` and ``b.txt``."""
    outside, inside, link = ground.base / "outdir", ground.root / "race", ground.root / "race.link"
    outside.mkdir()
    for name in ("a.txt", "b.txt"):
        (outside / name).write_text("theirs\n")
    inside.mkdir()
    stop = threading.Event()

    def swap() -> None:
        hidden = ground.root / "race.real"
        link.symlink_to(outside)
        while not stop.is_set():
            os.rename(inside, hidden)
            with contextlib.suppress(OSError):  # an edit has made the folder anew meanwhile
                os.rename(link, inside)
                os.rename(inside, link)
            while hidden.exists():
                with contextlib.suppress(OSError):
                    shutil.rmtree(inside, ignore_errors=True)
                    os.rename(hidden, inside)

    swapping = threading.Thread(target=swap, daemon=True)
    swapping.start()
    try:
        yield outside
    finally:
        stop.set()
        swapping.join(10)
