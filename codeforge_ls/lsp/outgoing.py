"""What goes to the editor: a bounded queue and one task that writes; a client that does not read stops nobody."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

log = logging.getLogger(__name__)

SOFT_LIMIT = 4 << 20  # bytes waiting; from here on what can be missed is dropped
HARD_LIMIT = 64 << 20  # bytes waiting; the client does not read, the session ends
BATCH = 256 << 10  # bytes handed to the transport at once


class Outgoing:
    """Frames on their way to one client. ``broken`` is set when the client is gone or has stopped reading."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._queue: deque[bytes] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.broken = asyncio.Event()
        self.dropped = 0

    def send(self, frame: bytes, *, droppable: bool = False) -> bool:
        """Queue a frame. False: it was dropped, because the queue is full and the frame can be missed."""
        if self.broken.is_set() or (droppable and self.is_full):
            self.dropped += 1
            return False
        self._queue.append(frame)
        self._waiting += len(frame)
        self._idle.clear()
        self._wake.set()
        if self._waiting > HARD_LIMIT:
            log.error("the client does not read: %d bytes wait for it; ending its session", self._waiting)
            self._give_up()
        return True

    @property
    def is_full(self) -> bool:
        """Whether frames that can be missed are dropped now."""
        return self._waiting > SOFT_LIMIT

    async def write_all(self) -> None:
        """Write what is queued, for ever. Ends when the client is gone."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    batch = self._take()
                    self._writer.write(batch)
                    await self._writer.drain()
                    self._waiting -= len(batch)
                self._idle.set()
        except (ConnectionError, OSError) as error:
            log.info("the client is gone: %s", error)
        finally:
            self._give_up()

    async def flush(self, seconds: float) -> None:
        """Wait until everything is written, at most so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)

    def close(self) -> None:
        """Close the connection. What is still queued is lost."""
        self._give_up()
        self._writer.close()

    def _take(self) -> bytes:
        frames, size = [self._queue.popleft()], 0
        while self._queue and size < BATCH:
            size += len(frames[-1])
            frames.append(self._queue.popleft())
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def _give_up(self) -> None:
        self._queue.clear()
        self._waiting = 0
        self._idle.set()
        self.broken.set()
