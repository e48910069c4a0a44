"""One turn put together from the pieces of a stream: text, tool calls, and whether it is whole."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from codeforge_ls.llm.failures import FailureKind, failed
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.llm import TextDelta, ToolRequest, TurnDone, TurnFailed, Usage

MAX_TEXT = 5_000_000  # characters of answer and reasoning together
MAX_ARGUMENTS = 2_000_000  # characters of arguments of all calls together
MAX_CALLS = 128
MAX_ID = 16_384  # litellm hides Gemini's thought signatures in the id, so it may be long

# Control characters have no place in a model's prose: an escape sequence would drive the reader's terminal.
_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\r"}
_NO_NUL = {0: "\ufffd"}


class TooLarge(Exception):
    """The answer passed a cap; nothing more of it is read."""


def whole_characters(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class TextCleaner:
    """Cleans streamed text; a pair cut between two pieces is joined, so half of one is held back."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be shown now."""
        text, self._held = self._held + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return whole_characters(text).translate(_CONTROLS)

    def flush(self) -> str:
        """What is left at the end."""
        held, self._held = self._held, ""
        return whole_characters(held)


@dataclass
class _Call:
    index: JsonValue
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    def takes(self, call_id: str, name: str, arguments: str) -> bool:
        """Whether a delta at this call's index continues it. Some servers give every call the index 0."""
        if call_id and self.id and call_id != self.id:
            return False
        return not (name and self.name and arguments.lstrip().startswith("{") and self._whole())

    def _whole(self) -> bool:
        try:
            return isinstance(json.loads("".join(self.pieces)), dict)
        except (ValueError, RecursionError):
            return False


class TurnBuilder:
    """Takes the chunks of one stream in order. ``used_ids``: ids of the calls already in the conversation."""

    def __init__(self, used_ids: Iterable[str] = ()) -> None:
        self.model = ""
        self.provider_id = ""
        self._used_ids = set(used_ids)
        self._text: list[str] = []
        self._calls: list[_Call] = []
        self._refusal = ""
        self._text_size = self._argument_size = 0
        self._cleaners = {False: TextCleaner(), True: TextCleaner()}

    def add(self, chunk: JsonObject) -> tuple[list[TextDelta], bool]:
        """Take one chunk: the text to show, and whether it brought anything at all (a keep-alive does not).

        Raises ``TooLarge`` at a cap.
        """
        self.model = self.model or _text(chunk.get("model"))
        self.provider_id = self.provider_id or _text(chunk.get("id"))
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return [], bool(chunk.get("usage"))
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        shown = [
            *self._take_text(_text(delta.get("reasoning_content")), reasoning=True),
            *self._take_text(_text(delta.get("content")), reasoning=False),
        ]
        refusal = _text(delta.get("refusal"))
        self._refusal += refusal[: 10_000 - len(self._refusal)]
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            if isinstance(call, dict):
                self._take_call(call)
        return shown, bool(shown or calls or refusal or choice.get("finish_reason"))

    def _take_text(self, text: str, *, reasoning: bool) -> list[TextDelta]:
        if not text:
            return []
        room = MAX_TEXT - self._text_size
        if room <= 0:
            raise TooLarge
        self._text_size += len(text)
        clean = self._cleaners[reasoning].feed(text[:room])
        if not reasoning:
            self._text.append(clean)
        return [TextDelta(text=clean, reasoning=reasoning)] if clean else []

    def _take_call(self, delta: JsonObject) -> None:
        function = delta.get("function")
        function = function if isinstance(function, dict) else {}
        call_id, name = _text(delta.get("id")), _text(function.get("name"))
        arguments = function.get("arguments")
        piece = (
            arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)
        )
        self._argument_size += len(piece)
        if self._argument_size > MAX_ARGUMENTS or len(self._calls) >= MAX_CALLS:
            raise TooLarge
        index = delta.get("index")
        call = next((known for known in reversed(self._calls) if known.index == index), None)
        if call is None or not call.takes(call_id, name, piece):
            call = _Call(index)
            self._calls.append(call)
        call.id, call.name = call.id or call_id, call.name or name
        call.pieces.append(piece)

    def close(self, finish_reason: str | None, usage: Usage) -> tuple[list[TextDelta], TurnDone | TurnFailed]:
        """The rest of the text, and the verdict. ``finish_reason``: the provider's own, None if none came.

        Without one the turn is not complete and has no tool calls, however whole they look.
        """
        rest = [
            TextDelta(text=text, reasoning=kind) for kind, c in self._cleaners.items() if (text := c.flush())
        ]
        self._text += [delta.text for delta in rest if not delta.reasoning]
        return rest, self._verdict(finish_reason, usage)

    def _verdict(self, finish_reason: str | None, usage: Usage) -> TurnDone | TurnFailed:
        text = "".join(self._text)
        if finish_reason is None:
            return self._done("", (), usage, complete=False)
        if finish_reason == "content_filter" or (self._refusal and not text and not self._calls):
            return failed(
                FailureKind.REFUSED, _clean(self._refusal) or "The provider's filter stopped the answer."
            )
        if finish_reason == "length":  # the last call may be cut anywhere, even where it still parses
            return self._done("length", (), usage)
        announced = finish_reason in {"tool_calls", "function_call"}
        if any(not call.name for call in self._calls) or (announced and not self._calls):
            return failed(FailureKind.EMPTY, "The model announced a tool call but did not name the tool.")
        return self._done(finish_reason, self._requests(), usage)

    def too_large(self, usage: Usage) -> TurnDone:
        """The end of a turn that passed a cap: not complete, its calls dropped."""
        return self._done("too_large", (), usage, complete=False)

    def _done(
        self, reason: str, calls: tuple[ToolRequest, ...], usage: Usage, *, complete: bool = True
    ) -> TurnDone:
        return TurnDone(
            text="".join(self._text),
            tool_calls=calls,
            finish_reason=_clean(reason)[:200],
            complete=complete,
            usage=usage,
            model=_clean(self.model)[:200],
            provider_id=_clean(self.provider_id)[:200],
        )

    def _requests(self) -> tuple[ToolRequest, ...]:
        """The calls, each under an id that no other call of the conversation has."""
        requests = []
        for call in self._calls:
            call_id = _clean(call.id)
            if not call_id or call_id in self._used_ids or len(call_id) > MAX_ID:
                call_id = f"call_{secrets.token_hex(8)}"
            self._used_ids.add(call_id)
            arguments = whole_characters("".join(call.pieces)).translate(_NO_NUL)
            requests.append(
                ToolRequest(id=call_id, name=_clean(call.name)[:200], arguments=arguments.strip() or "{}")
            )
        return tuple(requests)


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _clean(text: str) -> str:
    return whole_characters(text).translate(_CONTROLS)
