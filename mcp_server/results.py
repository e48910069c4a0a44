"""What tools answer: one set of facts, as structured content for programs and as compact text for models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from codeforge_ls.model.actions import FileChange
from codeforge_ls.model.base import Frozen, JsonObject, JsonValue
from codeforge_ls.model.checkpoints import CheckpointKind
from codeforge_ls.model.errors import error_from_json
from codeforge_ls.model.index import IndexState, RepoMap, SearchAnswer, SymbolAnswer
from codeforge_ls.model.runs import Run

CODE_CHARS = 8000  # about 2,000 tokens of code in one search answer
LEAST_CODE = 240  # characters of code that each hit gets
LIST_CHARS = 24_000  # of a list in one answer; what is left out is counted
TEXT_CHARS = 36_000  # of one long text, below the 40,000 of a whole result
EVENT_CHARS = 700  # of one event of a run
RUN_TEXT_CHARS = 8000  # of the task and of the output of a run


@dataclass(frozen=True)
class Shown:
    """An answer: the text, and the same facts structured where a tool has a result schema."""

    text: str
    facts: Frozen | None = None


class IndexFacts(Frozen):
    """How complete and fresh the index was that answered."""

    state: IndexState
    percent: float
    stale_files: int

    @property
    def line(self) -> str:
        """One line of text."""
        return f"index: {self.state.value}, {self.percent:.0f} %, {self.stale_files} stale files"


class HitFacts(Frozen):
    """One hit. ``text`` is the code, shortened when there is much."""

    path: str
    start_line: int
    end_line: int
    symbol: str
    kind: str
    score: float
    text: str


class SearchFacts(Frozen):
    """Hits, best first."""

    hits: list[HitFacts]
    index: IndexFacts


def show_search(raw: JsonObject) -> Shown:
    """Hits under ``path:line`` headers."""
    found = SearchAnswer.model_validate(raw)
    share = max(LEAST_CODE, CODE_CHARS // max(1, len(found.hits)))
    hits = [
        HitFacts(
            path=hit.path,
            start_line=hit.start_line,
            end_line=hit.end_line,
            symbol=hit.symbol,
            kind=hit.kind,
            score=round(hit.score, 4),
            text=_head(hit.text, share),
        )
        for hit in found.hits
    ]
    facts = SearchFacts(hits=hits, index=_index(found))
    blocks = [
        f"{hit.path}:{hit.start_line}-{hit.end_line} {hit.kind} {hit.symbol} ({hit.score:g})\n{hit.text}".rstrip()
        for hit in hits
    ]
    return Shown("\n\n".join([*(blocks or ["no hits"]), facts.index.line]), facts)


def show_map(raw: JsonObject) -> Shown:
    """The map as it is, and how complete it is."""
    found = RepoMap.model_validate(raw)
    text, shown = _cut(found.text or "The map is empty.", "a smaller budget_tokens"), _index(found)
    return Shown(f"{text}\n\n{found.files} files, {found.symbols} definitions, {found.cut} left out; {shown.line}")


def show_code(raw: JsonObject) -> Shown:
    """Numbered lines under one header. Plain text only: code in JSON strings is hard to read."""
    first = raw.get("start_line")
    number = first if isinstance(first, int) else 1
    lines = str(raw.get("text", "")).split("\n")
    unsaved = ", with the editor's unsaved text" if raw.get("unsaved") else ""
    place = f"{raw.get('path')}:{number}-{raw.get('end_line')} of {raw.get('total_lines')}{unsaved}"
    base_hash = f", base_hash {raw['base_hash']}" if raw.get("base_hash") else ""
    body = "\n".join(f"{number + i}\t{line}" for i, line in enumerate(lines))
    return Shown(f"{place}{base_hash}\n{_cut(body, 'start_line and end_line')}")


class DefinitionFacts(Frozen):
    """Where a symbol is defined."""

    path: str
    start_line: int
    end_line: int
    symbol: str
    kind: str
    signature: str


class ReferenceFacts(Frozen):
    """Where a name is used."""

    path: str
    line: int
    name: str
    kind: str


class SymbolFacts(Frozen):
    """What is known of a symbol."""

    definitions: list[DefinitionFacts]
    references: list[ReferenceFacts]
    omitted: int
    index: IndexFacts


def show_symbol(raw: JsonObject) -> Shown:
    """Definitions, then uses, one a line."""
    found = SymbolAnswer.model_validate(raw)
    every = [
        DefinitionFacts(
            path=symbol.path,
            start_line=symbol.start_line,
            end_line=symbol.end_line,
            symbol=f"{symbol.scope}.{symbol.name}".lstrip("."),
            kind=symbol.kind.value,
            signature=symbol.signature,
        )
        for symbol in found.definitions
    ]
    uses = [ReferenceFacts(path=u.path, line=u.line, name=u.name, kind=u.kind) for u in found.references]
    definitions, references = within(every, LIST_CHARS // 2), within(uses, LIST_CHARS // 2)
    omitted = len(every) - len(definitions) + len(uses) - len(references)
    facts = SymbolFacts(definitions=definitions, references=references, omitted=omitted, index=_index(found))
    lines = [f"{d.path}:{d.start_line}-{d.end_line} {d.kind} {d.symbol}  {d.signature}" for d in definitions]
    lines += [f"{r.path}:{r.line} {r.kind} of {r.name}" for r in references]
    return Shown("\n".join([*(lines or ["nothing found"]), *_omitted(omitted), facts.index.line]), facts)


class EditFacts(Frozen):
    """What came of edits. ``diff`` is set by a dry run only."""

    status: str
    approval_id: str | None
    checkpoint_id: str | None
    files: list[FileChange]
    message: str
    diff: str


def show_edits(raw: JsonObject) -> Shown:
    """The outcome first. Edits that could not even be tried are an error."""
    error = raw.get("error")
    if isinstance(error, dict):
        if raw.get("status") == "failed":
            raise error_from_json(error)
        raw = {**raw, "message": error_from_json(error).text}
    changes = raw.get("files")
    every = [FileChange.model_validate(one) for one in changes] if isinstance(changes, list) else []
    facts = EditFacts(
        status=str(raw.get("status")),
        approval_id=_text_or_none(raw.get("approval_id")),
        checkpoint_id=_text_or_none(raw.get("checkpoint_id")),
        files=within(every, LIST_CHARS // 2),
        message=_cut(str(raw.get("message") or ""), "fewer edits", RUN_TEXT_CHARS),
        diff=_cut(str(raw.get("diff") or ""), "fewer edits", LIST_CHARS // 2),
    )
    marks = [f"{name} {value}" for name in ("approval_id", "checkpoint_id") if (value := getattr(facts, name))]
    lines = [", ".join([facts.status, *marks])]
    lines += [f"{f.change} {f.path} +{f.added} -{f.removed} new_hash {f.new_hash}" for f in facts.files]
    return Shown("\n".join(filter(None, [*lines, facts.message, facts.diff])), facts)


class StartFacts(Frozen):
    """A run that was started."""

    run_id: str
    profile: str
    mode: str
    model: str


def show_start(raw: JsonObject) -> Shown:
    """The id, and what to do with it."""
    facts = StartFacts(**{name: str(raw.get(name) or "") for name in StartFacts.model_fields})
    settings = f"profile {facts.profile}, mode {facts.mode}, model {facts.model}"
    return Shown(f"started {facts.run_id} ({settings}); follow it with get_run", facts)


class RunFacts(Frozen):
    """A run, without its policy. Money is in nano-USD."""

    id: str
    status: str
    reason: str
    task: str
    output: str
    step_count: int
    tokens_in: int
    tokens_out: int
    cost_nano_usd: int


class EventFacts(Frozen):
    """An event of a run; ``summary`` is its payload, shortened."""

    seq: int
    type: str
    time: float
    summary: str


class ProgressFacts(Frozen):
    """A run and the events after a cursor."""

    run: RunFacts
    events: list[EventFacts]
    next_cursor: int


def show_run(raw: JsonObject) -> Shown:
    """The state of a run, then its new events."""
    run = _run(raw)
    events, cursor = raw.get("events"), raw.get("next_cursor")
    every = [_event(event) for event in events if isinstance(event, dict)] if isinstance(events, list) else []
    shown = within(every, LIST_CHARS)
    following = shown[-1].seq if shown else cursor if isinstance(cursor, int) else 0
    facts = ProgressFacts(run=run, events=shown, next_cursor=following)
    lines = [_run_line(run), *(f"{e.seq} {e.type} {e.summary}" for e in shown), f"next_cursor {following}"]
    return Shown("\n".join(lines), facts)


class RunAnswer(Frozen):
    """One run."""

    run: RunFacts


def show_cancel(raw: JsonObject) -> Shown:
    """The state it ended in."""
    run = _run(raw)
    return Shown(_run_line(run), RunAnswer(run=run))


class CheckpointFacts(Frozen):
    """A checkpoint. ``time`` is seconds since the epoch."""

    id: str
    label: str
    kind: CheckpointKind
    stream: str
    time: float


class CheckpointsFacts(Frozen):
    """Checkpoints, newest first."""

    checkpoints: list[CheckpointFacts]
    omitted: int


def show_checkpoints(raw: JsonObject) -> Shown:
    """One checkpoint a line."""
    found = raw.get("checkpoints")
    every = [
        CheckpointFacts.model_validate(
            {"time": one.get("created_at"), **{key: one.get(key) for key in ("id", "label", "kind", "stream")}}
        )
        for one in (found if isinstance(found, list) else [])
        if isinstance(one, dict)
    ]
    shown = within(every, LIST_CHARS)
    facts = CheckpointsFacts(checkpoints=shown, omitted=len(every) - len(shown))
    lines = [f"{c.id} {c.kind.value} {c.stream} {c.label}" for c in shown] or ["no checkpoints"]
    return Shown("\n".join([*lines, *_omitted(facts.omitted)]), facts)


class RestoreFacts(Frozen):
    """What a restore did. ``safety_checkpoint_id`` undoes it; ``conflicts`` were left as they were."""

    status: str
    checkpoint_id: str
    safety_checkpoint_id: str | None
    changed: list[str]
    conflicts: list[str]
    message: str
    omitted: int


def show_restore(raw: JsonObject) -> Shown:
    """The outcome, and which files changed."""
    changed, conflicts = _texts(raw.get("changed")), _texts(raw.get("conflicts"))
    kept, left = within(changed, LIST_CHARS // 2), within(conflicts, LIST_CHARS // 2)
    facts = RestoreFacts(
        status=str(raw.get("status")),
        checkpoint_id=str(raw.get("checkpoint_id")),
        safety_checkpoint_id=_text_or_none(raw.get("safety_checkpoint_id")),
        changed=kept,
        conflicts=left,
        message=_cut(str(raw.get("message") or ""), "list_checkpoints", RUN_TEXT_CHARS),
        omitted=len(changed) - len(kept) + len(conflicts) - len(left),
    )
    head = f"{facts.status}, checkpoint {facts.checkpoint_id}, undo with {facts.safety_checkpoint_id}"
    lines = [head, facts.message, *(f"changed {path}" for path in kept), *(f"conflict {path}" for path in left)]
    return Shown("\n".join([*filter(None, lines), *_omitted(facts.omitted)]), facts)


# -- pieces -------------------------------------------------------------------------------------------

Item = TypeVar("Item")


def within(items: Iterable[Item], budget: int) -> list[Item]:
    """The first items whose JSON together stays within a budget of characters; at least one."""
    kept: list[Item] = []
    size: Callable[[Item], int] = lambda item: len(  # noqa: E731 - one expression, used once
        item.model_dump_json() if isinstance(item, Frozen) else json.dumps(item)
    )
    for item in items:
        budget -= size(item)
        if budget < 0 and kept:
            break
        kept.append(item)
    return kept


def _omitted(count: int) -> list[str]:
    return [f"{count} more left out"] if count else []


def _head(text: str, most: int) -> str:
    """The first whole lines that fit."""
    text = text.rstrip()
    if len(text) <= most:
        return text
    cut = text.rfind("\n", 0, most)
    kept = text[: cut if cut > 0 else most]
    return f"{kept}\n… {text[len(kept) :].count(chr(10))} more lines"


def _cut(text: str, narrow_by: str, most: int = TEXT_CHARS) -> str:
    """The text, or its beginning and a line that says how to ask for less."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[{len(text) - most} characters left out: use {narrow_by}]"


def _index(found: SearchAnswer | RepoMap | SymbolAnswer) -> IndexFacts:
    status = found.index
    return IndexFacts(state=status.state, percent=round(status.percent, 1), stale_files=status.stale_files)


def _run(raw: JsonObject) -> RunFacts:
    run = Run.model_validate(raw["run"])
    return RunFacts(
        id=run.id,
        status=run.status.value,
        reason=run.reason,
        task=_head(run.task, 500),
        output=_cut(run.output, "`codeforge show`", RUN_TEXT_CHARS),
        step_count=run.step_count,
        tokens_in=run.tokens_in,
        tokens_out=run.tokens_out,
        cost_nano_usd=run.cost_nano_usd,
    )


def _run_line(run: RunFacts) -> str:
    spent = f"{run.step_count} steps, {run.tokens_in} tokens in, {run.tokens_out} out, {run.cost_nano_usd} nano-USD"
    lines = [f"{run.id} {run.status} {run.reason}".rstrip() + f" ({spent})", f"task: {run.task}", run.output]
    return "\n".join(filter(None, lines))


def _event(raw: JsonObject) -> EventFacts:
    payload = json.dumps(raw.get("payload"), ensure_ascii=False, separators=(",", ":"))
    short = payload if len(payload) <= EVENT_CHARS else f"{payload[:EVENT_CHARS]}…"
    return EventFacts.model_validate({**{key: raw.get(key) for key in ("seq", "type", "time")}, "summary": short})


def _texts(value: JsonValue) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _text_or_none(value: JsonValue) -> str | None:
    return None if value is None else str(value)
