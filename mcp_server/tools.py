"""The ten tools: what agents are told of each, the operation behind it, and how its answer is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import Field, ValidationError

from codeforge_ls import redaction
from codeforge_ls.model.base import Frozen, JsonObject, JsonValue
from codeforge_ls.model.errors import CodeForgeError, InvalidInput, error_from_json
from codeforge_ls.model.index import Relation
from codeforge_ls.model.limits import ExecMode
from mcp_server import changing, looking
from mcp_server.calls import (
    MAX_TEXT,
    REPLAYED_META,
    UNTRUSTED_META,
    ToolCallContext,
    connection_of,
    error_result,
    unexpected,
)
from mcp_server.schemas import (
    Arguments,
    Edit,
    ListOfText,
    LooseJson,
    Place,
    Tighten,
    Whole,
    arguments_schema,
    result_schema,
)
from mcp_server.shown import Shown

LOOKS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


def _about(text: str) -> Any:
    """A parameter's description, twelve words at most: agents pay for each one in every turn."""
    return Field(description=text)


class SearchCode(Arguments):
    """Arguments of search_code."""

    query: Annotated[str, _about("Words, identifiers or a question")]
    limit: Annotated[Whole, _about("Hits, 1 to 50")] = 10
    path_glob: Annotated[str | None, _about("Only files such as src/**/*.py")] = None
    group_by: Annotated[Literal["chunk", "file"], _about("A hit per chunk or file")] = "chunk"


class DrawMap(Arguments):
    """Arguments of repo_map."""

    budget_tokens: Annotated[Whole, _about("64 to 16384")] = 1024
    focus: Annotated[ListOfText, _about("Paths to rank higher")] = []  # noqa: RUF012 - pydantic copies it
    query: Annotated[str, _about("Words to rank by")] = ""


class ReadCode(Arguments):
    """Arguments of read_code."""

    path: Annotated[str, _about("Workspace-relative path")]
    start_line: Annotated[Whole, _about("First line, from 1")] = 1
    end_line: Annotated[Whole | None, _about("Last line, included")] = None


class SymbolInfo(Arguments):
    """Arguments of symbol_info."""

    name: Annotated[str | None, _about("Its name, or give position")] = None
    position: Annotated[Place | None, LooseJson, _about("1-based place of a use or definition")] = None
    relation: Annotated[Relation, _about("What to know of it")] = "definition"


class ApplyEdits(Arguments):
    """Arguments of apply_edits."""

    edits: Annotated[
        list[Edit], LooseJson, _about("Each: old_text (exact, unique) and new_text, or whole content")
    ]
    dry_run: Annotated[bool, _about("Only show the diff")] = False


class StartRun(Arguments):
    """Arguments of start_run."""

    task: Annotated[str, _about("What to do, and how to check it")]
    profile: Annotated[str | None, _about("Policy profile; only tightens")] = None
    mode: Annotated[str | None, _about("Agent mode, else coder")] = None
    tighten: Annotated[Tighten | None, LooseJson, _about("Tighter than the policy")] = None
    exec_mode: Annotated[ExecMode | None, _about("How commands run")] = None


class GetRun(Arguments):
    """Arguments of get_run."""

    run_id: Annotated[str, _about("From start_run")]
    cursor: Annotated[Whole, _about("The last next_cursor")] = 0


class OneRun(Arguments):
    """Arguments of cancel_run."""

    run_id: Annotated[str, _about("From start_run")]


class ListCheckpoints(Arguments):
    """Arguments of list_checkpoints."""

    run_id: Annotated[str | None, _about("Of this run only")] = None


class RestoreCheckpoint(Arguments):
    """Arguments of restore_checkpoint."""

    checkpoint_id: Annotated[str, _about("From apply_edits or list_checkpoints")]


def _given(arguments: Arguments) -> JsonObject:
    """What the client gave, and the defaults it was told of."""
    dumped: JsonObject = arguments.model_dump(mode="json", exclude_none=True)
    return dumped


def _place(arguments: Arguments) -> JsonObject:
    given = _given(arguments)
    place = given.get("position")
    if isinstance(place, dict) and isinstance(column := place.get("column"), int):
        place["column"] = column - 1  # operations count UTF-16 columns from 0, as editors do
    return given


def _tightened(arguments: Arguments) -> JsonObject:
    """``tighten`` as the operation takes it: rules and limits."""
    given = _given(arguments)
    wish = given.pop("tighten", None)
    if not isinstance(wish, dict):
        return given
    rules: list[JsonValue] = [
        {
            "specifier": {"tool": tool},
            "decision": decision,
            "reason": f"the run was started with {decision} {tool}",
        }
        for decision in ("deny", "ask")
        if isinstance(tools := wish.get(decision), list)
        for tool in tools
    ]
    names = {"max_steps": "max_steps", "max_cost": "max_cost", "max_seconds": "timeout_seconds"}
    ends = {theirs: wish[ours] for ours, theirs in names.items() if ours in wish}
    network: JsonObject = {"network_mode": "none"} if wish.get("no_network") else {}
    return {**given, "tighten": {"rules": rules, "termination": ends, "resource_limits": network}}


def _page(arguments: Arguments) -> JsonObject:
    given: dict[str, JsonValue] = _given(arguments)
    return {"run_id": given["run_id"], "after": given["cursor"], "limit": 100}


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
    translate: Callable[[Arguments], JsonObject] = _given


OFFERS = (
    Offer(
        "search_code",
        "Search code",
        "Find code in the repository by words, identifiers or meaning, best first. Start here.",
        "search",
        SearchCode,
        looking.show_search,
        looking.SearchFacts,
    ),
    Offer(
        "repo_map",
        "Repository map",
        "The repository's most important files and definitions.",
        "repomap",
        DrawMap,
        looking.show_map,
    ),
    Offer(
        "read_code",
        "Read code",
        "Numbered lines of a file, unsaved text included, and the base_hash for apply_edits.",
        "code.read",
        ReadCode,
        looking.show_code,
    ),
    Offer(
        "symbol_info",
        "Symbol",
        "Definition, references, callers or graph neighbours of a symbol.",
        "symbol.info",
        SymbolInfo,
        looking.show_symbol,
        looking.SymbolFacts,
        translate=_place,
    ),
    Offer(
        "apply_edits",
        "Apply edits",
        "Edit files, all or none, after policy, the user's approval and a checkpoint. "
        "Status pending: repeat the same call for the outcome. Status denied: do not retry.",
        "edits.apply",
        ApplyEdits,
        changing.show_edits,
        changing.EditFacts,
        ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False
        ),
    ),
    Offer(
        "start_run",
        "Start a run",
        "Give CodeForge's agent a task in the background; returns a run_id.",
        "run.start",
        StartRun,
        changing.show_start,
        changing.StartFacts,
        ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
        ),
        translate=_tightened,
    ),
    Offer(
        "get_run",
        "Follow a run",
        "State of a run and its events after a cursor.",
        "run.get",
        GetRun,
        changing.show_run,
        changing.ProgressFacts,
        translate=_page,
    ),
    Offer(
        "cancel_run",
        "Cancel a run",
        "Stop a run for good. Its changes stay; restore_checkpoint takes them back.",
        "run.cancel",
        OneRun,
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
        ListCheckpoints,
        changing.show_checkpoints,
        changing.CheckpointsFacts,
    ),
    Offer(
        "restore_checkpoint",
        "Restore checkpoint",
        "Take files back to a checkpoint, after approval; a safety checkpoint undoes it.",
        "checkpoint.restore",
        RestoreCheckpoint,
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
