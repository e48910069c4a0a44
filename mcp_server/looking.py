"""What the tools that look answer: hits, map, code and symbols."""

from __future__ import annotations

from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.index import IndexState, LegState, RepoMap, SearchAnswer, SymbolAnswer
from mcp_server.shown import LIST_CHARS, Shown, cut, head, omitted, within

CODE_CHARS = 8000  # about 2,000 tokens of code in one search answer
LEAST_CODE = 240  # characters of code that each hit gets


class IndexFacts(Frozen):
    """How complete and fresh the index was that answered."""

    state: IndexState
    percent: float
    stale_files: int
    legs: list[LegState]

    @property
    def line(self) -> str:
        """One line of text; legs are named while they are not whole."""
        legs = "".join(
            f", {leg.name} {leg.state} {leg.percent:.0f} %" for leg in self.legs if leg.state != "ready"
        )
        return f"index: {self.state.value}, {self.percent:.0f} %, {self.stale_files} stale files{legs}"


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
            text=head(hit.text, share),
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
    text, shown = cut(found.text or "The map is empty.", "a smaller budget_tokens"), _index(found)
    return Shown(
        f"{text}\n\n{found.files} files, {found.symbols} definitions, {found.cut} left out; {shown.line}"
    )


def show_code(raw: JsonObject) -> Shown:
    """Numbered lines under one header. Plain text only: code in JSON strings is hard to read."""
    first = raw.get("start_line")
    number = first if isinstance(first, int) else 1
    lines = str(raw.get("text", "")).split("\n")
    unsaved = ", with the editor's unsaved text" if raw.get("unsaved") else ""
    place = f"{raw.get('path')}:{number}-{raw.get('end_line')} of {raw.get('total_lines')}{unsaved}"
    base_hash = f", base_hash {raw['base_hash']}" if raw.get("base_hash") else ""
    body = "\n".join(f"{number + i}\t{line}" for i, line in enumerate(lines))
    return Shown(f"{place}{base_hash}\n{cut(body, 'start_line and end_line')}")


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
    left_out = len(every) - len(definitions) + len(uses) - len(references)
    facts = SymbolFacts(definitions=definitions, references=references, omitted=left_out, index=_index(found))
    lines = [f"{d.path}:{d.start_line}-{d.end_line} {d.kind} {d.symbol}  {d.signature}" for d in definitions]
    lines += [f"{r.path}:{r.line} {r.kind} of {r.name}" for r in references]
    return Shown("\n".join([*(lines or ["nothing found"]), *omitted(left_out), facts.index.line]), facts)


def _index(found: SearchAnswer | RepoMap | SymbolAnswer) -> IndexFacts:
    status = found.index
    return IndexFacts(
        state=status.state,
        percent=round(status.percent, 1),
        stale_files=status.stale_files,
        legs=list(status.legs),
    )
