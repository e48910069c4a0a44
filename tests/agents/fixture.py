"""What the official MCP conformance suite calls by name, added to our own server object.

The suite does not test a product's tools: it calls tools, resources and prompts with fixed names. What it meets on the
way to them (door, guards, sessions, the SDK as we set it up) is ours.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Annotated, Any

from mcp import types as t
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, Field, create_model

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="


def form(message: str, **props: str) -> t.ElicitRequest:
    schema = {
        "type": "object",
        "properties": {k: {"type": v} for k, v in props.items()},
        "required": list(props),
    }
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(text: str) -> t.CreateMessageRequest:
    message = t.SamplingMessage(role="user", content=t.TextContent(type="text", text=text))
    return t.CreateMessageRequest(params=t.CreateMessageRequestParams(messages=[message], max_tokens=64))


def embedded(uri: str, text: str, mime: str = "text/plain") -> t.EmbeddedResource:
    return t.EmbeddedResource(
        type="resource", resource=t.TextResourceContents(uri=uri, mime_type=mime, text=text)
    )


def field_of(ctx: Context, key: str, name: str) -> Any:
    answer = (ctx.input_responses or {}).get(key)
    return (answer.content or {}).get(name) if isinstance(answer, t.ElicitResult) else None


def install(server: MCPServer) -> MCPServer:
    tool, resource, prompt = server.tool, server.resource, server.prompt

    # ---- plain content -------------------------------------------------------------------------
    @tool()
    def test_simple_text() -> str:
        """Plain text."""
        return "This is a simple text response for testing."

    @tool()
    def test_image_content() -> list[t.ImageContent]:
        """One image."""
        return [t.ImageContent(type="image", data=PNG, mime_type="image/png")]

    @tool()
    def test_audio_content() -> list[t.AudioContent]:
        """One audio clip."""
        return [t.AudioContent(type="audio", data=WAV, mime_type="audio/wav")]

    @tool()
    def test_embedded_resource() -> list[t.EmbeddedResource]:
        """One embedded resource."""
        return [embedded("test://embedded-resource", "This is an embedded resource content.")]

    @tool()
    def test_multiple_content_types() -> list[t.TextContent | t.ImageContent | t.EmbeddedResource]:
        """Text, image and resource in one result."""
        return [
            t.TextContent(type="text", text="Multiple content types test:"),
            t.ImageContent(type="image", data=PNG, mime_type="image/png"),
            embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
        ]

    @tool()
    def test_error_handling() -> str:
        """Always fails."""
        raise RuntimeError("This tool intentionally returns an error for testing")

    # ---- notifications ---------------------------------------------------------------------------
    @tool()
    async def test_tool_with_logging(ctx: Context) -> str:
        """Three log notifications."""
        for word in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(word)
            await asyncio.sleep(0.05)
        return "ok"

    @tool()
    async def test_tool_with_progress(ctx: Context) -> str:
        """Three progress notifications."""
        for step in (0, 50, 100):
            await ctx.report_progress(progress=step, total=100, message=f"step {step}")
            await asyncio.sleep(0.05)
        return "ok"

    @tool()
    async def test_reconnection(ctx: Context) -> str:
        """Closes its SSE stream midway (2025 era)."""
        await ctx.info("before")
        await ctx.close_sse_stream()
        await asyncio.sleep(0.2)
        await ctx.info("after")
        return "Reconnection test completed"

    @tool()
    async def test_trigger_tool_change(ctx: Context) -> str:
        """Announces tools/list_changed."""
        await ctx.notify_tools_changed()
        return "ok"

    @tool()
    async def test_trigger_prompt_change(ctx: Context) -> str:
        """Announces prompts/list_changed."""
        await ctx.notify_prompts_changed()
        return "ok"

    # ---- 2025-era server-to-client requests ------------------------------------------------------
    @tool()
    async def test_sampling(prompt: str, ctx: Context) -> str:
        """Push sampling."""
        message = t.SamplingMessage(role="user", content=t.TextContent(type="text", text=prompt))
        got = await ctx.session.create_message(
            messages=[message], max_tokens=64, related_request_id=ctx.request_id
        )
        return f"LLM response: {getattr(got.content, 'text', '?')}"

    async def ask(ctx: Context, message: str, model: type[BaseModel]) -> str:
        got = await ctx.elicit(message=message, schema=model)
        data = got.data.model_dump_json() if got.action == "accept" else "{}"
        return f"action={got.action}, content={data}"

    @tool()
    async def test_elicitation(message: str, ctx: Context) -> str:
        """Push elicitation."""
        return await ask(
            ctx, message, create_model("Answer", response=(str, Field(description="User's response")))
        )

    defaults = create_model(
        "Defaults",
        name=(str, Field("John Doe")),
        age=(int, Field(30)),
        score=(float, Field(95.5)),
        status=(str, Field("active", json_schema_extra={"enum": ["active", "inactive", "pending"]})),
        verified=(bool, Field(True)),
    )

    @tool()
    async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
        """Elicitation with a default for every primitive."""
        return await ask(ctx, "Please provide user information", defaults)

    def extra(value: dict[str, Any]) -> Any:
        return Field(json_schema_extra=value)

    titled = [{"const": c, "title": c.title()} for c in ("low", "medium", "high")]
    enums = create_model(
        "Enums",
        untitledSingle=(str, extra({"enum": ["active", "inactive", "pending"]})),
        titledSingle=(str, extra({"oneOf": titled})),
        untitledMulti=(list[str], extra({"items": {"type": "string", "enum": ["read", "write", "execute"]}})),
        titledMulti=(list[str], extra({"items": {"anyOf": titled}})),
        legacyEnum=(str, extra({"enum": ["small", "large"], "enumNames": ["Small Size", "Large Size"]})),
    )

    @tool()
    async def test_elicitation_sep1330_enums(ctx: Context) -> str:
        """Elicitation with every enum form."""
        return await ask(ctx, "Please select", enums)

    # ---- schema and header fixtures ----------------------------------------------------------------
    @tool()
    def test_x_mcp_header(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "<none>",
    ) -> str:
        """A parameter mirrored into an HTTP header."""
        return f"region={region}"

    @tool()
    async def test_missing_capability(ctx: Context) -> str:
        """Needs the client's sampling capability."""
        caps = ctx.client_capabilities
        if caps is None or caps.sampling is None:
            raise MCPError(
                t.MISSING_REQUIRED_CLIENT_CAPABILITY,
                "sampling needed",
                {"requiredCapabilities": {"sampling": {}}},
            )
        return "ok"

    @tool()
    def json_schema_2020_12_tool() -> str:
        """Its input schema carries 2020-12 keywords."""
        return "ok"

    # No public input_schema= override in 2.3.0: patch the registered tool.
    server._tool_manager._tools["json_schema_2020_12_tool"].parameters = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    }

    # ---- 2026-07-28 multi-round-trip requests -------------------------------------------------------
    needed = t.InputRequiredResult

    @tool()
    async def test_input_required_result_elicitation(ctx: Context) -> str | t.InputRequiredResult:
        """Asks for a name."""
        name = field_of(ctx, "user_name", "name")
        return (
            f"Hello, {name}!"
            if name
            else needed(input_requests={"user_name": form("What is your name?", name="string")})
        )

    @tool()
    async def test_input_required_result_sampling(ctx: Context) -> str | t.InputRequiredResult:
        """Asks the client's model."""
        got = (ctx.input_responses or {}).get("capital_question")
        if isinstance(got, t.CreateMessageResult):
            return f"Model said: {getattr(got.content, 'text', '?')}"
        return needed(input_requests={"capital_question": sample("What is the capital of France?")})

    @tool()
    async def test_input_required_result_list_roots(ctx: Context) -> str | t.InputRequiredResult:
        """Asks for roots."""
        got = (ctx.input_responses or {}).get("client_roots")
        if isinstance(got, t.ListRootsResult):
            return f"{len(got.roots)} root(s)"
        return needed(input_requests={"client_roots": t.ListRootsRequest()})

    @tool()
    async def test_input_required_result_request_state(ctx: Context) -> str | t.InputRequiredResult:
        """State must come back intact."""
        if ctx.request_state == "nonce-1" and field_of(ctx, "confirm", "ok") is not None:
            return "state-ok"
        return needed(
            input_requests={"confirm": form("Please confirm", ok="boolean")}, request_state="nonce-1"
        )

    @tool()
    async def test_input_required_result_multiple_inputs(ctx: Context) -> str | t.InputRequiredResult:
        """Three questions at once."""
        if {"user_name", "greeting", "client_roots"} <= set(ctx.input_responses or {}):
            return "All inputs received."
        wanted = {
            "user_name": form("Name?", name="string"),
            "greeting": sample("Greet"),
            "client_roots": t.ListRootsRequest(),
        }
        return needed(input_requests=wanted, request_state="multi")

    @tool()
    async def test_input_required_result_multi_round(ctx: Context) -> str | t.InputRequiredResult:
        """Two questions, one after another."""
        state = json.loads(ctx.request_state or "{}")
        if state.get("round") == 2 and (color := field_of(ctx, "step2", "color")):
            return f"{state['name']} likes {color}."
        if state.get("round") == 1 and (name := field_of(ctx, "step1", "name")):
            nxt = json.dumps({"round": 2, "name": name})
            return needed(input_requests={"step2": form("Step 2: color?", color="string")}, request_state=nxt)
        return needed(
            input_requests={"step1": form("Step 1: name?", name="string")}, request_state='{"round": 1}'
        )

    @tool()
    async def test_input_required_result_tampered_state(ctx: Context) -> str | t.InputRequiredResult:
        """A tampered state must be refused by the server's seal."""
        if ctx.request_state is not None:
            return "state-ok"
        return needed(
            input_requests={"confirm": form("Please confirm", ok="boolean")}, request_state="round-1"
        )

    @tool()
    async def test_input_required_result_capabilities(ctx: Context) -> t.InputRequiredResult:
        """Only asks what the client can answer."""
        caps, wanted = ctx.client_capabilities, {}
        if caps is None or caps.sampling is not None:
            wanted["sample"] = sample("Say hello")
        if caps is None or caps.elicitation is not None:
            wanted["ask"] = form("Name?", name="string")
        return needed(input_requests=wanted, request_state="gated")

    # ---- resources ------------------------------------------------------------------------------------
    @resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PNG)

    @resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        return "Watched resource content"

    # ---- prompts --------------------------------------------------------------------------------------
    def say(text: str) -> UserMessage:
        return UserMessage(role="user", content=t.TextContent(type="text", text=text))

    @prompt()
    def test_simple_prompt() -> list[UserMessage]:
        """No arguments."""
        return [say("This is a simple prompt for testing.")]

    @prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
        """Two arguments."""
        return [say(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]

    @prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803
        """Embeds a resource."""
        body = embedded(resourceUri, "Embedded resource content for testing.")
        return [UserMessage(role="user", content=body), say("Please process the embedded resource above.")]

    @prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """Carries an image."""
        image = t.ImageContent(type="image", data=PNG, mime_type="image/png")
        return [UserMessage(role="user", content=image), say("Please analyze the image above.")]

    @prompt()
    async def test_input_required_result_prompt(ctx: Context) -> list[UserMessage] | t.InputRequiredResult:
        """A prompt that asks first."""
        context = field_of(ctx, "user_context", "context")
        if context:
            return [say(f"Use the following context: {context}")]
        return needed(input_requests={"user_context": form("What context?", context="string")})

    # ---- methods MCPServer 2.3.0 does not serve by itself ------------------------------------------------
    low = server._lowlevel_server
    watching: set[str] = set()

    async def set_level(ctx, params) -> t.EmptyResult:
        return t.EmptyResult()

    async def subscribe(ctx, params) -> t.EmptyResult:
        watching.add(str(params.uri))
        return t.EmptyResult()

    async def unsubscribe(ctx, params) -> t.EmptyResult:
        watching.discard(str(params.uri))
        return t.EmptyResult()

    for method, params_type, handler in (
        ("logging/setLevel", t.SetLevelRequestParams, set_level),
        ("resources/subscribe", t.SubscribeRequestParams, subscribe),
        ("resources/unsubscribe", t.UnsubscribeRequestParams, unsubscribe),
    ):
        if low.get_request_handler(method) is None:
            low.add_request_handler(method, params_type, handler)

    @server.completion()
    async def complete(ref, argument, context) -> t.Completion:
        return t.Completion(values=["paris", "park"], total=2, has_more=False)

    return server
