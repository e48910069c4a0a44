"""Checkpoints of a hundred thousand small files beside two hundred thousand ignored ones: whole, and taken back."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from codeforge_ls.checkpoints import Checkpoints
from tests.checkpoints.scene import dot_git, repository, take, write
from tests.soak.report import Part

SMALL, IGNORED = 100_000, 200_000
IN_A_FOLDER = 500
CHANGED = 50


async def prove(part: Part, *, small: int = SMALL, ignored: int = IGNORED) -> None:
    """Take, change, take back; what did not hold is noted in the part."""
    with part.timed(), tempfile.TemporaryDirectory(prefix="cfsizes") as folder:
        ws, state = repository(Path(folder).resolve() / "ws"), Path(folder).resolve() / "state"
        write(ws / ".gitignore", "ignored/\n")
        await asyncio.to_thread(_fill, ws / "small", small)
        await asyncio.to_thread(_fill, ws / "ignored", ignored)
        git, checkpoints = dot_git(ws / ".git"), Checkpoints(ws, state)
        began = time.monotonic()
        first = await take(checkpoints)
        part.facts[f"first checkpoint of {small:,} files"] = f"{time.monotonic() - began:.1f} s"
        part.count("files", small + ignored)
        if first.only_named or first.skipped:
            part.fail(f"not whole: {first.only_named} {first.skipped[:3]}")
        for number in range(CHANGED):
            write(ws / f"small/{number}/{number * IN_A_FOLDER}", "agent\n")
            write(ws / f"ignored/{number}/{number * IN_A_FOLDER}", "built\n")
        began = time.monotonic()
        restored = await checkpoints.restore(first, "run:1")
        part.facts[f"restore of {CHANGED} of them"] = f"{time.monotonic() - began:.1f} s"
        if len(restored.changed) != CHANGED or restored.conflicts:
            part.fail(f"restored {len(restored.changed)}, conflicts {restored.conflicts[:3]}")
        for number in range(CHANGED):
            if (ws / f"small/{number}/{number * IN_A_FOLDER}").read_text() != f"{number * IN_A_FOLDER}\n":
                part.fail(f"file {number} did not come back")
            if (ws / f"ignored/{number}/{number * IN_A_FOLDER}").read_text() != "built\n":
                part.fail(f"ignored file {number} was touched")
        packs = len(list((state / "shadow.git/objects/pack").glob("*.pack")))
        loose = len(list((state / "shadow.git/objects").glob("??/*")))
        part.facts["packs and loose objects"] = f"{packs}, {loose}"
        if dot_git(ws / ".git") != git:
            part.fail("the user's .git changed")


def _fill(top: Path, count: int) -> None:
    for number in range(count):
        folder = f"{top}/{number // IN_A_FOLDER}"
        if number % IN_A_FOLDER == 0:
            os.makedirs(folder)
        descriptor = os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(descriptor, f"{number}\n".encode())
        os.close(descriptor)
