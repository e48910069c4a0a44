"""Checkpoints in a process of its own: with fewer rights, on a small disk, or beside another one.

Started as ``python -m tests.checkpoints.remote WS STATE`` it reads one order a line and answers each in JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind
from codeforge_ls.model.errors import CodeForgeError

ROOT = Path(__file__).parents[2]


class Remote:
    """Talks with such a process. ``under``: what starts it; ``env``: its whole environment."""

    def __init__(
        self, ws: Path, state: Path, *, under: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        argv = [*under, sys.executable, "-m", "tests.checkpoints.remote", str(ws), str(state)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, env=env)

    def send(self, order: str, *arguments: Any) -> None:
        """Give an order; ``take STREAM``, ``restore CHECKPOINT``, ``cleanup``, ``known``, ``diff CHECKPOINT``."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([order, *arguments]) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        """The answer to the oldest order that has none yet; ``{"error": code, "says": text}`` where it failed."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"it ended with {self._process.wait()}"
        return json.loads(line)

    def __call__(self, order: str, *arguments: Any) -> Any:
        """Give an order and wait for its answer."""
        self.send(order, *arguments)
        return self.receive()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


async def main(ws: Path, state: Path) -> None:
    checkpoints = Checkpoints(ws, state)
    while line := await asyncio.to_thread(sys.stdin.readline):
        order, *arguments = json.loads(line)
        try:
            answer = await _obey(checkpoints, order, arguments)
        except CodeForgeError as error:
            answer = {"error": error.code, "says": error.text}
        print(json.dumps(answer), flush=True)


async def _obey(checkpoints: Checkpoints, order: str, arguments: list[Any]) -> Any:
    if order == "take":
        made = await checkpoints.create(arguments[0], label="remote", kind=CheckpointKind.ACTION)
        return made.model_dump(mode="json")
    if order == "restore":
        restored = await checkpoints.restore(Checkpoint.model_validate(arguments[0]), "run:remote")
        return restored.model_dump(mode="json")
    if order == "diff":
        return await checkpoints.diff(Checkpoint.model_validate(arguments[0]))
    if order == "known":
        return [made.id for made in await checkpoints.known()]
    return await checkpoints.cleanup(30, 1 << 30)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
