"""The model worker: the one process, and the one module, that imports litellm.

Requests: ``warm`` imports it ahead of the first call; ``turn {request}`` plays one attempt of one turn;
``embed {request}`` asks for vectors once; ``count {model, text}`` counts tokens.
Events of a turn are ``TextDelta`` objects, its result is a ``TurnDone`` or a ``TurnFailed``. Retries are the
caller's business. Keys come from this process's environment and never leave it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import warnings
from types import ModuleType

from codeforge_ls import redaction
from codeforge_ls.child import importing
from codeforge_ls.llm.conversation import chat_messages, chat_tools
from codeforge_ls.llm.embed import embed
from codeforge_ls.llm.failures import FailureKind, classify, failed
from codeforge_ls.llm.finish import FinishWatch
from codeforge_ls.llm.metering import meter
from codeforge_ls.llm.turn import TooLarge, TurnBuilder
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.llm import EmbeddingRequest, ModelRequest, TextDelta, TurnDone, TurnFailed, Usage
from codeforge_ls.workers import Emit, Handler, serve

NO_KEY = "none"  # litellm insists on some key, a server on this machine on none
OPENAI = "openai"
LIBRARY_GRACE = 30.0  # seconds that litellm's own time-out lies behind ours, so that ours decides

_SETTINGS = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "true",  # this word; with "1" the price file is fetched from the network
    "LITELLM_MODE": "PRODUCTION",  # else a .env file found above the installation is loaded
    "HF_HUB_OFFLINE": "1",  # no tokenizer is downloaded to count tokens
}


def import_litellm() -> ModuleType:
    """Import litellm, silent and offline. Costs 3-4 CPU seconds the first time."""
    os.environ.update(_SETTINGS)
    warnings.filterwarnings("ignore")
    with importing():
        litellm = importlib.import_module("litellm")
    litellm.telemetry = False  # type: ignore[attr-defined] # a module known only at run time
    litellm.suppress_debug_info = True  # type: ignore[attr-defined] # as above
    litellm.disable_hf_tokenizer_download = True  # type: ignore[attr-defined] # as above
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "httpx", "openai"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


class ModelCalls:
    """The handlers of the worker; they share one import of litellm."""

    def __init__(self) -> None:
        self._loading: asyncio.Task[ModuleType] | None = None
        self._keys: frozenset[str] = frozenset()

    def _take_keys(self, params: JsonObject) -> None:
        """The keys as they are now. They come with each call and not at the start: what a process was started with,
        others can read."""
        given = params.get("keys")
        keys = {name: str(value) for name, value in given.items()} if isinstance(given, dict) else {}
        redaction.know(keys.values())
        for name in self._keys - keys.keys():
            os.environ.pop(name, None)
        os.environ.update(keys)
        self._keys = frozenset(keys)

    async def warm(self, _params: JsonObject, _emit: Emit) -> JsonValue:
        """Import litellm now."""
        await self._litellm()
        return {"warm": True}

    async def turn(self, params: JsonObject, emit: Emit) -> JsonValue:
        """Play one attempt; the result is a ``TurnDone`` or ``TurnFailed`` as JSON."""
        self._take_keys(params)
        request = ModelRequest.model_validate(params.get("request"))
        outcome: TurnDone | TurnFailed
        try:
            outcome = await _Attempt(await self._litellm(), request, emit).run()
        except Exception as error:  # noqa: BLE001 - whatever a provider's client raises is classified, never lost
            outcome = classify(error, os.environ)
        return outcome.model_dump(mode="json")

    async def embed(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Vectors of texts; the result is an ``Embeddings`` as JSON."""
        self._take_keys(params)
        request = EmbeddingRequest.model_validate(params.get("request"))
        try:
            litellm = await self._litellm()
        except Exception as error:  # noqa: BLE001 - as above
            return {"failure": classify(error, os.environ).model_dump(mode="json")}
        return await embed(litellm, request, lambda model, base: key_for(litellm, model, base))

    async def count(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """The tokens of a text, by the model's own tokenizer where litellm brings it, else by a common one."""
        litellm = await self._litellm()
        return int(litellm.token_counter(model=str(params["model"]), text=str(params["text"])))

    async def _litellm(self) -> ModuleType:
        # In a thread, so that a cancel is heard meanwhile; shielded, so that a cancelled call cannot undo it.
        if self._loading is None or (self._loading.done() and self._loading.exception()):
            self._loading = asyncio.create_task(asyncio.to_thread(import_litellm))
        return await asyncio.shield(self._loading)


def key_for(litellm: ModuleType, model: str, api_base: str | None) -> str | None:
    """A dummy if an OpenAI-compatible server is named and no key is set; else litellm finds it itself."""
    if api_base is None:
        return None
    _, provider, *_ = litellm.get_llm_provider(model=model, api_base=api_base)
    if provider not in {OPENAI, *litellm.openai_compatible_providers}:
        return None
    return None if litellm.validate_environment(model).get("keys_in_environment") else NO_KEY


class _Attempt:
    """One HTTP call: from the request to a whole turn, under three deadlines of our own.

    The library's ``timeout`` does not bound a stream: one token a second, or comments for ever, pass it.
    """

    def __init__(self, litellm: ModuleType, request: ModelRequest, emit: Emit) -> None:
        self._litellm, self._request, self._emit = litellm, request, emit
        self._builder = TurnBuilder(call.id for message in request.messages for call in message.tool_calls)
        self._started = False
        self._usage: JsonValue = None

    async def run(self) -> TurnDone | TurnFailed:
        request, loop = self._request, asyncio.get_running_loop()
        name, provider, *_ = self._litellm.get_llm_provider(model=request.model, api_base=request.api_base)
        supported = self._litellm.get_supported_openai_params(model=name, custom_llm_provider=provider)
        if request.tools and isinstance(supported, list) and "tools" not in supported:
            return failed(FailureKind.CONFIGURATION, f"The model {request.model} cannot call tools.")
        end = loop.time() + request.total_timeout
        try:
            async with asyncio.timeout_at(min(end, loop.time() + request.first_token_timeout)) as limit:
                stream = await self._litellm.acompletion(**self._arguments())
                watch = FinishWatch(stream, provider)
                try:
                    async for chunk in stream:
                        if self._take(chunk.model_dump(exclude_none=True, warnings=False)):
                            limit.reschedule(min(end, loop.time() + request.idle_timeout))
                finally:
                    await _close(stream)
        except TimeoutError as error:
            return self._late(loop.time() >= end) if limit.expired() else classify(error, os.environ)
        except TooLarge:
            return self._builder.too_large(Usage())
        rest, outcome = self._builder.close(watch.received(), self._metered(stream))
        self._show(rest)
        return outcome

    def _take(self, chunk: JsonObject) -> bool:
        if chunk.get("usage"):
            self._usage = chunk["usage"]
        shown, progress = self._builder.add(chunk)
        self._show(shown)
        self._started = self._started or progress
        return progress

    def _show(self, deltas: list[TextDelta]) -> None:
        for delta in deltas:
            self._emit(delta.model_dump(mode="json"))

    def _late(self, total: bool) -> TurnFailed:
        request = self._request
        if total:
            said = f"The answer was not finished after {request.total_timeout:g} s."
        elif self._started:
            said = f"The model went silent for {request.idle_timeout:g} s in the middle of its answer."
        else:
            said = f"No token came within {request.first_token_timeout:g} s."
        return failed(FailureKind.TIMEOUT, said)

    def _arguments(self) -> JsonObject:
        request = self._request
        optional: dict[str, JsonValue] = {
            "temperature": request.temperature,
            "max_tokens": request.max_output_tokens,
            "api_base": request.api_base,
            "api_key": key_for(self._litellm, request.model, request.api_base),
            "tools": [*chat_tools(request.tools)] or None,
        }
        return {
            "model": request.model,
            "messages": [*chat_messages(request.messages)],
            "stream": True,
            "stream_options": {"include_usage": True},
            "timeout": request.total_timeout + LIBRARY_GRACE,
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": True,  # some models refuse any temperature but their own
            **{key: value for key, value in optional.items() if value is not None},
        }

    def _metered(self, stream: object) -> Usage:
        """The last chunk has usage and cost, perhaps guessed by litellm; ``stream.chunks`` came over the wire."""
        sent = [usage for chunk in getattr(stream, "chunks", ()) if (usage := getattr(chunk, "usage", None))]
        by_wire = sent[-1].model_dump(exclude_none=True, warnings=False) if sent else {}
        usage = {**self._usage, "cost": by_wire.get("cost")} if isinstance(self._usage, dict) else None
        return meter(usage, by_provider=bool(sent), price=self._price)

    def _price(self, tokens_in: int, tokens_out: int, cached: int) -> float | None:
        usage = self._litellm.Usage(
            prompt_tokens=tokens_in,
            completion_tokens=tokens_out,
            total_tokens=tokens_in + tokens_out,
            prompt_tokens_details={"cached_tokens": cached},
        )
        try:
            paid_in, paid_out = self._litellm.cost_per_token(model=self._request.model, usage_object=usage)
        except Exception:  # noqa: BLE001 - it raises many kinds for a model without a price, and that is no failure
            return None
        return float(paid_in) + float(paid_out)


async def _close(stream: object) -> None:
    """Close the HTTP connection now, not when the garbage collector comes by."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        with contextlib.suppress(Exception):
            await close()


def main() -> None:
    """Serve until end of input."""
    calls = ModelCalls()
    handlers: dict[str, Handler] = {
        "warm": calls.warm,
        "turn": calls.turn,
        "embed": calls.embed,
        "count": calls.count,
    }
    asyncio.run(serve("model-worker", handlers))


if __name__ == "__main__":
    main()
