"""The commands: each is an operation of the catalogue under the name ``codeforge.<operation>``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from codeforge_ls.lsp.errors import INVALID_PARAMS, Refusal
from codeforge_ls.lsp.policy_lens import TRY
from codeforge_ls.lsp.progress import ProgressBars, Token
from codeforge_ls.model.base import JsonObject, JsonValue

if TYPE_CHECKING:
    from pygls.lsp.server import LanguageServer

    from codeforge_ls.lsp.events import EventFeed
    from codeforge_ls.lsp.policy_lens import PolicyLens

PREFIX = "codeforge."

# Written out: the catalogue itself is imported after ``initialize`` is answered. A test compares the two.
OPERATIONS = (
    "search",
    "repomap",
    "code.read",
    "symbol.info",
    "symbol.find",
    "index.build",
    "index.status",
    "index.skipped",
    "index.explain",
    "graph.search",
    "graph.owners",
    "symbol.calls",
    "run.start",
    "run.get",
    "run.events",
    "run.list",
    "run.cancel",
    "run.resume",
    "plan.start",
    "plan.get",
    "plan.list",
    "plan.cancel",
    "edits.apply",
    "checkpoint.list",
    "checkpoint.restore",
    "checkpoint.diff",
    "policy.list",
    "policy.get",
    "policy.explain",
    "policy.try",
    "policy.schema",
    "policy.save",
    "policy.delete",
    "policy.always",
    "policy.forget",
    "trust.show",
    "trust.grant",
    "trust.revoke",
    "approval.list",
    "approval.answer",
    "keys.list",
    "keys.set",
    "audit.list",
    "audit.page",
    "audit.verify",
    "events.verify",
    "events.drop",
    "health",
    "config.get",
    "config.reload",
    "workspace.stop",
)
NAMES = [PREFIX + name for name in OPERATIONS]
STARTED = {"run.start": ("run", "run_id"), "run.resume": ("run", "run_id"), "plan.start": ("plan", "plan_id")}

Report = Callable[[float | None, str], None]
CallOperation = Callable[[str, JsonValue, Report | None], Awaitable[JsonObject]]
Command = Callable[[JsonValue, Token | None], Awaitable[JsonObject]]


class Commands:
    """``workspace/executeCommand``. ``call`` runs an operation for the person at this editor."""

    def __init__(self, call: CallOperation, bars: ProgressBars, feed: EventFeed, lens: PolicyLens) -> None:
        self._call, self._bars, self._feed, self._lens = call, bars, feed, lens
        self._commands: dict[str, Command] = {PREFIX + name: self._command(name) for name in OPERATIONS}

    def offer(self, server: LanguageServer) -> None:
        """Register the requests that carry the commands, and those that have a method of their own."""

        @server.feature(types.WORKSPACE_EXECUTE_COMMAND)
        async def execute_command(params: JsonObject) -> JsonObject:
            name = params.get("command")
            command = self._commands.get(name) if isinstance(name, str) else None
            if command is None:
                known: list[JsonValue] = list(self._commands)
                raise Refusal(INVALID_PARAMS, f"There is no command {str(name)[:100]!r}", {"commands": known})
            return await command(_one(params.get("arguments")), token_of(params))

        @server.feature("codeforge/run/events")
        async def run_events(params: JsonObject) -> JsonObject:
            return await self._call("run.events", params, None)

    def _command(self, name: str) -> Command:
        async def command(argument: JsonValue, token: Token | None) -> JsonObject:
            if name in STARTED:
                return await self._start(name, argument, token)
            if name == TRY:
                trial = await self._call(name, await self._lens.with_text(argument), None)
                self._lens.show(trial)
                return trial
            if token is None:
                return await self._call(name, argument, None)
            return await self._with_bar(name, argument, token)

        return command

    async def _start(self, name: str, argument: JsonValue, token: Token | None) -> JsonObject:
        """The answer is the id; the bar under the caller's token lives as long as what was started."""
        result = await self._call(name, argument, None)
        kind, field = STARTED[name]
        if token is not None:
            self._feed.follow(f"{kind}:{result.get(field)}", token)
        return result

    async def _with_bar(self, name: str, argument: JsonValue, token: Token) -> JsonObject:
        task = asyncio.current_task()
        on_cancel: Callable[[], Any] | None = task.cancel if task is not None else None
        bar = self._bars.start(f"CodeForge: {name}", token=token, on_cancel=on_cancel)
        try:
            return await self._call(name, argument, bar.report)
        finally:
            bar.end("")


def token_of(params: JsonObject) -> Token | None:
    """The ``workDoneToken`` of a request."""
    token = params.get("workDoneToken")
    return token if isinstance(token, (int, str)) and not isinstance(token, bool) else None


def _one(arguments: JsonValue) -> JsonValue:
    """The one object of a command's arguments; none counts as empty."""
    if arguments is None or arguments == []:
        return {}
    if isinstance(arguments, list) and len(arguments) == 1 and isinstance(arguments[0], dict | None):
        return arguments[0] or {}
    raise Refusal(INVALID_PARAMS, "A command takes one object as its only argument")
