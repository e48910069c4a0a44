"""The tools: what agents are told of each, the operation behind it, and how its answer is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import Field, ValidationError

from codeforge_ls import redaction
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.errors import CodeForgeError, InvalidInput, error_from_json
from mcp_server import changing, inputs, looking, trail
from mcp_server.calls import (
    MAX_TEXT,
    REPLAYED_META,
    UNTRUSTED_META,
    ToolCallContext,
    connection_of,
    error_result,
    unexpected,
)
from mcp_server.schemas import Arguments, arguments_schema, result_schema
from mcp_server.shown import Shown

LOOKS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


@dataclass(frozen=True)
class Offer:
    """One tool. Its name is the name agents call; ``facts`` is the model of its structured result, if it has one."""

    name: str
    title: str
    description: str
    operation: str
    arguments: type[Arguments]
    show: Callable[[JsonObject], Shown]
    facts: type[Frozen] | None = None
    annotations: ToolAnnotations = field(default_factory=LOOKS.model_copy)
    translate: Callable[[Arguments], JsonObject] = inputs.given


OFFERS = (
    Offer(
        "search_code",
        "Search code",
        "Find code by name or meaning, best first. Start here.",
        "search",
        inputs.SearchCode,
        looking.show_search,
        looking.SearchFacts,
    ),
    Offer(
        "repo_map",
        "Repository map",
        "The most important files and definitions.",
        "repomap",
        inputs.DrawMap,
        looking.show_map,
    ),
    Offer(
        "read_code",
        "Read code",
        "Numbered lines of a file, with unsaved text and the base_hash for apply_edits.",
        "code.read",
        inputs.ReadCode,
        looking.show_code,
    ),
    Offer(
        "symbol_info",
        "Symbol",
        "Definition, references or callers of a symbol.",
        "symbol.info",
        inputs.SymbolInfo,
        looking.show_symbol,
        looking.SymbolFacts,
        translate=inputs.place,
    ),
    Offer(
        "apply_edits",
        "Apply edits",
        "Edit files, all or none, after policy, approval and a checkpoint. "
        "pending: repeat the same call. denied: do not retry.",
        "edits.apply",
        inputs.ApplyEdits,
        changing.show_edits,
        changing.EditFacts,
        ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False
        ),
    ),
    Offer(
        "start_run",
        "Start a run",
        "Give CodeForge's agent a task, in the background.",
        "run.start",
        inputs.StartRun,
        changing.show_start,
        changing.StartFacts,
        ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
        ),
        translate=inputs.tightened,
    ),
    Offer(
        "get_run",
        "Follow a run",
        "State of a run and its events after a cursor.",
        "run.get",
        inputs.GetRun,
        changing.show_run,
        changing.ProgressFacts,
        translate=inputs.page,
    ),
    Offer(
        "cancel_run",
        "Cancel a run",
        "Stop a run for good; its changes stay.",
        "run.cancel",
        inputs.OneRun,
        changing.show_cancel,
        changing.RunAnswer,
        ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
    ),
    Offer(
        "list_checkpoints",
        "List checkpoints",
        "Checkpoints, newest first.",
        "checkpoint.list",
        inputs.ListCheckpoints,
        changing.show_checkpoints,
        changing.CheckpointsFacts,
    ),
    Offer(
        "audit_list",
        "Audit trail",
        "Who did what, when and why, newest first.",
        "audit.page",
        inputs.ListAudit,
        trail.show_trail,
        trail.TrailFacts,
    ),
    Offer(
        "restore_checkpoint",
        "Restore checkpoint",
        "Take files back to a checkpoint, after approval. Can be undone.",
        "checkpoint.restore",
        inputs.RestoreCheckpoint,
        changing.show_restore,
        changing.RestoreFacts,
        ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False
        ),
    ),
)


class OperationTool(Tool):
    """A tool of the SDK that hands each call to an operation and words every error itself."""

    offer: Offer = Field(exclude=True)

    async def run(
        self, arguments: dict[str, Any], context: ToolCallContext, convert_result: bool = False
    ) -> CallToolResult | InputRequiredResult:
        """Check the types, call the operation, show its answer. Errors become results that the model reads."""
        del convert_result  # the answer is a finished result already
        marks: JsonObject = {UNTRUSTED_META: True} if self.offer.annotations.read_only_hint else {}
        try:
            shown = await self._shown(arguments, context, lambda: marks.update({REPLAYED_META: True}))
            return shown if isinstance(shown, InputRequiredResult) else _result(shown, marks)
        except CodeForgeError as error:
            return error_result(error)
        except Exception as error:  # noqa: BLE001 - the border: nothing of it may reach the client
            return error_result(unexpected(error))

    async def _shown(
        self, raw: dict[str, Any], context: ToolCallContext, on_replay: Callable[[], None]
    ) -> Shown | InputRequiredResult:
        try:
            arguments = self.offer.arguments.model_validate(raw)
        except ValidationError as error:
            raise _wrong(self.name, self.offer.arguments, error) from error
        connection = connection_of(context)
        wanted = self.offer.translate(arguments)
        answer = await connection.call(self.offer.operation, wanted, context, on_replay)
        if isinstance(answer, InputRequiredResult):
            return answer
        if "status" not in answer and isinstance(refused := answer.get("error"), dict):
            raise error_from_json(refused)  # the gate's refusal of a tool that only looks
        if not answer:
            raise CodeForgeError("The call failed.", hint="The daemon's log says why: `codeforge logs`.")
        return self.offer.show(answer)


def build_tools() -> list[Tool]:
    """All tools, always in the same order and the same words."""
    return [_build(offer) for offer in OFFERS]


def _build(offer: Offer) -> OperationTool:
    schema = arguments_schema(offer.arguments)
    return OperationTool(
        fn=_never_called,
        name=offer.name,
        title=offer.title,
        description=offer.description,
        parameters=schema,
        fn_metadata=FuncMetadata(
            arg_model=offer.arguments,
            output_schema=result_schema(offer.facts) if offer.facts else None,
        ),
        is_async=True,
        annotations=offer.annotations,
        offer=offer,
    )


async def _never_called() -> None:
    """The SDK wants a function; ``OperationTool.run`` takes its place."""


def _wrong(tool: str, model: type[Arguments], error: ValidationError) -> InvalidInput:
    """What is wrong with the arguments: each field and why, without echoing the input."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)[:10]
    fields = [".".join(str(part)[:60] for part in problem["loc"]) or "(whole)" for problem in problems]
    reasons = "; ".join(f"{field}: {problem['msg']}" for field, problem in zip(fields, problems, strict=True))
    return InvalidInput(
        f"Invalid arguments for {tool}: {reasons}.",
        hint=f"It takes: {', '.join(model.model_fields)}.",
        data={"field": fields[0], "fields": [*fields]},
    )


def _result(shown: Shown, marks: JsonObject) -> CallToolResult:
    facts = redaction.hide_all(shown.facts.model_dump(mode="json")) if shown.facts else None
    text = TextContent(type="text", text=redaction.hide(shown.text)[:MAX_TEXT])
    return CallToolResult(content=[text], structured_content=facts, _meta=marks or None)
