"""The shell parser, loaded on first need: what bash would run, as far as it can be read from the tree.

Importing the parser takes about 30 ms, so the daemon loads it in a thread (``warm``) before the first command.
"""

from __future__ import annotations

import asyncio
import codecs
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from codeforge_ls.policy.wordsets import names

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

MAX_COMMANDS = 100  # far beyond what is ever allowed; the rest is not looked at
MAX_HERE = 16  # here-documents begun on one row; the parser's time grows with their square
MAX_NODES = 2500  # an 8 KiB line has far fewer unless it was made to be slow
STRICT_KINDS = names("""program list pipeline command command_name word string string_content raw_string
    number concatenation
    comment && || ; | " redirected_statement file_redirect file_descriptor > >> >& &>""")
_WORDS = names("""word string raw_string number concatenation ansi_c_string translated_string simple_expansion expansion
    command_substitution process_substitution arithmetic_expansion brace_expression extglob_pattern regex
    test_operator special_variable_name variable_name""")
_NOTED = _WORDS | names("""command declaration_command unset_command file_redirect heredoc_body herestring_redirect
    variable_assignment""")
_QUIET_REDIRECT = re.compile(r"(?:\d?>&\d-?|&?>\s*/dev/null|[12]?>{1,2}\s*/dev/null|0?<\s*/dev/null)\Z")
# The scanner of tree-sitter-bash looks characters up in a table of 256 and crashes the process on others. What is
# read from the tree is cut from the real text, byte for byte; a line beyond ASCII is never allowed unasked anyway.
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_QUOTED_ESCAPE = re.compile(r"\\([$`\"\\\n])")


@dataclass(frozen=True)
class Command:
    """One simple command: its words, quotes removed. ``dynamic`` says that an expansion was left out of some word.

    ``assigned`` are the names of variables set before it.
    """

    argv: tuple[str, ...]
    dynamic_name: bool = False
    dynamic: bool = False
    assigned: tuple[str, ...] = ()


@dataclass
class Tree:
    """What one parse found, in source order. ``strict``: nothing but plain words, chains and quiet redirections."""

    commands: list[Command] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    source: bytes = field(default=b"", repr=False)
    strict: bool = True
    broken: bool = False
    unknown_redirect: bool = False


async def warm() -> None:
    """Load the parser without holding the event loop."""
    await asyncio.to_thread(_parser)


@lru_cache(maxsize=1)
def _parser() -> Parser:
    from tree_sitter_language_pack import get_parser

    return get_parser("bash")


def parse(text: str) -> Tree:
    """Every command at any depth, with redirections and here-documents. Never raises on any text."""
    source = text.encode("utf-8", "surrogatepass")
    tree = Tree(source=source)
    if source.count(b"<<") > MAX_HERE and any(row.count(b"<<") > MAX_HERE for row in source.split(b"\n")):
        tree.broken, tree.strict = True, False
        return tree
    try:
        root = _parser().parse(_BEYOND_ASCII.sub(b"_", source)).root_node
    except (ImportError, LookupError, ValueError, OSError):
        tree.broken, tree.strict = True, False
        return tree
    tree.broken = root.has_error
    stack, seen = [(root, "")], 0
    while stack:  # not recursive: nesting is as deep as the text says
        node, parent = stack.pop()
        seen += 1
        if seen > MAX_NODES or len(tree.commands) > MAX_COMMANDS:
            tree.broken = True
            break
        kind = node.type
        if kind not in STRICT_KINDS:
            tree.strict = False
        if kind in _NOTED:
            _visit(node, kind, parent, tree)
        if node.child_count:
            stack.extend([(child, kind) for child in reversed(node.children)])
    tree.strict = tree.strict and not tree.broken
    return tree


def _visit(node: Node, kind: str, parent: str, tree: Tree) -> None:
    if kind == "command":
        tree.commands.append(_command(node, tree))
    elif kind in ("declaration_command", "unset_command"):
        tree.commands.append(
            Command(tuple(_text(child, tree.source) for child in node.children), dynamic=True)
        )
    elif kind == "file_redirect":
        _redirect(node, tree)
    elif kind in ("heredoc_body", "herestring_redirect"):
        tree.bodies.append(_plain_body(node, tree.source))
    elif kind == "variable_assignment":
        tree.words.append(_text(node, tree.source))
    elif parent not in _WORDS:
        tree.words.append(_literal(node, tree.source)[0])


def _command(node: Node, tree: Tree) -> Command:
    argv: list[str] = []
    assigned: list[str] = []
    dynamic_name = dynamic = False
    for child in node.children:
        if child.type == "variable_assignment":
            assigned.append(_text(child, tree.source).split("=", 1)[0])
        elif child.type == "command_name":
            text, unsure = (
                _literal(child.children[0], tree.source)
                if child.children
                else (_text(child, tree.source), False)
            )
            dynamic_name = unsure or any(character in text for character in "*?[{")
            argv.append(text)
        elif child.type in _WORDS or child.type in ("==", "=~", "="):
            text, unsure = _literal(child, tree.source)
            dynamic = dynamic or unsure
            argv.append(text)
        elif child.type not in ("file_redirect", "herestring_redirect", "heredoc_redirect"):
            tree.strict = False
            argv.append(_text(child, tree.source))
            dynamic = True
    return Command(tuple(argv), dynamic_name, dynamic or dynamic_name, tuple(assigned))


def _redirect(node: Node, tree: Tree) -> None:
    text = _text(node, tree.source)
    if _QUIET_REDIRECT.match(text):
        return
    tree.strict = False
    reading = "<" in text and ">" not in text
    for child in node.children:
        if child.type not in _WORDS:
            continue
        target, unsure = _literal(child, tree.source)
        tree.unknown_redirect = tree.unknown_redirect or unsure
        if target and not (child.type == "number" and "&" in text) and target not in ("/dev/null", "-"):
            (tree.reads if reading else tree.writes).append(target)


def _literal(node: Node, source: bytes) -> tuple[str, bool]:
    """The word as bash would pass it, and whether something in it is only known at run time."""
    kind = node.type
    text = _text(node, source)
    if kind in ("word", "number", "test_operator", "regex", "extglob_pattern"):
        return (
            _ESCAPE.sub(lambda m: "" if m.group(1) == "\n" else m.group(1), text),
            kind == "extglob_pattern",
        )
    if kind == "raw_string":
        return text[1:-1], False
    if kind == "ansi_c_string":
        return _ansi_c(text[2:-1]), True
    if kind == "string":
        return _double_quoted(node, text, source)
    if kind == "translated_string":
        return _literal(node.children[-1], source)[0] if node.children else text, True
    if kind == "concatenation":
        parts = [_literal(child, source) for child in node.children]
        joined = "".join(part for part, _ in parts)
        return joined, any(unsure for _, unsure in parts) or "{" in text
    return ("", True) if kind in _WORDS else (text, False)


def _double_quoted(node: Node, text: str, source: bytes) -> tuple[str, bool]:
    inner = [child for child in node.children if child.type not in ('"', "string_content")]
    if not inner:
        return _QUOTED_ESCAPE.sub(lambda m: "" if m.group(1) == "\n" else m.group(1), text[1:-1]), False
    kept = "".join(_text(child, source) for child in node.children if child.type == "string_content")
    return _QUOTED_ESCAPE.sub(r"\1", kept), True


def _ansi_c(body: str) -> str:
    try:
        return codecs.decode(body.encode("latin-1", "backslashreplace"), "unicode_escape")
    except ValueError:
        return body


def _plain_body(node: Node, source: bytes) -> str:
    text = _text(node, source)
    return (
        _literal(node.children[-1], source)[0]
        if node.type == "herestring_redirect" and node.children
        else text
    )


def _text(node: Node, source: bytes) -> str:
    return source[node.start_byte : node.end_byte].decode("utf-8", "replace")
