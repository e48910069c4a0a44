"""What the index knows: files, symbols, hits, the map, and how complete and fresh it is. Lines are 1-based."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

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
    """A use of a name: call, type, inheritance or import."""

    name: str
    path: str
    line: int
    column: int
    kind: str = Field(description="call, type, inherit, import or other")


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
    """One line of the repo map: a definition and its rank. Ranks order one map, they are no measure beyond it."""

    path: str
    symbol: str = Field(description="The name, after the names of what it lies in: Outer.inner")
    kind: SymbolKind
    line: int
    signature: str
    rank: float


class RepoMap(Frozen):
    """A text that fits a token budget: files by rank, definitions indented.

    Tokens are len/4, rounded up, unless ``exact``.
    """

    text: str
    tokens: int
    exact: bool = Field(default=False, description="Whether the model's tokenizer counted the tokens")
    budget: int
    files: int
    symbols: int
    cut: int = Field(description="Definitions that did not fit")
    cut_files: int = Field(default=0, description="Files with definitions of which none is on the map")
    entries: tuple[MapEntry, ...] = Field(default=(), description="The same as the text, best first")
    index: IndexStatus


class PictureNode(Frozen):
    """One file in the picture of the graph."""

    path: str
    rank: float
    symbols: tuple[str, ...] = ()


class PictureEdge(Frozen):
    """One file uses another, with the weight of all names and imports together."""

    source: str
    target: str
    weight: float


class GraphPicture(Frozen):
    """The top of the file graph, for drawing: files by rank and the strongest edges between them."""

    nodes: tuple[PictureNode, ...]
    edges: tuple[PictureEdge, ...]
    cut_files: int = 0
    index: IndexStatus


Relation = Literal["definition", "references", "callers", "callees", "implementations", "neighbours"]


class SymbolAnswer(Frozen):
    """Definitions of a name and, on request, its references or callers."""

    definitions: tuple[Symbol, ...] = ()
    references: tuple[Reference, ...] = ()
    index: IndexStatus


class CallSite(Frozen):
    """A function on one side of a call, and where the calls stand: lines in the file of the calling side."""

    symbol: Symbol
    places: tuple[Reference, ...] = ()


class CallAnswer(Frozen):
    """Who calls a symbol, or whom it calls; found by name, the nearest definition first."""

    symbol: Symbol | None
    calls: tuple[CallSite, ...] = ()
    index: IndexStatus


class EdgeKind(StrEnum):
    """Along what the code graph can be walked."""

    CALL = "call"
    IMPORT = "import"
    INHERIT = "inherit"
    TEST = "test"
    PAIR = "pair"
    OWNER = "owner"


class GraphStep(Frozen):
    """One edge of a way: ``source`` calls, imports, extends, tests or owns ``target``; names as in ``GraphNode``."""

    kind: EdgeKind
    source: str
    target: str


class GraphNode(Frozen):
    """A file or a definition that was reached, with its score and the way from where the walk began."""

    name: str = Field(description="path, or path::Outer.inner for a definition")
    path: str
    kind: str = Field(description="file, or the kind of the definition")
    line: int = 1
    signature: str = ""
    score: float
    hops: int
    why: tuple[GraphStep, ...] = ()


class GraphAnswer(Frozen):
    """What a walk over the code graph found, best first. ``visited`` counts nodes; ``capped`` says the cap cut it."""

    start: tuple[str, ...]
    nodes: tuple[GraphNode, ...]
    visited: int
    capped: bool = False
    index: IndexStatus


class FileOwners(Frozen):
    """Who answers for a file: owners by CODEOWNERS, and who changed it most in the latest commits."""

    path: str
    owners: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()


class IndexExplanation(Frozen):
    """Why a file is, or is not, in the index. ``rule`` is the pattern or setting that decided."""

    path: str
    indexed: bool
    reason: str = Field(description="One sentence")
    rule: str = ""
    language: str = ""
    size: int = Field(default=0, description="Bytes on disk")
    lines: int = 0
    chunks: int = 0
    symbols: int = 0
    unsaved: bool = Field(default=False, description="An editor's unsaved text is what is indexed")
    stale: bool = Field(default=False, description="The file on disk is newer than what is indexed")
    index: IndexStatus
