"""The language of model calls: messages, tool calls, and the normalised stream that every backend gives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from codeforge_ls.model.base import Frozen, JsonObject


class ToolRequest(Frozen):
    """A tool call as the model wrote it; ``arguments`` is the raw JSON text, not yet trusted."""

    id: str
    name: str
    arguments: str


class Message(Frozen):
    """One message of a conversation in chat-completions order."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: tuple[ToolRequest, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


class ToolSchema(Frozen):
    """A tool as offered to the model."""

    name: str
    description: str
    parameters: JsonObject


class ModelRequest(Frozen):
    """One call of a model. The deadlines are in seconds: to the first token, between tokens, and in all."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...] = ()
    api_base: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    first_token_timeout: float = 60
    idle_timeout: float = 60
    total_timeout: float = 600
    request_id: str = ""


class TextDelta(Frozen):
    """A piece of the answer's text, or of the reasoning."""

    type: Literal["text"] = "text"
    text: str
    reasoning: bool = False


class Usage(Frozen):
    """Tokens and money of one call. ``source``: provider, estimated or unknown. Cost None: no price known."""

    tokens_in: int = 0
    tokens_out: int = 0
    cached_tokens: int = 0
    source: Literal["provider", "estimated", "unknown"] = "unknown"
    cost_nano_usd: int | None = None
    cost_source: Literal["header", "usage", "computed", "unknown"] = "unknown"


class TurnDone(Frozen):
    """The end of a turn. Tool calls are complete only when ``complete``: the finish reason really arrived."""

    type: Literal["done"] = "done"
    text: str = ""
    tool_calls: tuple[ToolRequest, ...] = ()
    finish_reason: str = ""
    complete: bool
    usage: Usage = Usage()
    model: str = Field(default="", description="The model that answered, as the provider names it")
    provider_id: str = ""
    attempts: int = 1


class TurnFailed(Frozen):
    """The call failed for good. ``kind``: auth, quota, rate_limit, context, refused, timeout, network, server,
    incomplete, empty, bad_request, not_found, configuration, circuit_open, worker."""

    type: Literal["failed"] = "failed"
    kind: str
    message: str
    status: int | None = None
    retryable: bool = False
    retry_after: float | None = None
    attempts: int = 1


class TurnRetry(Frozen):
    """The call failed and is tried again in ``delay`` seconds; what was streamed so far is void."""

    type: Literal["retry"] = "retry"
    attempt: int
    delay: float
    kind: str
    message: str


TurnEvent = Annotated[TextDelta | TurnRetry | TurnDone | TurnFailed, Field(discriminator="type")]


class EmbeddingRequest(Frozen):
    """Texts whose vectors are wanted; ``timeout`` in seconds."""

    model: str
    texts: tuple[str, ...]
    api_base: str | None = None
    timeout: float = 60


class Embeddings(Frozen):
    """One vector for each text: little-endian float32, row after row, in base64; or why there is none."""

    dimensions: int = 0
    vectors: str = ""
    tokens: int = 0
    failure: TurnFailed | None = None
