"""One model worker for all tests of this room (importing litellm costs seconds), and a way to play one turn."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from codeforge_ls.llm.backend import LitellmBackend
from codeforge_ls.llm.breaker import CircuitBreaker
from codeforge_ls.llm.retry import RetryPolicy
from codeforge_ls.llm.scripted import ScriptedServer
from codeforge_ls.model.llm import Message, ModelRequest, TextDelta, ToolSchema, TurnEvent

READ = ToolSchema(
    name="Read",
    description="Read a file",
    parameters={"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
)
Play = Callable[..., Awaitable[list[TurnEvent]]]


def request_to(server: ScriptedServer | str, **fields: object) -> ModelRequest:
    """A request with one user message, the tool Read and short deadlines."""
    base = server if isinstance(server, str) else server.base_url
    return ModelRequest.model_validate(
        {
            "model": "openai/gpt-4o-mini",
            "messages": (Message(role="user", content="Fix it."),),
            "tools": (READ,),
            "api_base": base,
            "first_token_timeout": 5.0,
            "idle_timeout": 5.0,
            "total_timeout": 20.0,
            **fields,
        }
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def backend() -> AsyncIterator[LitellmBackend]:
    """The real backend with its real worker; no real keys, quick retries, a short cool-down."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    environment |= {"ANTHROPIC_API_KEY": "not-a-real-key", "GEMINI_API_KEY": "not-a-real-key"}
    backend = LitellmBackend(
        env=environment, retry=RetryPolicy(base=0.02), new_breaker=lambda: CircuitBreaker(cool_down=0.5)
    )
    await backend.warm()
    with ScriptedServer([{"say": "Warm."}]) as server:  # the first call loads more than the import does
        request = request_to(server, first_token_timeout=60.0, total_timeout=90.0)
        assert [event.type async for event in backend.stream(request)][-1] == "done"
    yield backend
    await backend.close()


@pytest.fixture
def make_request() -> Callable[..., ModelRequest]:
    """Builds requests."""
    return request_to


@pytest.fixture
def play(backend: LitellmBackend) -> Play:
    """Plays one turn and returns all its events but text, which is checked to be what the end says."""

    async def run(server: ScriptedServer | str, **fields: object) -> list[TurnEvent]:
        events = [event async for event in backend.stream(request_to(server, **fields))]
        return [event for event in events if not isinstance(event, TextDelta)]

    return run
