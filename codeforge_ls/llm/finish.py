"""Whether the provider itself said that an answer is finished; litellm's own word for it cannot be trusted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

GEMINI = frozenset({"gemini", "vertex_ai", "vertex_ai_beta"})


class FinishWatch:
    """Watches one stream of litellm; made before the first chunk is read.

    litellm calls a cut stream a success and writes "stop" into its last chunk. ``received_finish_reason`` holds what
    the provider sent, except for Gemini: that adapter makes up "tool_calls" as soon as it sees a call and leaves it in
    ``intermittent_finish_reason``, so there the raw lines are read for ``finishReason``. If litellm renames any of
    this, turns become incomplete and nothing runs by mistake; the tests of the dialects then fail.
    """

    def __init__(
        self, stream: Any, provider: str
    ) -> None:  # litellm's class, which only the worker may import
        self._stream = stream
        self._ended = False
        if provider not in GEMINI:
            return
        if getattr(stream, "completion_stream", None) is not None:
            self._watch(stream.completion_stream)
        elif (make_call := getattr(stream, "make_call", None)) is not None:
            stream.make_call = self._watching(make_call)

    def received(self) -> str | None:
        """The finish reason in litellm's words, None if the provider never sent one. Asked after the last chunk."""
        notes = ["received_finish_reason", *(["intermittent_finish_reason"] if self._ended else [])]
        for note in notes:
            if isinstance(reason := getattr(self._stream, note, None), str) and reason:
                return reason
        return None

    def _watching(self, make_call: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def call(**arguments: object) -> object:
            return self._watch(await make_call(**arguments))

        return call

    def _watch(self, chunks: Any) -> object:
        if hasattr(
            chunks, "streaming_response"
        ):  # Claude on Vertex has another adapter, and a reason received
            chunks.streaming_response = self._lines(chunks.streaming_response)
        return chunks

    async def _lines(self, lines: AsyncIterator[str]) -> AsyncIterator[str]:
        async for line in lines:
            self._ended = self._ended or _ends(line)
            yield line


def _ends(line: object) -> bool:
    if not isinstance(line, str) or '"finishReason"' not in line:
        return False
    try:
        candidates = json.loads(line.removeprefix("data:")).get("candidates")
        return any(candidate.get("finishReason") for candidate in candidates)
    except (ValueError, TypeError, AttributeError):
        return False
