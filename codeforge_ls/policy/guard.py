"""The built-in guard: what no rule of a preset or a project can allow, checked before all rules.

Secrets, git's own files, CodeForge's own files and files that editors and shells run are neither read nor written;
nothing an agent runs may talk to CodeForge, or it would approve itself. A command may name git's files and such (to
list or to leave them out), but not show or change them; a secret it may not even name.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import lru_cache

from codeforge_ls.policy.commands import CommandLine, Doubt
from codeforge_ls.policy.globs import fold, matches_any_folded
from codeforge_ls.policy.nested import INTERPRETERS, program
from codeforge_ls.policy.wordsets import names

# ruff: noqa: PTH118  os.path is 20 times faster than pathlib, and a decision has 1 ms

SECRETS = (
    "**/.env",
    "**/.env/**",
    "**/.env.*",
    "**/.envrc",
    "**/secrets/**",
    "**/credentials*",
    "**/*.pem",
    "**/*.key",
    "**/*.p12",
    "**/*.pfx",
    "**/*.ppk",
    "**/*.kdbx",
    "**/id_rsa*",
    "**/id_dsa*",
    "**/id_ecdsa*",
    "**/id_ed25519*",
    "**/.ssh/**",
    "**/.gnupg/**",
    "**/.aws/**",
    "**/.kube/**",
    "**/.netrc",
    "**/.pgpass",
    "**/.pypirc",
    "**/.git-credentials",
)
"""Paths that are neither read nor written."""

SETTINGS = (
    "**/.git/**",
    "**/.codeforge/**",
    "**/.vscode/**",
    "**/.idea/**",
    "**/.claude/**",
    "**/.cursor/**",
    "**/.mcp.json",
    "**/.nvim.lua",
    "**/.nvimrc",
    "**/.vimrc",
    "**/.exrc",
    "**/.dir-locals.el",
    "**/.gitconfig",
    "**/.bashrc",
    "**/.bash_profile",
    "**/.bash_login",
    "**/.bash_logout",
    "**/.bash_aliases",
    "**/.profile",
    "**/.zshrc",
    "**/.zshenv",
    "**/.zprofile",
    "**/.zlogin",
    "**/.zlogout",
    "**/.inputrc",
    "**/.config/fish/**",
)
"""Paths that tools neither read nor write: they configure programs that run outside, and often hold tokens."""

PROGRAMS = ("**/.venv/bin/**", "**/venv/bin/**", "**/node_modules/.bin/**")
"""Programs that a later ``python`` or ``npm`` would start: read, not written."""


class Access(IntEnum):
    """What would happen to a path. Each includes the ones before it."""

    NAME = 0  # a command names it: to list it, to leave it out
    READ = 1  # its content would be shown
    WRITE = 2


_SAMPLES = names(
    """.env .env.local .env.production .envrc secrets credentials credentials.json key.pem server.key id_rsa
    id_ed25519 .ssh .aws .gnupg .netrc .pypirc .git-credentials"""
)
_SHOWERS = names("cat head tail grep egrep fgrep rg less more diff cmp")
_LISTERS = names("""ls wc stat file tree md5sum sha1sum sha256sum du find test [ readlink realpath basename dirname
    cd pushd""")
_LEAVES_OUT = re.compile(r"-{1,2}(?:exclude\S*|g|glob|iglob|I)\Z")  # what follows says what is not looked at
_SELF = frozenset({"codeforge", "codeforge-ls", "codeforge-mcp"})
_SELF_MODULE = re.compile(r"(?:codeforge_ls|mcp_server)(?:\.|\Z)")
_SELF_IMPORT = re.compile(r"\b(?:codeforge_ls|mcp_server)\b")
_SELF_STATE = re.compile(
    r"(?:^|/)codeforge(?:-\d+)?/(?:[0-9a-f]{12}\b|[^/]*\.sock)|(?:^|/)codeforge-\d+(?:/|\Z)|state/codeforge(?:/|\Z)"
)
_PIECES = re.compile(r"[=:,@]")
_TOKENS = re.compile(r"[^\s'\"()\[\]{};|&<>,=:@`$\\]+")
_MAX_WORDS = 600


def protected(path: str, access: Access, extra: Sequence[str] = ()) -> str | None:
    """Why a workspace-relative or absolute path is protected from that access, None if it is not."""
    special = may_be_special(fold(path))
    if (special and matches_any_folded(SECRETS, path)) or (extra and matches_any_folded(extra, path)):
        return "it may hold secrets"
    if not special:
        return None
    if access >= Access.READ and matches_any_folded(SETTINGS, path):
        return "programs take their settings from it"
    if access >= Access.WRITE and matches_any_folded(PROGRAMS, path):
        return "it is a program that would be run later"
    return None


_SPECIAL = re.compile(
    r"\.env|secrets|credentials|\.(?:pem|key|p12|pfx|ppk|kdbx)|id_(?:rsa|dsa|ecdsa|ed25519)|\.(?:ssh|gnupg|aws|kube|netrc|"
    r"pgpass|pypirc|git|codeforge|vscode|idea|claude|cursor|mcp|nvim|vim|exrc|dir-locals|bash|profile|z[sepl]|inputrc|"
    r"config|bin)|venv"
)


def may_be_special(folded: str) -> bool:
    """A quick look at a folded path, or at many in one text, that spares most the forty globs."""
    return _SPECIAL.search(folded) is not None


def command_problem(line: CommandLine, root: str, cwd: str, extra: Sequence[str] = ()) -> str | None:
    """Why a command is refused before all rules, None if it is not: it names what is protected, or CodeForge itself."""
    for argv in dict.fromkeys((*line.commands, *line.mentions)):
        if reaches_codeforge(argv):
            return f"an agent may not run CodeForge ({_short(' '.join(argv))})"
    for word, access in _named_words(line).items():
        if why := _named(word, root, cwd, access, extra):
            return f"it {_DOES[access]} {_short(word)}: {why}"
    for script in line.scripts:
        if _SELF_IMPORT.search(script) and ("import" in script or "run_module" in script):
            return "an agent may not run CodeForge"
        for token in _TOKENS.findall(script)[:_MAX_WORDS]:
            if why := protected(token, Access.WRITE, extra):
                return f"its code names {_short(token)}: {why}"
    return None


def reaches_codeforge(argv: tuple[str, ...]) -> bool:
    """Whether the command starts one of our own programs or speaks to the daemon's socket."""
    name = program(argv)
    if name in _SELF:
        return True
    if any(_SELF_STATE.search(word) for word in argv[1:] if "codeforge" in word):
        return True
    return INTERPRETERS.match(name) is not None and any(
        (before in ("-m", "--module") and _SELF_MODULE.match(word) is not None)
        or word.startswith("-mcodeforge_ls")
        for before, word in itertools.pairwise(argv)
    )


_DOES = {Access.NAME: "names", Access.READ: "would show", Access.WRITE: "would write"}


def _named_words(line: CommandLine) -> dict[str, Access]:
    """Every word that may be a path, and the most that may happen to it."""
    found: dict[str, Access] = {}

    def note(words: Iterable[str], access: Access) -> None:
        for word in words:
            found[word] = max(access, found.get(word, Access.NAME))

    for argv in dict.fromkeys(line.commands):
        note(argv[:1], Access.NAME)
        for before, word in itertools.pairwise(argv):
            access = _use(program(argv), before)
            note([word], access)
            note(_pieces(word), Access.NAME if access is Access.READ else access)
    note(line.reads, Access.READ)
    note((piece for text in line.words for piece in _pieces(text)), Access.NAME)
    if not line.commands or line.doubt is Doubt.UNREADABLE:
        note(_TOKENS.findall(line.text)[:_MAX_WORDS], Access.NAME)
    note(line.writes, Access.WRITE)
    return found


def _use(name: str, before: str) -> Access:
    """What a program may do to an argument; one that is not known to read only may write it."""
    if name in _LISTERS or (name in _SHOWERS and _LEAVES_OUT.match(before)):
        return Access.NAME
    return Access.READ if name in _SHOWERS else Access.WRITE


def _pieces(word: str) -> list[str]:
    """The word and the parts of it that a program may take for a path: ``-d@.env``, ``HEAD:.env``, ``--to=.env``."""
    if len(word) > 1024:
        return [word[:1024]]
    parts = [word]
    if _PIECES.search(word):
        parts += [part for part in _PIECES.split(word) if part]
    if word.startswith("-") and len(word) > 2 and not word.startswith("--"):
        parts.append(word[2:])
    if word.startswith((":(", ":!", ":/", ":^")):
        parts.append(word.split(")", 1)[-1].lstrip(":!/^"))
    return parts


def _named(word: str, root: str, cwd: str, access: Access, extra: Sequence[str]) -> str | None:
    if not word or "\0" in word:
        return None
    plain = os.path.normpath(word)
    if why := protected(plain, access, extra):
        return why if _looks_like_path(word, root, cwd) else None
    if any(character in plain for character in "*?[") and _glob_reaches_secret(plain):
        return "the pattern matches files that may hold secrets"
    whole = os.path.join(root, cwd, plain)
    try:
        if not os.path.lexists(whole):
            return None
        real = os.path.realpath(whole)
    except (OSError, ValueError):
        return None
    if real == whole:
        return None
    prefix = root if root.endswith("/") else root + "/"
    return protected(real.removeprefix(prefix), access, extra)


def _looks_like_path(word: str, root: str, cwd: str) -> bool:
    """A bare word such as ``credentials`` in ``grep credentials`` is a path only if there is such a file."""
    if "." in word or "/" in word or word.startswith("id_"):
        return True
    return os.path.lexists(os.path.join(root, cwd, word))


@lru_cache(maxsize=1024)
def _glob_reaches_secret(pattern: str) -> bool:
    """Whether a shell pattern with at least two plain characters in a segment matches a usual secret's name."""
    plain = re.sub(r"\[([^\]!^])\]", r"\1", pattern.casefold())  # [.]env
    if plain != pattern and protected(plain, Access.NAME):
        return True
    for segment in plain.split("/"):
        literal = re.sub(r"\[[^\]]*\]|[*?]", "", segment)
        if segment == literal or (len(literal) < 2 and not segment.startswith(".")):
            continue
        if any(_shell_match(sample, segment) for sample in _SAMPLES):
            return True
    return False


def _shell_match(name: str, pattern: str) -> bool:
    # a leading star does not match a hidden file in bash
    if name.startswith(".") and pattern[0] in "*?[":
        return False
    return fnmatch.fnmatchcase(name, pattern)


def _short(text: str) -> str:
    return repr(text[:80])
