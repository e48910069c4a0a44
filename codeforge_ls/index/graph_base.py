"""The code graph of one state of the index as flat arrays: built from facts, written, and mapped by readers."""

from __future__ import annotations

import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.arrays_file import Array, BadArrays, Texts, map_arrays, write_arrays
from codeforge_ls.index.extract import SymbolRow
from codeforge_ls.index.graph_facts import Facts, read_all
from codeforge_ls.index.imports import ImportResolver
from codeforge_ls.index.path_rules import is_beside
from codeforge_ls.index.tokens import parts_of

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

VERSION = 2
KINDS = (
    "function", "method", "class", "interface", "struct", "enum", "type", "module", "macro", "constant",
    "variable", "field",
)  # fmt: skip
RANKED = 10  # the first so many kinds take part in ranks and maps; variables and fields only in lookups
IMPORT_WEIGHT = 3.0
LONG_NAME, LONG_FACTOR, PRIVATE_FACTOR = 8, 10.0, 0.1


def name_factor(name: str) -> float:
    """Long names are telling, private ones are not meant for other files."""
    return (LONG_FACTOR if len(name) >= LONG_NAME else 1.0) * (
        PRIVATE_FACTOR if name.startswith("_") else 1.0
    )


START = {
    "use_file": "use_start",
    "use_count": "use_start",
    "call_source": "call_start",
    "out_name": "out_start",
}


class GraphBase:
    """Arrays by name. Files, symbols and names are numbered; a file's symbols lie side by side, in order.

    Names that are defined come first (``defined`` of them), each part sorted by its bytes. What is kept for each
    name lies between ``X_start[name]`` and ``X_start[name + 1]``: its users (``use_file``, ``use_count``), callers
    (``call_source``: a symbol, or the number of symbols plus a file) and definitions (``named``: symbols).
    ``out_name`` holds the names that each such source calls, ``base_name`` those that symbol ``base_source`` extends.
    ``beside`` says which files are tests, examples or prose.
    """

    def __init__(self, arrays: Mapping[str, Array], generation: int) -> None:
        self.arrays, self.generation = arrays, generation
        self.paths, self.names = self._texts("path"), self._texts("name")
        self.scopes, self.signatures = self._texts("scope"), self._texts("signature")
        self.modules, self.words = self._texts("module"), self._texts("word")
        self.defined = len(arrays["named_start"]) - 1

    def _texts(self, name: str) -> Texts:
        return Texts(self.arrays[f"{name}_text"], self.arrays[f"{name}_at"])

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def name_id(self, name: str) -> int:
        """The number of a name, -1 when it is unknown."""
        at = self.names.find(name, 0, self.defined)
        return at if at >= 0 else self.names.find(name, self.defined)

    def slice(self, name: str, at: int) -> Array:
        """What belongs to number ``at`` of the array ``name``: see the class."""
        start = self.arrays[START.get(name, f"{name}_start")]
        return self.arrays[name][start[at] : start[at + 1]]

    def symbol(self, at: int) -> SymbolRow:
        """One definition as a row."""
        get = self.arrays
        return (
            self.names[int(get["symbol_name"][at])], KINDS[get["symbol_kind"][at]],
            int(get["symbol_line"][at]), int(get["symbol_end"][at]),
            int(get["symbol_name_line"][at]), int(get["symbol_column"][at]),
            self.scopes[int(get["symbol_scope"][at])], self.signatures[at],
        )  # fmt: skip

    def write(self, path: Path) -> None:
        """Write all arrays into one file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, self.arrays, {"version": VERSION, "generation": self.generation})

    @classmethod
    def map(cls, path: Path) -> GraphBase:
        """Map a file. Raises ``BadArrays``."""
        arrays, meta = map_arrays(path)
        if meta.get("version") != VERSION:
            raise BadArrays(f"{path} has another version")
        return cls(arrays, int(meta["generation"]))

    @classmethod
    def empty(cls) -> GraphBase:
        """The graph of no files."""
        return build([], 0)

    @classmethod
    def read(cls, db: sqlite3.Connection, present: Iterable[tuple[str, int]], generation: int) -> GraphBase:
        """Build it from the tables."""
        paths: defaultdict[int, list[str]] = defaultdict(list)
        for path, content in present:
            paths[content].append(path)
        facts = read_all(db, paths)
        return build(
            ((path, content, found) for content, found in facts for path in paths[content]), generation
        )


def _numbers() -> defaultdict[str, int]:
    """Texts by number, in the order of their coming: ``map`` over its ``__getitem__`` runs without Python code."""
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    return numbers


def build(files: Iterable[tuple[str, int, Facts]], generation: int) -> GraphBase:
    """The arrays for files ``(path, content, facts)``, numbered as they come."""
    names, scopes, modules = _numbers(), _numbers(), _numbers()
    kinds = {kind: at for at, kind in enumerate(KINDS)}
    paths: list[str] = []
    contents: list[int] = []
    starts = [0]
    signatures: list[str] = []
    symbols: dict[str, array[int]] = {key: array("i") for key in SYMBOL_COLUMNS}
    pieces: dict[str, list[Ints]] = {key: [np.zeros(0, np.int32)] for key in PIECES}
    for file, (path, content, facts) in enumerate(files):
        paths.append(path)
        contents.append(content)
        first = starts[-1]
        if facts.symbols:
            name, kind, line, end, name_line, column, scope, signature = zip(*facts.symbols, strict=True)
            symbols["symbol_name"].extend(map(names.__getitem__, name))
            symbols["symbol_kind"].extend(map(kinds.__getitem__, kind))
            symbols["symbol_line"].extend(line)
            symbols["symbol_end"].extend(end)
            symbols["symbol_name_line"].extend(name_line)
            symbols["symbol_column"].extend(column)
            symbols["symbol_scope"].extend(map(scopes.__getitem__, scope))
            signatures.extend(signature)
        starts.append(first + len(facts.symbols))
        if facts.uses:
            used = np.fromiter(map(names.__getitem__, facts.uses), np.int32, len(facts.uses))
            pieces["use_name"].append(used)
            pieces["use_count"].append(facts.counts)
            pieces["use_file"].append(np.full(len(used), file, np.int32))
            callers, called = facts.calls
            pieces["call_symbol"].append(np.where(callers >= 0, callers + first, -1).astype(np.int32))
            pieces["call_file"].append(np.full(len(called), file, np.int32))
            pieces["call_name"].append(used[called])
            pieces["base_source"].append(facts.bases[0] + np.int32(first))
            pieces["base_name"].append(used[facts.bases[1]])
        if facts.imports:
            meant = np.fromiter(map(modules.__getitem__, facts.imports), np.int32, len(facts.imports))
            pieces["import_module"].append(meant)
            pieces["import_file"].append(np.full(len(meant), file, np.int32))
    flat: dict[str, Array] = {key: np.array(column, np.int32) for key, column in symbols.items()}
    flat |= {key: np.concatenate(parts) for key, parts in pieces.items()}
    flat["content"], flat["symbol_start"] = np.array(contents, np.int32), np.array(starts, np.int32)
    flat |= _order_names(list(names), flat)
    arrays = _by_name(flat, len(paths), starts[-1])
    arrays |= _texts("path", paths) | _texts("scope", list(scopes)) | _texts("signature", signatures)
    arrays |= _texts("module", list(modules))
    arrays["beside"] = np.array([is_beside(path) for path in paths], bool)
    arrays |= _imports(paths, list(modules), flat)
    return GraphBase(arrays, generation)


SYMBOL_COLUMNS = (
    "symbol_name", "symbol_kind", "symbol_line", "symbol_end", "symbol_name_line", "symbol_column", "symbol_scope",
)  # fmt: skip
PIECES = (
    "use_name", "use_count", "use_file", "call_symbol", "call_file", "call_name", "base_source", "base_name",
    "import_module", "import_file",
)  # fmt: skip


def _texts(name: str, texts: Sequence[str]) -> dict[str, Array]:
    packed = Texts.of(texts)
    return {f"{name}_text": packed.raw, f"{name}_at": packed.offsets}


def _order_names(names: list[str], flat: Mapping[str, Array]) -> dict[str, Array]:
    """Number the names anew: the defined ones first, each part sorted; and what is known of each."""
    defined = np.zeros(len(names), bool)
    defined[flat["symbol_name"]] = True
    is_defined = defined.tolist()
    order = sorted(
        range(len(names)), key=lambda at: (not is_defined[at], names[at].encode("utf-8", "surrogatepass"))
    )
    renumbered = np.zeros(len(names), np.int32)
    renumbered[order] = np.arange(len(names), dtype=np.int32)
    changed: dict[str, Array] = {
        key: renumbered[flat[key]] for key in ("symbol_name", "use_name", "call_name", "base_name")
    }
    count = int(defined.sum())
    ordered = [names[at] for at in order]
    changed |= _texts("name", ordered)
    changed["name_factor"] = np.array([name_factor(name) for name in ordered], np.float32)
    changed["defined"] = np.array([count], np.int32)
    ranked = np.unique(changed["symbol_name"][flat["symbol_kind"] < RANKED])
    return changed | _words([(at, ordered[at]) for at in ranked.tolist()])


def _words(names: Iterable[tuple[int, str]]) -> dict[str, Array]:
    """For each word, the names of ranked kinds that have it as a part or are it."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for at, name in names:
        for word in {*parts_of(name)}:
            found[word].append(at)
    ordered = sorted(found, key=lambda word: word.encode("utf-8", "surrogatepass"))
    start = np.zeros(len(ordered) + 1, np.int32)
    np.cumsum([len(found[word]) for word in ordered], out=start[1:])
    joined = np.concatenate([np.array(found[word], np.int32) for word in ordered] or [np.zeros(0, np.int32)])
    return {**_texts("word", ordered), "worded_start": start, "worded": joined}


def _starts(groups: Array, count: int) -> Ints:
    """Where each group begins in a sorted array of group numbers."""
    return np.searchsorted(groups, np.arange(count + 1)).astype(np.int32)


def _by_name(flat: Mapping[str, Array], files: int, symbols: int) -> dict[str, Array]:
    """Everything sorted by name, and definitions matched with uses in their own file."""
    names, defined = len(flat["name_at"]) - 1, int(flat["defined"][0])
    kept = {
        key: flat[key]
        for key in (
            "content", "symbol_start", "symbol_name", "symbol_kind", "symbol_line", "symbol_end",
            "symbol_name_line", "symbol_column", "symbol_scope", "base_source", "base_name", "name_text",
            "name_at", "name_factor", "word_text", "word_at", "worded_start", "worded",
        )
    }  # fmt: skip
    kept["symbol_kind"] = kept["symbol_kind"].astype(np.uint8)
    order = np.lexsort((flat["use_file"], flat["use_name"]))
    use_name = flat["use_name"][order]
    kept["use_file"], kept["use_count"] = flat["use_file"][order], flat["use_count"][order]
    kept["use_start"] = _starts(use_name, names)
    source = np.where(flat["call_symbol"] >= 0, flat["call_symbol"], symbols + flat["call_file"])
    order = np.lexsort((source, flat["call_name"]))
    kept["call_source"] = source[order].astype(np.int32)
    kept["call_start"] = _starts(flat["call_name"][order], names)
    order = np.lexsort((flat["call_name"], source))
    kept["out_name"] = flat["call_name"][order]
    kept["out_start"] = _starts(source[order], symbols + files)
    kept["named"] = np.argsort(flat["symbol_name"], kind="stable").astype(np.int32)
    kept["named_start"] = _starts(flat["symbol_name"][kept["named"]], defined)
    symbol_file = np.repeat(np.arange(files, dtype=np.int64), np.diff(flat["symbol_start"]))
    keys = flat["symbol_name"].astype(np.int64) * max(1, files) + symbol_file
    use_keys = use_name.astype(np.int64) * max(1, files) + kept["use_file"]
    at = np.minimum(np.searchsorted(use_keys, keys), max(0, len(use_keys) - 1))
    own = np.full(symbols, -1, np.int32)
    if len(use_keys):
        own = np.where(use_keys[at] == keys, at, -1).astype(np.int32)
    kept["symbol_use"] = own
    ranked = flat["symbol_kind"] < RANKED
    unique, first = np.unique(keys[ranked], return_index=True)
    kept["define_name"] = (unique // max(1, files)).astype(np.int32)
    kept["define_file"] = (unique % max(1, files)).astype(np.int32)
    kept["define_use"] = own[ranked][first]
    return kept


def _imports(paths: Sequence[str], modules: Sequence[str], flat: Mapping[str, Array]) -> dict[str, Array]:
    """The imports of each file, and the files they were found to mean; each import shares out its weight."""
    resolver = ImportResolver(enumerate(paths))
    # Most imports mean the same file, or none of ours, whoever imports: those are looked up once a module.
    same = np.array([resolver.everywhere(module) for module in modules], np.int64)
    meant = same[flat["import_module"]]
    plain = (meant >= 0) & (meant != flat["import_file"])
    sources, targets = flat["import_file"][plain].tolist(), meant[plain].tolist()
    weights = [IMPORT_WEIGHT] * len(sources)
    rest = meant == ImportResolver.DEPENDS
    pairs = zip(flat["import_file"][rest].tolist(), flat["import_module"][rest].tolist(), strict=True)
    for file, module in pairs:
        found = [target for target in resolver.resolve(paths[file], modules[module]) if target != file]
        sources += [file] * len(found)
        targets += found
        weights += [IMPORT_WEIGHT / len(found)] * len(found) if found else []
    order = np.argsort(np.array(sources, np.int32), kind="stable")
    return {
        "import_file": flat["import_file"],
        "import_module": flat["import_module"],
        "edge_source": np.array(sources, np.int32)[order],
        "edge_target": np.array(targets, np.int32)[order],
        "edge_weight": np.array(weights, np.float64)[order],
    }


def with_ranks(base: GraphBase, ranks: Floats) -> GraphBase:
    """The same with the rank of each file, so that a reader starts with them."""
    arrays: dict[str, Any] = {**base.arrays, "rank": ranks}
    return GraphBase(arrays, base.generation)
