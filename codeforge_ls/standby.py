"""Workers that stand by: each has imported its module by the time it is told what to do. Standard library only.

The first line of its input is ``{"arguments", "environment"}``; then it goes on as if it had been started with them.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence

from codeforge_ls.child import die_with_parent, give_way, importing

LINE_LIMIT = 64 << 20  # bytes of one line from a worker
INDEX_WORKER, QUERY_WORKER = "codeforge_ls.index.worker", "codeforge_ls.index.query_worker"
# The index gives way to the answers, three to one; at 10 a busy machine would starve it.
NICE = {INDEX_WORKER: 5}
# pydantic would look through every installed package for plugins, which takes time, and load them.
NO_PLUGINS = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}
# One thread each: the workers are the parallelism, and BLAS threads cost memory.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "DISABLE_TQDM": "1", **NO_PLUGINS}


def command(module: str) -> list[str]:
    """The command line of a worker that stands by. ``-P``: a module of the workspace must not be imported for ours."""
    return [sys.executable, "-P", "-m", "codeforge_ls.standby", module]


def order(arguments: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """The line that a worker which stands by waits for."""
    told = {"arguments": [*arguments], "environment": {**environment} | ENVIRONMENT}
    return json.dumps(told).encode() + b"\n"


async def spawn(argv: Sequence[str], environment: Mapping[str, str] | None) -> Process:
    """A child with pipes to it and from it, in a session of its own."""
    return await asyncio.create_subprocess_exec(
        *argv, stdin=PIPE, stdout=PIPE, env=environment, limit=LINE_LIMIT, start_new_session=True
    )


class Standby:
    """The workers of an index, started before anybody needs them: they import while the daemon does."""

    def __init__(self) -> None:
        self._processes: dict[str, Process] = {}

    async def start(self) -> None:
        """Start them."""
        for module in (QUERY_WORKER, INDEX_WORKER):
            self._processes[module] = await spawn(command(module), os.environ | ENVIRONMENT)

    def take(self, module: str) -> Process | None:
        """The one that has this module, once; None when there is none, or when it has ended."""
        process = self._processes.pop(module, None)
        return process if process is not None and process.returncode is None else None

    def end(self) -> None:
        """Those that nobody took are not needed."""
        while self._processes:
            _, process = self._processes.popitem()
            if process.returncode is None:
                process.kill()


def main() -> None:
    """Import the module that the command line names, wait for the order, and run the module's ``main``."""
    die_with_parent()
    if niceness := NICE.get(sys.argv[1]):
        give_way(niceness)
    with importing():
        module = importlib.import_module(sys.argv[1])
    with open(
        0, "rb", buffering=0, closefd=False
    ) as wire:  # no byte more than the line: the rest is for ``main``
        line = wire.readline()
    if line:
        told = json.loads(line)
        sys.argv[1:] = told["arguments"]
        os.environ.clear()
        os.environ.update(told["environment"])
        asyncio.run(module.main())


if __name__ == "__main__":
    main()
