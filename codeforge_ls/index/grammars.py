"""Which language a file is in, and the grammar and tag query of each language. Only workers import this."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Language, Query

# Raise it when the tags, chunks or tokens made from the same source change: all content is parsed anew.
FORMAT = 2

QUERIES = Path(__file__).parent / "queries"
QUERY_FILES = {"tsx": ("typescript", "tsx")}

EXTENSIONS = {
    ".py": "python", ".pyi": "python", ".pyw": "python",
    ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".jsx": "javascript",
    ".ts": "typescript", ".mts": "typescript", ".cts": "typescript", ".tsx": "tsx",
    ".go": "go", ".rs": "rust", ".java": "java", ".c": "c", ".h": "c",
    ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".hpp": "cpp", ".hh": "cpp", ".hxx": "cpp", ".inl": "cpp",
    ".cs": "csharp", ".rb": "ruby", ".rake": "ruby", ".gemspec": "ruby", ".php": "php", ".swift": "swift",
    ".kt": "kotlin", ".kts": "kotlin", ".scala": "scala", ".sc": "scala", ".lua": "lua",
    ".sh": "bash", ".bash": "bash", ".bats": "bash", ".ex": "elixir", ".exs": "elixir",
    ".hs": "haskell", ".zig": "zig",
    ".md": "markdown", ".rst": "text", ".txt": "text", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml",
    ".json": "json", ".html": "html", ".css": "css", ".scss": "css", ".sql": "sql", ".proto": "proto",
}  # fmt: skip
FILE_NAMES = {"Makefile": "make", "Dockerfile": "docker", "Rakefile": "ruby", "Gemfile": "ruby"}
# Text for search, never parsed; every other language has a grammar.
PLAIN = {"text", "markdown", "toml", "yaml", "json", "html", "css", "sql", "proto", "make", "docker"}

# Tests map an extension to a grammar that hangs: ".cob=cobol".
TEST_LANGUAGES = "CODEFORGE_TEST_LANGUAGES"


def language_of(path: str) -> str:
    """The language of a path by its name; ``text`` when nothing is known about it."""
    name = PurePosixPath(path)
    suffix = name.suffix.lower()
    extra = dict(pair.split("=", 1) for pair in os.environ.get(TEST_LANGUAGES, "").split(",") if "=" in pair)
    return extra.get(suffix) or EXTENSIONS.get(suffix) or FILE_NAMES.get(name.name, "text")


@dataclass(frozen=True)
class Grammar:
    """A loaded grammar with its compiled tag query."""

    language: Language
    query: Query


class NoGrammar(Exception):
    """The grammar of a language is not there or does not work; its files are searched as plain text."""


@cache
def query_text(language: str) -> str:
    """The tag query of a language as written in ``queries/``; empty when it has none."""
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
        return Grammar(loaded, Query(loaded, query_text(language)))
    except Exception as reason:  # any failure of foreign code means the same: no grammar
        raise NoGrammar(f"no grammar for {language}: {reason}") from reason
