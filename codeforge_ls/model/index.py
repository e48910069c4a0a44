"""What the index knows: files, symbols, hits, the map, and how complete and fresh it is. Lines are 1-based."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from codeforge_ls.model.base import Frozen, JsonObject


class SymbolKind(StrEnum):
    """The kinds of definitions that the tag queries tell apart."""

    FUNCTION = "function"
    METHOD = "method"
    CLASS = "class"
    INTERFACE = "interface"
    STRUCT = "struct"
    ENUM = "enum"
    TYPE = "type"
    MODULE = "module"
    CONSTANT = "constant"
    VARIABLE = "variable"
    FIELD = "field"
    MACRO = "macro"


class Symbol(Frozen):
    """A definition. Columns are 0-based UTF-16 code units of the name, as editors count them."""

    name: str
    kind: SymbolKind
    path: str
    start_line: int
    end_line: int
    name_line: int
    name_column: int
    scope: str = Field(default="", description="Names of the enclosing definitions, joined by dots")
    signature: str = Field(default="", description="First line of the definition, at most 200 characters")


class Reference(Frozen):
    """A use of a name: call, type or import."""

    name: str
    path: str
    line: int
    column: int
    kind: str = Field(description="call, type, import or other")


class IndexState(StrEnum):
    """empty -> building -> ready; error when the worker gave up."""

    EMPTY = "empty"
    BUILDING = "building"
    READY = "ready"
    ERROR = "error"


class SkippedFile(Frozen):
    """A file that is not in the index, and why: size, binary, lines, quarantined, unreadable, cap."""

    path: str
    reason: str
    size: int = 0


class LegState(Frozen):
    """One way of finding. ``state``: building, ready, failed, off; ``percent`` of the chunks it can find."""

    name: str
    state: str
    percent: float = 0
    note: str = Field(default="", description="Why it is not ready, or what stands in for it")


class IndexStatus(Frozen):
    """How complete and fresh the index is. ``percent`` counts files known against files found."""

    state: IndexState
    percent: float = Field(ge=0, le=100)
    files: int = 0
    symbols: int = 0
    chunks: int = 0
    stale_files: int = Field(default=0, description="Files whose change is known but not yet in the index")
    skipped: int = 0
    languages: dict[str, int] = Field(default_factory=dict, description="Files for each language")
    files_per_second: float = 0
    generation: int = 0
    message: str = ""
    legs: tuple[LegState, ...] = ()


class Hit(Frozen):
    """One search result: a chunk, or a whole file when grouped by file. ``score`` only orders one answer."""

    path: str
    start_line: int
    end_line: int
    symbol: str = ""
    kind: str = ""
    score: float
    text: str = ""
    explain: JsonObject | None = Field(
        default=None, description="On request: rank and score by leg, rewards and factors by rule"
    )


class SearchAnswer(Frozen):
    """Hits, best first, and the state of the index that gave them."""

    hits: tuple[Hit, ...]
    index: IndexStatus
    legs: tuple[str, ...] = Field(default=(), description="Which retrieval legs took part, such as bm25")


class MapEntry(Frozen):
    """One line of the repo map: a definition, its file and its rank."""

    path: str
    symbol: Symbol
    rank: float


class RepoMap(Frozen):
    """A text that fits a token budget: files by rank, definitions indented. Tokens are len/4, rounded up."""

    text: str
    tokens: int
    budget: int
    files: int
    symbols: int
    cut: int = Field(description="Definitions that did not fit")
    index: IndexStatus


class SymbolAnswer(Frozen):
    """Definitions of a name and, on request, its references or callers."""

    definitions: tuple[Symbol, ...] = ()
    references: tuple[Reference, ...] = ()
    index: IndexStatus
