"""Start a process from a thread that has given up rights: Landlock and seccomp hold a thread and all it starts.

So nothing runs between fork and exec in a process with many threads, and the process that starts it stays as it is.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class RestrictedProcess:
    """A process that another thread has started; its end is told by a descriptor (Linux 5.3)."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.pid = popen.pid
        self._popen = popen
        self._descriptor = os.pidfd_open(popen.pid)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._descriptor, self._collect)

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self._popen.returncode

    async def wait(self) -> int:
        """Wait for its end."""
        return await asyncio.shield(self._ended)

    def _collect(self) -> None:
        if self._popen.poll() is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._ended.set_result(self._popen.returncode)


async def start_restricted(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    pipes: tuple[int, int],
    restrict: Callable[[], None],
) -> RestrictedProcess:
    """Start ``argv`` with ``pipes`` as its input and its output, from a thread that is used once."""

    def work() -> subprocess.Popen[bytes]:
        restrict()
        return subprocess.Popen(
            argv, cwd=cwd, env=dict(env), stdin=pipes[0], stdout=pipes[1], stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    executor = ThreadPoolExecutor(1, thread_name_prefix="restricted")
    try:
        return RestrictedProcess(await asyncio.get_running_loop().run_in_executor(executor, work))
    finally:
        executor.shutdown(wait=False)
