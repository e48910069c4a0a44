"""The script of the scripted model: which turn it plays next, told from the conversation alone."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from codeforge_ls.model.base import Frozen, JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput

# Tool calls of ``when`` turns carry this in their ids, so that their results do not count as steps.
ASIDE = "call_aside_"
_FIRED_LIMIT = 10_000
_TEMPLATE = re.compile(r"\{\{\s*(last_result|task)\s*(?:\|(.*?))?\}\}", re.DOTALL)


class Fault(StrEnum):
    """Ways in which real servers fail; each is played over the real socket."""

    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    AUTH = "auth"
    NOT_FOUND = "not_found"
    ERROR_500 = "error_500"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    CONTEXT = "context"
    POLICY = "policy"
    REFUSE = "refuse"
    RESET = "reset"
    CUT = "cut"
    NO_FINISH = "no_finish"
    CUT_TOOL = "cut_tool"
    HANG = "hang"
    DRIP = "drip"
    KEEPALIVE = "keepalive"
    GARBAGE = "garbage"
    ERROR_IN_STREAM = "error_in_stream"
    EMPTY_BODY = "empty_body"
    BAD_UTF8 = "bad_utf8"


class ScriptedCall(Frozen):
    """One tool call. ``arguments`` is a JSON object, or the raw text to send in its place."""

    tool: str
    arguments: JsonValue = Field(default_factory=dict)


class ScriptedTurn(Frozen):
    """One answer: text, tool calls, both, a fault, or raw chunks."""

    say: str = ""
    tool: str | None = Field(default=None, description="Short for one entry in ``tools``, with ``arguments``")
    arguments: JsonValue = Field(default_factory=dict)
    tools: tuple[ScriptedCall, ...] = ()
    fault: Fault | None = Field(
        default=None, description="Fails ``times`` times; then the next turn is played"
    )
    chunks: tuple[JsonObject, ...] | None = Field(default=None, description="Sent as they are, then [DONE]")
    when: str | None = Field(default=None, description="Played whenever this regex is in the last message")
    times: Annotated[int, Field(ge=0, le=1000)] = 1
    repeat: Annotated[int, Field(ge=1, le=1000)] = 1
    delay: Annotated[float, Field(ge=0, le=10, description="Seconds between two pieces")] = 0
    retry_after: Annotated[float, Field(ge=0, le=3600)] = 1
    finish: str | None = Field(default=None, description="Finish reason other than the usual one")
    usage: JsonObject | None = Field(default=None, description="Merged over the counted usage; {} sends none")

    @property
    def calls(self) -> tuple[ScriptedCall, ...]:
        """All tool calls of the turn."""
        short = (ScriptedCall(tool=self.tool, arguments=self.arguments),) if self.tool else ()
        return (*short, *self.tools)

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if self.when is not None:
            re.compile(self.when)
        if not (self.say or self.calls or self.fault or self.chunks is not None or self.finish):
            raise ValueError("a turn needs one of say, tool, tools, fault, chunks")
        return self


class ScriptedTask(Frozen):
    """Turns for the conversations whose user messages match ``task``."""

    task: str
    turns: tuple[ScriptedTurn, ...]

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        re.compile(self.task)
        return self


_SCRIPT = TypeAdapter(tuple[ScriptedTurn, ...] | tuple[ScriptedTask, ...])
_OVER = ScriptedTurn(say="Done.")


class Script:
    """A list of turns, or of ``{task, turns}``. Safe to ask from several threads.

    The place in the script is the number of tool results and plain answers in the conversation, so several
    runs can play it at the same time and none needs a session. After the last turn it says "Done.".
    """

    def __init__(self, source: JsonValue | Sequence[JsonObject]) -> None:
        try:
            entries = _SCRIPT.validate_python(source)
        except (ValidationError, re.error) as error:
            raise InvalidInput(f"The script is not valid: {error}") from error
        self._tasks: list[tuple[str, tuple[ScriptedTurn, ...]]] = []
        turns = tuple(entry for entry in entries if isinstance(entry, ScriptedTurn))
        self._tasks += [(entry.task, entry.turns) for entry in entries if isinstance(entry, ScriptedTask)]
        if turns:
            self._tasks.append(("", turns))
        self._fired: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a script file. Raises ``InvalidInput``."""
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise InvalidInput(f"Cannot read the script {path}: {error}") from error

    def answer(self, messages: list[JsonObject]) -> ScriptedTurn:
        """The turn to play now, its templates filled in."""
        said = "\n".join(_text(message) for message in messages if message.get("role") == "user")
        turns = next((turns for task, turns in self._tasks if re.search(task, said)), ())
        last = next((m for m in reversed(messages) if m.get("role") in {"user", "tool"}), {})
        for turn in turns:
            if turn.when is not None and re.search(turn.when, _text(last)):
                return _filled(turn, messages, said)
        return _filled(self._at_step(turns, messages, said), messages, said)

    def _at_step(self, turns: Sequence[ScriptedTurn], messages: list[JsonObject], said: str) -> ScriptedTurn:
        results = sum(
            message.get("role") == "tool" and not str(message.get("tool_call_id")).startswith(ASIDE)
            for message in messages
        )
        plain = sum(m.get("role") == "assistant" and not m.get("tool_calls") for m in messages)
        steps = itertools.chain.from_iterable([turn] * turn.repeat for turn in turns if turn.when is None)
        pending: list[tuple[int, ScriptedTurn]] = []
        for number, turn in enumerate(steps):
            if turn.fault:
                pending.append((number, turn))
                continue
            if not (plain if not turn.calls else results >= len(turn.calls)):
                return self._fault(pending, said) or turn
            pending.clear()
            results -= len(turn.calls)
            plain -= not turn.calls
        return self._fault(pending, said) or _OVER

    def _fault(self, pending: list[tuple[int, ScriptedTurn]], said: str) -> ScriptedTurn | None:
        """The first of these faults that has not failed often enough in this conversation."""
        conversation = hashlib.sha256(said.encode(errors="replace")).hexdigest()
        with self._lock:
            if len(self._fired) > _FIRED_LIMIT:
                self._fired.clear()
            for number, turn in pending:
                if turn.times == 0 or self._fired[conversation, number] < turn.times:
                    self._fired[conversation, number] += 1
                    return turn
        return None


def _text(message: JsonObject) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _filled(turn: ScriptedTurn, messages: list[JsonObject], said: str) -> ScriptedTurn:
    results = [_text(message) for message in messages if message.get("role") == "tool"]
    values = {"last_result": results[-1] if results else "", "task": said}
    calls = tuple(
        ScriptedCall(tool=call.tool, arguments=_fill(call.arguments, values)) for call in turn.calls
    )
    return turn.model_copy(update={"tool": None, "tools": calls, "say": str(_fill(turn.say, values))})


def _fill(value: JsonValue, values: dict[str, str]) -> JsonValue:
    """``{{last_result}}``, ``{{task}}``, or ``{{last_result|REGEX}}`` for its first group or match."""
    if isinstance(value, dict):
        return {key: _fill(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, values) for item in value]
    if not isinstance(value, str):
        return value
    return _TEMPLATE.sub(lambda found: _cut(values[found[1]], found[2]), value)


def _cut(text: str, pattern: str | None) -> str:
    if pattern is None:
        return text
    found = re.search(pattern, text)
    return "" if found is None else (found[1] if found.re.groups else found[0]) or ""
