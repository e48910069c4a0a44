"""What each tool takes, and how it becomes the arguments of the operation behind it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from codeforge_ls.model.audit import AuditAction
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.index import Relation
from codeforge_ls.model.limits import ExecMode
from mcp_server.schemas import Arguments, Edit, ListOfText, LooseJson, Place, Tighten, Whole


def _about(text: str) -> Any:
    """A parameter's description, twelve words at most: agents pay for each one in every turn."""
    return Field(description=text)


class SearchCode(Arguments):
    """Arguments of search_code."""

    query: Annotated[str, _about("Words, identifiers or a question")]
    limit: Annotated[Whole, _about("1 to 50")] = 10
    path_glob: Annotated[str | None, _about("Such as src/**/*.py")] = None
    group_by: Annotated[Literal["chunk", "file"], _about("One hit per")] = "chunk"


class DrawMap(Arguments):
    """Arguments of repo_map."""

    budget_tokens: Annotated[Whole, _about("64 to 16384")] = 1024
    focus: Annotated[ListOfText, _about("Paths to prefer")] = []  # noqa: RUF012 - pydantic copies it
    query: Annotated[str, _about("Words to rank by")] = ""


class ReadCode(Arguments):
    """Arguments of read_code."""

    path: Annotated[str, _about("Workspace-relative")]
    start_line: Annotated[Whole, _about("From 1")] = 1
    end_line: Annotated[Whole | None, _about("Included")] = None


class SymbolInfo(Arguments):
    """Arguments of symbol_info."""

    name: Annotated[str | None, _about("Or give position")] = None
    position: Annotated[Place | None, LooseJson, _about("Of a use or definition, 1-based")] = None
    relation: Annotated[Relation, _about("What to tell")] = "definition"


class ApplyEdits(Arguments):
    """Arguments of apply_edits."""

    edits: Annotated[list[Edit], LooseJson, _about("old_text (exact, unique) and new_text, or whole content")]
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
    cursor: Annotated[Whole, _about("Last next_cursor")] = 0


class OneRun(Arguments):
    """Arguments of cancel_run."""

    run_id: Annotated[str, _about("From start_run")]


class ListCheckpoints(Arguments):
    """Arguments of list_checkpoints."""

    run_id: Annotated[str | None, _about("Only this run")] = None


class ListAudit(Arguments):
    """Arguments of audit_list."""

    run_id: Annotated[str | None, _about("Only this run")] = None
    action: Annotated[AuditAction | None, _about("Only this kind")] = None
    cursor: Annotated[Whole | None, _about("Last next_cursor")] = None


class RestoreCheckpoint(Arguments):
    """Arguments of restore_checkpoint."""

    checkpoint_id: Annotated[str, _about("From list_checkpoints")]


def given(arguments: Arguments) -> JsonObject:
    """What the client gave, and the defaults it was told of."""
    dumped: JsonObject = arguments.model_dump(mode="json", exclude_none=True)
    return dumped


def place(arguments: Arguments) -> JsonObject:
    """A place as the operation takes it: operations count UTF-16 columns from 0, as editors do."""
    wanted = given(arguments)
    position = wanted.get("position")
    if isinstance(position, dict) and isinstance(column := position.get("column"), int):
        position["column"] = column - 1
    return wanted


def tightened(arguments: Arguments) -> JsonObject:
    """``tighten`` as the operation takes it: rules and limits."""
    wanted = given(arguments)
    wish = wanted.pop("tighten", None)
    if not isinstance(wish, dict):
        return wanted
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
    return {**wanted, "tighten": {"rules": rules, "termination": ends, "resource_limits": network}}


def page(arguments: Arguments) -> JsonObject:
    """The events of a run after a cursor, as the operation takes them."""
    wanted: dict[str, JsonValue] = given(arguments)
    return {"run_id": wanted["run_id"], "after": wanted["cursor"], "limit": 100}
