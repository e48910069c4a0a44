"""A conversation as the wire wants it: the order checked, every message a chat-completions object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.llm import Message, ToolRequest, ToolSchema


def order_problem(messages: Sequence[Message]) -> str | None:
    """Why a provider would refuse this order, or None: each call answered once, right after it."""
    open_calls: set[str] = set()
    for number, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                return (
                    f"message {number} is the result of a tool call that was not made or is already answered"
                )
            open_calls.discard(message.tool_call_id)
            continue
        if open_calls:
            return f"message {number} comes before the results of {len(open_calls)} tool call(s)"
        ids = [call.id for call in message.tool_calls]
        if len(ids) != len(set(ids)):
            return f"message {number} has two tool calls of the same id"
        open_calls = set(ids)
    if open_calls:
        return f"{len(open_calls)} tool call(s) at the end have no result"
    return None if messages else "there is no message"


def chat_messages(messages: Iterable[Message]) -> list[JsonObject]:
    """The messages in chat-completions form."""
    return [_chat_message(message) for message in messages]


def _chat_message(message: Message) -> JsonObject:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if message.tool_calls:
        calls: list[JsonObject] = [_chat_call(call) for call in message.tool_calls]
        return {"role": message.role, "content": message.content or None, "tool_calls": [*calls]}
    named: JsonObject = {"name": message.name} if message.name else {}
    return {"role": message.role, "content": message.content, **named}


def _chat_call(call: ToolRequest) -> JsonObject:
    arguments = call.arguments
    try:
        sound = isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        sound = False
    if not sound:  # providers that parse the history refuse it whole because of one malformed call
        arguments = json.dumps({"malformed_arguments": arguments})
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def chat_tools(tools: Iterable[ToolSchema]) -> list[JsonObject]:
    """The tools in chat-completions form."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in tools
    ]
