"""A command line as a policy judges it: what surely runs, what might run, what is written, and what is in doubt.

Allowing needs proof, denying needs only suspicion. ``Doubt`` says how far the proof goes: a list of allowed commands
needs ``NONE`` (the shell parser and our own lexer agree on every word); a blanket allow beside a list of denied
commands needs less than ``OPAQUE``; no allow survives ``UNREADABLE``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum

from codeforge_ls.policy import nested
from codeforge_ls.policy.lexer import lex
from codeforge_ls.policy.outputs import written_paths
from codeforge_ls.policy.syntax import Command, parse

MAX_COMMAND = 8192  # bytes
MAX_PARTS = 20
MAX_DEPTH = 4
_MAX_SUSPECTS = 400
_NO_SCRIPTS = frozenset({"git", "make", "gmake", "tar"})  # a commit message is no program
_BAD_CHARACTER = re.compile(r"[^\n\t -~]")
_FALLBACK_SPLIT = re.compile(r"[;&|\n(){}`<>$\"']+")


class Doubt(IntEnum):
    """How sure it is that the words we see are the programs that run."""

    NONE = 0
    LOOSE = 1
    OPAQUE = 2
    UNREADABLE = 3


@dataclass
class CommandLine:
    """One parsed line. ``mentions`` are argument vectors that might be run; ``words`` everything that may be a path."""

    text: str
    commands: list[tuple[str, ...]] = field(default_factory=list)
    mentions: list[tuple[str, ...]] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    doubt: Doubt = Doubt.NONE
    why: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to run: blank, or only a comment."""
        return not self.text.strip() or (not self.commands and self.doubt is Doubt.NONE)

    def doubted(self, doubt: Doubt, why: str) -> None:
        """Raise the doubt; the reason of the greatest one stays."""
        if doubt > self.doubt:
            self.doubt, self.why = doubt, why


def read_line(text: str) -> CommandLine:
    """Take a command line apart. Never raises; what cannot be read is in doubt."""
    line = CommandLine(text[: 2 * MAX_COMMAND])
    if len(text.encode("utf-8", "surrogatepass")) > MAX_COMMAND:
        line.doubted(Doubt.UNREADABLE, f"the command is longer than {MAX_COMMAND:,} bytes")
        return line
    if bad := _BAD_CHARACTER.search(text):
        line.doubted(Doubt.UNREADABLE, f"it holds the character U+{ord(bad.group()):04X}")
    _read(line, text, depth=0)
    if line.doubt is Doubt.NONE and [tuple(argv) for argv in line.commands] != (lex(text) or []):
        line.doubted(Doubt.LOOSE, "its words cannot be read without interpretation")
    for argv in dict.fromkeys(line.commands):
        _open_up(line, argv, depth=0)
    for argv in dict.fromkeys(line.commands):
        line.writes += written_paths(argv)
    if len(line.commands) > MAX_PARTS:
        line.doubted(Doubt.UNREADABLE, f"it has more than {MAX_PARTS} parts")
    return line


def _read(line: CommandLine, text: str, depth: int) -> list[tuple[str, ...]]:
    tree = parse(text)
    found = [command.argv for command in tree.commands if command.argv]
    line.commands += found
    line.writes += tree.writes
    line.reads += tree.reads
    line.words += tree.words
    if not tree.strict or depth:
        line.doubted(Doubt.LOOSE, "it is more than a chain of plain commands")
    if tree.broken:
        line.doubted(Doubt.UNREADABLE, "the shell parser cannot read all of it")
        _guess(line, text)
    if tree.unknown_redirect:
        line.doubted(Doubt.OPAQUE, "it writes to a file whose name is only known at run time")
    for command in tree.commands:
        _doubt_command(line, command)
    _read_bodies(line, tree.bodies, depth)
    return found


def _doubt_command(line: CommandLine, command: Command) -> None:
    if command.dynamic_name or (command.argv and not command.argv[0]):
        line.doubted(Doubt.OPAQUE, "the name of a program is only known at run time")
        # an expansion may stand for the words around it, so what is left may still be the program
        line.mentions.extend(command.argv[index:] for index in range(min(len(command.argv), 8)))
    for variable in command.assigned:
        if nested.DANGEROUS_VARIABLES.match(variable):
            line.doubted(Doubt.OPAQUE, f"it sets {variable[:60]}")


def _read_bodies(line: CommandLine, bodies: list[str], depth: int) -> None:
    if not bodies:
        return
    runs_code = {nested.program(argv) for argv in line.commands}
    if runs_code & nested.SHELLS and depth < MAX_DEPTH:
        for body in bodies:
            _open_code(line, body, depth)
    elif any(nested.INTERPRETERS.match(name) for name in runs_code):
        line.scripts += bodies


def _open_up(line: CommandLine, argv: tuple[str, ...], depth: int) -> None:
    """Add what ``argv`` would run in turn."""
    inner = nested.look_inside(argv)
    if inner.opaque:
        line.doubted(Doubt.OPAQUE, inner.opaque)
    elif inner.loose:
        line.doubted(Doubt.LOOSE, inner.loose)
    if inner.mentions:
        line.mentions += inner.mentions[: max(0, _MAX_SUSPECTS - len(line.mentions))]
    name = nested.program(argv)
    if nested.INTERPRETERS.match(name) and name not in _NO_SCRIPTS:
        line.scripts += [word for word in argv[1:] if "(" in word or " " in word]
    if (inner.commands or inner.code) and (depth >= MAX_DEPTH or len(line.commands) > _MAX_SUSPECTS):
        line.doubted(Doubt.UNREADABLE, "commands are nested too deeply")
        return
    for command in inner.commands:
        line.commands.append(command)
        _open_up(line, command, depth + 1)
    for code in inner.code:
        _open_code(line, code, depth)


def _open_code(line: CommandLine, code: str, depth: int) -> None:
    line.doubted(Doubt.LOOSE, "a string is run as a command")
    for command in _read(line, code, depth + 1):
        _open_up(line, command, depth + 1)


def _guess(line: CommandLine, text: str) -> None:
    """Where the parser gave up, whatever follows a shell operator may be a command."""
    for piece in _FALLBACK_SPLIT.split(text)[:_MAX_SUSPECTS]:
        if words := tuple(piece.replace("\\", "").split()):
            line.mentions.append(words)
