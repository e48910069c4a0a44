"""Model calls as the rest of the product sees them: one stream of turn events, retried and guarded."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Annotated, Protocol
from urllib.parse import urlsplit

from pydantic import Field, TypeAdapter

from codeforge_ls import redaction
from codeforge_ls.llm.breaker import CircuitBreaker, CircuitState
from codeforge_ls.llm.conversation import order_problem
from codeforge_ls.llm.failures import ILL, FailureKind, failed
from codeforge_ls.llm.retry import RetryPolicy
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import CodeForgeError, Unavailable
from codeforge_ls.model.llm import (
    EmbeddingRequest,
    Embeddings,
    Message,
    ModelRequest,
    TextDelta,
    TurnDone,
    TurnEvent,
    TurnFailed,
    TurnRetry,
)
from codeforge_ls.workers import Worker, WorkerDied

# The worker keeps the deadlines; one that says nothing this long after the last of them hangs and is killed.
# It covers the import of litellm on a busy machine too.
WORKER_GRACE = 60.0

_AttemptEvent = TextDelta | TurnDone | TurnFailed
_attempt_event: TypeAdapter[_AttemptEvent] = TypeAdapter(
    Annotated[_AttemptEvent, Field(discriminator="type")]
)


class ModelBackend(Protocol):
    """Something that plays turns. Every stream ends with exactly one ``TurnDone`` or ``TurnFailed``."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[TurnEvent, None]:
        """Play one turn; a ``TurnRetry`` voids what came before. Closing the iterator ends the call."""
        ...

    async def close(self) -> None:
        """Let go of processes and connections."""
        ...


def require_model(model: str | None) -> str:
    """The configured model's name. Raises ``Unavailable``, saying how to set one, if there is none."""
    if model and model.strip():
        return model.strip()
    raise Unavailable(
        "No model is set, so no agent can run. Search, repository map and checkpoints work without one.",
        hint=(
            "Set CODEFORGE_LLM_MODEL to a litellm model name such as anthropic/claude-sonnet-4-5 (with the "
            "provider's key in the environment), or write `llm: {model: ...}` into "
            "~/.config/codeforge/config.yaml. For an OpenAI-compatible server set llm.api_base too, e.g. "
            "CODEFORGE_LLM_MODEL=openai/qwen2.5-coder and CODEFORGE_LLM_API_BASE=http://127.0.0.1:8080/v1 "
            "(no key needed)."
        ),
        data={"field": "llm.model"},
    )


class LitellmBackend:
    """Any model litellm knows, called in a supervised worker process that is started by the first call.

    ``env`` is the worker's whole environment; None takes this process's. ``keys`` gives those of the vault, anew for
    each call. What they hold is hidden in everything that is sent.
    ``new_breaker`` makes the circuit breaker of each service that is called.
    """

    def __init__(
        self,
        *,
        env: Mapping[str, str] | None = None,
        keys: Callable[[], Mapping[str, str]] = dict,
        retry: RetryPolicy | None = None,
        on_crash: Callable[[str, int], None] | None = None,
        new_breaker: Callable[[], CircuitBreaker] = CircuitBreaker,
    ) -> None:
        # Safe path: the worker may be started in a hostile workspace, whose modules must not shadow ours.
        environment = {**(os.environ if env is None else env), "PYTHONSAFEPATH": "1"}
        argv = [sys.executable, "-m", "codeforge_ls.llm.worker"]
        self._worker = Worker("model", argv, env=environment, on_crash=on_crash)
        self._keys = keys
        self._retry = retry or RetryPolicy()
        self._new_breaker = new_breaker
        self._breakers: dict[str, CircuitBreaker] = {}
        self._in_flight = 0

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id while it lives."""
        return self._worker.pid

    async def warm(self) -> None:
        """Start the worker and import litellm there, ahead of the first call. Raises ``Unavailable``."""
        await self._worker.call("warm", {}, repeat=True)

    def health(self) -> JsonObject:
        """Worker state, calls in flight, and the circuit breaker of every service called so far."""
        return {
            "worker": {
                "state": self._worker.state,
                "pid": self._worker.pid,
                "restarts": self._worker.restarts,
            },
            "in_flight": self._in_flight,
            "circuits": {name: breaker.as_json() for name, breaker in self._breakers.items()},
        }

    async def close(self) -> None:
        """Stop the worker; calls in flight end with ``kind="worker"``."""
        await self._worker.stop()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[TurnEvent, None]:
        """Play one turn: text as it comes, visible retries, at last one ``TurnDone`` or ``TurnFailed``.

        A stream that ended without a finish reason, or passed a cap, is a ``TurnDone`` not ``complete``:
        it has no tool calls, and its usage counts. An empty answer is one without text and calls.

        Only whole turns are tried again. Closing the iterator or cancelling its task ends the call at once.
        """
        if problem := order_problem(request.messages):
            yield failed(FailureKind.BAD_REQUEST, f"The conversation is not in order: {problem}.")
            return
        self._in_flight += 1
        try:
            if redaction.knows_any():
                request = await asyncio.to_thread(_without_secrets, request)
            async with aclosing(self._turn(request)) as events:
                async for event in events:
                    yield event
        finally:
            self._in_flight -= 1

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The vectors of some texts, or a ``failure``. Tried once: who asks decides what takes their place."""
        service, breaker = self._service(request)
        if wait := breaker.admit():
            return Embeddings(failure=_circuit_open(service, breaker, wait))
        healthy: bool | None = None
        try:
            async with asyncio.timeout(request.timeout + WORKER_GRACE):
                sent = await asyncio.to_thread(redaction.hide_all, request.model_dump(mode="json"))
                answer = await self._worker.call(
                    "embed", {"request": sent, "keys": {**await asyncio.to_thread(self._keys)}}
                )
            found = Embeddings.model_validate(answer)
            healthy = found.failure is None or found.failure.kind not in ILL
        except TimeoutError:
            await self._worker.kill()
            found = Embeddings(failure=failed(FailureKind.WORKER, "The model worker hung and was killed."))
        except CodeForgeError as error:
            found = Embeddings(failure=failed(FailureKind.WORKER, error.message))
        finally:
            breaker.record(healthy)
        return found

    async def count_tokens(self, model: str, text: str) -> int | None:
        """The tokens of a text as this model sees it; None when the worker cannot tell."""
        try:
            async with asyncio.timeout(WORKER_GRACE):
                return int(str(await self._worker.call("count", {"model": model, "text": text}, repeat=True)))
        except (TimeoutError, CodeForgeError):
            return None

    async def _turn(self, request: ModelRequest) -> AsyncGenerator[TurnEvent, None]:
        service, breaker = self._service(request)
        end = time.monotonic() + request.total_timeout
        seen: Counter[str] = Counter()
        last: TurnFailed | None = None
        while True:
            if wait := breaker.admit():
                yield last or _circuit_open(service, breaker, wait)
                return
            outcome: TurnDone | TurnFailed | None = None
            try:
                left = request.model_copy(update={"total_timeout": max(0.1, end - time.monotonic())})
                async with aclosing(self._attempt(left)) as events:
                    async for event in events:
                        if isinstance(event, TextDelta):
                            yield event
                        else:
                            outcome = event
            finally:
                breaker.record(_healthy(outcome))
            attempts = seen.total() + 1
            outcome = (outcome or _no_outcome()).model_copy(update={"attempts": attempts})
            if isinstance(outcome, TurnDone):
                yield outcome
                return
            last = outcome
            seen[outcome.kind] += 1
            delay = self._retry.delay(outcome, seen, end - time.monotonic())
            if delay is None or breaker.state is CircuitState.OPEN:
                yield outcome
                return
            yield TurnRetry(attempt=attempts, delay=delay, kind=outcome.kind, message=outcome.message)
            await asyncio.sleep(delay)

    async def _attempt(self, request: ModelRequest) -> AsyncGenerator[_AttemptEvent, None]:
        """One call of the worker; whatever happens to the worker becomes a ``TurnFailed``."""
        asked: JsonObject = {
            "request": request.model_dump(mode="json"),
            "keys": {**await asyncio.to_thread(self._keys)},
        }
        lines = self._worker.stream("turn", asked)
        limit = asyncio.get_running_loop().time() + request.total_timeout + WORKER_GRACE
        async with aclosing(lines):
            while line := await self._line(lines, limit):
                yield line

    async def _line(self, lines: AsyncIterator[JsonObject], limit: float) -> _AttemptEvent | None:
        """The next thing the worker says, None at the end."""
        try:
            async with asyncio.timeout_at(limit):
                line = await anext(lines, None)
        except TimeoutError:
            await self._worker.kill()
            return failed(FailureKind.WORKER, "The model worker hung and was killed.")
        except WorkerDied as error:
            return failed(FailureKind.WORKER, error.message)
        except CodeForgeError as error:
            return failed(FailureKind.WORKER, error.text).model_copy(update={"retryable": False})
        return (
            None if line is None else _attempt_event.validate_python(line.get("event") or line.get("result"))
        )

    def _service(self, request: ModelRequest | EmbeddingRequest) -> tuple[str, CircuitBreaker]:
        """What is called (the server, without user and password, else the provider), and its breaker."""
        address = urlsplit(request.api_base or "").netloc.rpartition("@")[2]
        service = address or request.model.partition("/")[0]
        return service, self._breakers.setdefault(service, self._new_breaker())


def _without_secrets(request: ModelRequest) -> ModelRequest:
    """The request as it may leave this machine."""
    messages = redaction.hide_all([message.model_dump(mode="json") for message in request.messages])
    return request.model_copy(update={"messages": tuple(map(Message.model_validate, messages))})


def _healthy(outcome: TurnDone | TurnFailed | None) -> bool | None:
    """What an outcome says about the service; None if nothing (cancelled, or our own worker's fault)."""
    if outcome is None or (isinstance(outcome, TurnFailed) and outcome.kind in _OUR_FAULT):
        return None
    return outcome.complete if isinstance(outcome, TurnDone) else outcome.kind not in ILL


_OUR_FAULT = frozenset({FailureKind.WORKER, FailureKind.CONFIGURATION})


def _circuit_open(service: str, breaker: CircuitBreaker, wait: float) -> TurnFailed:
    said = f"{service} failed {breaker.failures} times in a row and is left alone; try again in {wait:.0f} s."
    return failed(FailureKind.CIRCUIT_OPEN, said, retry_after=wait).model_copy(update={"attempts": 0})


def _no_outcome() -> TurnFailed:
    return failed(FailureKind.WORKER, "The model worker ended the call without a result.")
