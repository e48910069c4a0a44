"""Which language a file is in, and the grammar and tag query of each language. Only workers import this."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from codeforge_ls.index.generic import generic_patterns

if TYPE_CHECKING:
    from tree_sitter import Language, Query

# Raise it when the tags, chunks or tokens made from the same source change: all content is parsed anew.
FORMAT = 4

KIND = re.compile(r"@definition\.(\w+)")
NUMBERED = re.compile(r"@(?:name|receiver|definition\.\w+)")

QUERIES = Path(__file__).parent / "queries"
QUERY_FILES = {"tsx": ("typescript", "tsx"), "terraform": ("hcl",)}

EXTENSIONS = {
    ".py": "python", ".pyi": "python", ".pyw": "python",
    ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".jsx": "javascript",
    ".ts": "typescript", ".mts": "typescript", ".cts": "typescript", ".tsx": "tsx",
    ".go": "go", ".rs": "rust", ".java": "java", ".c": "c", ".h": "c",
    ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".hpp": "cpp", ".hh": "cpp", ".hxx": "cpp", ".inl": "cpp",
    ".cs": "csharp", ".rb": "ruby", ".rake": "ruby", ".gemspec": "ruby", ".php": "php", ".swift": "swift",
    ".kt": "kotlin", ".kts": "kotlin", ".scala": "scala", ".sc": "scala", ".lua": "lua",
    ".sh": "bash", ".bash": "bash", ".bats": "bash", ".ex": "elixir", ".exs": "elixir",
    ".hs": "haskell", ".zig": "zig", ".jl": "julia", ".r": "r", ".ml": "ocaml", ".mli": "ocaml_interface",
    ".erl": "erlang", ".hrl": "erlang", ".pl": "perl", ".pm": "perl", ".clj": "clojure", ".cljs": "clojure",
    ".cljc": "clojure", ".fs": "fsharp", ".fsx": "fsharp", ".dart": "dart", ".tf": "hcl", ".hcl": "hcl",
    ".tfvars": "hcl", ".nix": "nix", ".mm": "objc", ".cmake": "cmake", ".mk": "make", ".proto": "proto",
    ".sql": "sql", ".sol": "solidity", ".f90": "fortran", ".f95": "fortran", ".f03": "fortran", ".adb": "ada",
    ".ads": "ada", ".vhd": "vhdl", ".vhdl": "vhdl", ".sv": "verilog", ".v": "verilog", ".elm": "elm",
    ".purs": "purescript", ".gleam": "gleam", ".odin": "odin", ".nim": "nim", ".d": "d", ".pas": "pascal",
    ".ps1": "powershell", ".psm1": "powershell", ".graphql": "graphql", ".gql": "graphql", ".thrift": "thrift",
    ".capnp": "capnp", ".cu": "cuda", ".glsl": "glsl", ".hlsl": "hlsl", ".wgsl": "wgsl", ".m": "objc",
    ".tcl": "tcl", ".el": "elisp", ".scm": "scheme", ".rkt": "racket", ".lisp": "commonlisp", ".cl": "commonlisp",
    ".gd": "gdscript", ".hx": "haxe", ".cairo": "cairo", ".prisma": "prisma", ".bicep": "bicep",
    ".star": "starlark", ".bzl": "starlark", ".pony": "pony", ".ino": "arduino", ".fish": "fish",
    ".md": "markdown", ".rst": "text", ".txt": "text", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml",
    ".json": "json", ".html": "html", ".css": "css", ".scss": "css", ".vue": "vue", ".svelte": "svelte",
    ".groovy": "groovy", ".gradle": "groovy",
}  # fmt: skip
FILE_NAMES = {
    "Makefile": "make", "GNUmakefile": "make", "makefile": "make", "Dockerfile": "docker", "Rakefile": "ruby",
    "Gemfile": "ruby", "CMakeLists.txt": "cmake", "BUILD": "starlark", "BUILD.bazel": "starlark",
    "Jenkinsfile": "groovy",
}  # fmt: skip
# Text for search, never parsed; every other language has a grammar. Cobol has none here: its grammar can hang.
PLAIN = {
    "text", "markdown", "toml", "yaml", "json", "html", "css", "docker", "vue", "svelte", "groovy",
}  # fmt: skip
# Tests map an extension to a grammar that hangs: ".cob=cobol".
TEST_LANGUAGES = "CODEFORGE_TEST_LANGUAGES"


def language_of(path: str) -> str:
    """The language of a path by its name; ``text`` when nothing is known about it."""
    name = path.rpartition("/")[2]
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a tenth of the time of a path object
    extra = _test_languages(os.environ.get(TEST_LANGUAGES, ""))
    return extra.get(suffix) or FILE_NAMES.get(name) or EXTENSIONS.get(suffix, "text")


@cache
def _test_languages(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)


@dataclass(frozen=True)
class Grammar:
    """A loaded grammar with its compiled tag query.

    In the query the captures of a pattern that defines something carry the number of the pattern: ``name.3``,
    ``definition.class.3``, ``receiver.3``. ``kinds`` are the numbers of those patterns with what they define.
    """

    language: Language
    tags: Query
    kinds: tuple[tuple[int, tuple[str, ...]], ...]


class NoGrammar(Exception):
    """The grammar of a language is not there or does not work; its files are searched as plain text."""


@cache
def query_text(language: str) -> str:
    """The tag queries of a language as written in ``queries/``, a pattern a line; empty when it has none.

    Then ``generic_patterns`` finds definitions.
    """
    names = QUERY_FILES.get(language, (language,))
    files = [QUERIES / f"{name}.scm" for name in names]
    return "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


@cache
def content_version(language: str) -> str:
    """What the stored tags of a content depend on besides its bytes: the query and ``FORMAT``."""
    return blake2b(f"{FORMAT}\n{query_text(language)}".encode(), digest_size=6).hexdigest()


@cache
def grammar(language: str) -> Grammar:
    """Load a grammar and compile its query. Raises ``NoGrammar`` with the reason."""
    from tree_sitter import Query
    from tree_sitter_language_pack import get_language

    try:
        loaded = get_language(language)  # type: ignore[arg-type]  # the names come from our own table
        patterns = (query_text(language) or generic_patterns(loaded)).splitlines()
        kinds = [(at, tuple(sorted(set(KIND.findall(one))))) for at, one in enumerate(patterns)]
        # One walk and no dictionary for each match: what belongs together is told by the numbers.
        numbered = [NUMBERED.sub(rf"\g<0>.{at}", one) for at, one in enumerate(patterns)]
        return Grammar(loaded, Query(loaded, "\n".join(numbered)), tuple(one for one in kinds if one[1]))
    except Exception as reason:  # any failure of foreign code means the same: no grammar
        raise NoGrammar(f"no grammar for {language}: {reason}") from reason
