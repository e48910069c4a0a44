"""One call of an embedding model, in the model worker."""

from __future__ import annotations

import asyncio
import base64
import math
import os
from array import array
from collections.abc import Callable, Sequence
from types import ModuleType

from codeforge_ls.llm.failures import FailureKind, classify, failed
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.llm import EmbeddingRequest, Embeddings

MAX_DIMENSIONS = 8_192


async def embed(
    litellm: ModuleType, request: EmbeddingRequest, key: Callable[[str, str | None], str | None]
) -> JsonValue:
    """The vectors as JSON of ``Embeddings``, or ``{"failure": TurnFailed}``; it never raises.

    ``key`` gives the key for a provider's model at an address, None where litellm finds it itself.
    """
    try:
        optional = {"api_base": request.api_base, "api_key": key(request.model, request.api_base)}
        async with asyncio.timeout(request.timeout):
            answer = await litellm.aembedding(
                model=request.model,
                input=[*request.texts],
                timeout=request.timeout,
                num_retries=0,
                max_retries=0,
                encoding_format="float",
                **{name: value for name, value in optional.items() if value is not None},
            )
        return _packed(answer.model_dump(warnings=False), len(request.texts))
    except TimeoutError:
        failure = failed(FailureKind.TIMEOUT, f"The embedding was not there after {request.timeout:g} s.")
    except _Odd as error:
        failure = failed(FailureKind.SERVER, str(error))
    except Exception as error:  # noqa: BLE001 - whatever a provider's client raises is classified, never lost
        failure = classify(error, os.environ)
    return {"failure": failure.model_dump(mode="json")}


class _Odd(Exception):
    """The answer is not one vector for each text."""


def _packed(answer: JsonObject, count: int) -> JsonObject:
    rows = answer.get("data")
    found: dict[int, Sequence[float]] = {}
    for at, row in enumerate(rows if isinstance(rows, list) else []):
        vector = row.get("embedding") if isinstance(row, dict) else None
        place = row.get("index", at) if isinstance(row, dict) else at
        if isinstance(vector, list) and isinstance(place, int):
            found[place] = [float(str(value)) for value in vector]
    sizes = {len(vector) for vector in found.values()}
    if sorted(found) != list(range(count)) or len(sizes) != 1 or not 1 <= min(sizes) <= MAX_DIMENSIONS:
        raise _Odd(f"The server did not answer with one vector for each of {count} texts.")
    flat = array("f", (value for at in range(count) for value in found[at]))
    if not all(map(math.isfinite, flat)):
        raise _Odd("The server answered with numbers that are not finite.")
    usage = answer.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else 0
    return Embeddings(
        dimensions=min(sizes),
        vectors=base64.b64encode(flat.tobytes()).decode(),
        tokens=tokens if isinstance(tokens, int) else 0,
    ).model_dump(mode="json")
