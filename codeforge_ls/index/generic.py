"""Definitions in languages without a query of their own: from the names that grammars give to their nodes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Language

# What a node type that ends like a definition is about, most telling word first.
ABOUT = (
    ("interface", r"interface|trait|protocol|typeclass|signature_def"),
    ("enum", r"enum|enumeration"),
    ("struct", r"struct|structure|record|union|message|table"),
    ("class", r"class|object|contract|component|actor|service|entity"),
    ("method", r"method|constructor|getter|setter|rpc"),
    ("macro", r"macro"),
    ("function", r"function|func|fun|fn|procedure|proc|subroutine|routine|lambda|sub|task|rule|def|defun|decl_def"),
    ("module", r"module|namespace|package|library|unit|functor"),
    ("type", r"type|typedef|alias|newtype|data"),
    ("constant", r"constant|const"),
)  # fmt: skip
DEFINING = (
    r"definition|declaration|item|statement|def|decl|declarator|specifier|binding|block|clause|"
    r"signature|head|header"
)
# Without one of these words a node may still be a definition, if all its name says what it is.
BARE = re.compile(
    r"^(function|method|class|module|message|service|rpc|enum|procedure|interface|struct|contract|subroutine|"
    r"create_(table|view|function|procedure|type|trigger|index)(_statement|_stmt)?)$"
)
NEVER = re.compile(
    r"call|invocation|reference|literal|import|argument|parameter|_body|"
    r"modifier|_type_specifier|forward|comment|expression|pattern"
)
NAME_FIELDS = ("name", "declarator", "identifier")
NAME_NODES = (
    "identifier", "type_identifier", "simple_identifier", "name", "constant", "word", "symbol", "atom", "variable",
    "sym_lit", "message_name", "service_name", "rpc_name", "enum_name", "value_name", "object_reference", "ident",
    "function_name", "module_name", "type_name", "class_name", "qualified_name", "scoped_identifier", "bareword",
)  # fmt: skip


def definition_kind(node_type: str) -> str | None:
    """The kind of symbol that a node type defines by its name; None when it does not look like a definition."""
    if NEVER.search(node_type):
        return None
    for kind, words in ABOUT:
        if re.search(rf"(^|_)({words})_(\w+_)?({DEFINING})$", node_type):
            return kind
    if BARE.match(node_type):
        return next((kind for kind, words in ABOUT if re.search(rf"(^|_)({words})", node_type)), "type")
    return None


def generic_patterns(language: Language) -> str:
    """A tag query, a pattern a line, of whatever the grammar's node types say; empty when they say nothing."""
    from tree_sitter import Query

    named = {
        language.node_kind_for_id(at) or ""
        for at in range(language.node_kind_count)
        if language.node_kind_is_named(at) and language.node_kind_is_visible(at)
    }
    patterns: list[str] = []
    for node_type in sorted(named):
        kind = definition_kind(node_type)
        if kind is None:
            continue
        tries = [f"({node_type} {field}: (_) @name) @definition.{kind}" for field in NAME_FIELDS]
        tries += [
            f"({node_type} . ({name}) @name) @definition.{kind}" for name in NAME_NODES if name in named
        ] + [f"({node_type} ({name}) @name) @definition.{kind}" for name in NAME_NODES if name in named]
        for pattern in tries:
            try:
                Query(language, pattern)
            except Exception:  # noqa: BLE001, S112 - the grammar has no such child; the next one may fit
                continue
            patterns.append(pattern)
            break
    return "\n".join(patterns)
