"""What single arguments of known programs can do: run another program, read or write another file.

A rule such as ``git diff`` promises what that program does, not what ``--output`` or ``--ext-diff`` add to it.
GNU abbreviations count: ``--outp`` is ``--output``.
"""

from __future__ import annotations

import re
from itertools import zip_longest

from codeforge_ls.policy.guards import GIT_PLAIN, GIT_RUNS, GUARDS, PYTEST, Guard
from codeforge_ls.policy.wordsets import names

_SED_SCRIPT = re.compile(
    r"(?:(?:\d+|\$)?(?:,(?:\+?\d+|\$))?|/[^/\n]*/)?(?:[pdq=]|s([/|,#])(?:(?!\1)[^\\\n])*\1(?:(?!\1)[^\\\n])*\1[gpiI\d]*)\Z"
)
_GLOB_SAFE = names("find grep egrep fgrep wc head tail file")
_AWK_RUNS = re.compile(r"system|getline|[|>@]|close|fflush|ENVIRON|PROCINFO")
# Words of any kind, not only options: a program text, an archive on another host, a command for a pager.
_RUNS_PROGRAMS = {
    "awk": _AWK_RUNS,
    "gawk": _AWK_RUNS,
    "mawk": _AWK_RUNS,
    "tar": re.compile(":"),
    "less": re.compile(r"\+"),
    "more": re.compile(r"\+"),
    "man": re.compile(r"\+"),
}
_SED_PLAIN = names("-n -E -r -z -u --quiet --silent --regexp-extended -nE -En -nr")


def doubtful_argument(argv: tuple[str, ...], covered: int) -> str | None:
    """The first argument after ``covered`` words that does more than the program's name promises; None if none does.

    ``covered`` is how many words the rule itself spelled out: what it names, it allows.
    """
    name, rest = argv[0], argv[max(1, covered) :]
    if name == "sed":
        return _sed(rest)
    if name == "git" and (found := _git(argv, covered)):
        return found
    if (runs := _RUNS_PROGRAMS.get(name)) and (found := next(filter(runs.search, rest), None)):
        return found
    if re.match(r"python[\d.]*\Z", name) and len(argv) > 2 and argv[1] == "-m":
        name = argv[2]
    if name == "tar" and rest and not rest[0].startswith("-"):
        rest = ("-" + rest[0], *rest[1:])
    guard = GUARDS.get(name)
    if guard is None:
        return None
    for word, after in zip_longest(rest, rest[1:], fillvalue=""):
        if word == "-p" and after.startswith("no:") and guard is PYTEST:
            continue  # only switches a plugin off
        if word == "--" and name not in ("npm", "go"):
            return next((late for late in rest if late.startswith("@")), None) if guard.plain else word
        if _is_doubtful(word, name, guard):
            return word
    return None


def _git(argv: tuple[str, ...], covered: int) -> str | None:
    """What a subcommand is told to run, and placeholders that ask gpg."""
    sub = next((word for word in argv[1:] if word != "--no-pager"), "")
    if covered < 2 and sub not in GIT_PLAIN:
        return sub or argv[0]
    runs = GIT_RUNS.get(sub, frozenset())
    for word in argv[max(2, covered) :]:
        letters = word[:2] if word.startswith("-") and not word.startswith("--") else word
        if word.split("=", 1)[0] in runs or letters in runs or "%G" in word or word.startswith("ext::"):
            return word
    return None


def _is_doubtful(word: str, name: str, guard: Guard) -> bool:
    if word == "--":
        return True  # what follows goes to a program we do not know
    if word.startswith(("*", "?", "[")):
        # a file may be named like an option; these programs have no harmful option with a dot in it
        return name not in _GLOB_SAFE or "." not in word
    if word.startswith("@") and name != "git":
        return True  # @file holds further options
    if word.startswith("--"):
        return _long(word[2:].split("=", 1)[0], guard)
    if word.startswith("-") and len(word) > 1:
        if guard.single_dash:
            return _long(word[1:].split("=", 1)[0].removeprefix("test."), guard)
        if name in ("pytest", "py.test") and word.startswith("-pno:"):
            return False
        return _cluster(word[1:], guard)
    if not guard.plain:
        return True
    return name in ("npm", "cargo") and "=" in word


def _long(option: str, guard: Guard) -> bool:
    if guard.only:
        return option not in guard.long
    if option in guard.long:
        return True
    if option in guard.known or not option:
        return False
    return not guard.single_dash and any(dangerous.startswith(option) for dangerous in guard.long)


def _cluster(letters: str, guard: Guard) -> bool:
    for letter in letters:
        if letter in guard.values:
            return False
        if (letter in guard.short) is not guard.only:
            return True
    return False


def _sed(words: tuple[str, ...]) -> str | None:
    script_seen, expects = False, False
    for word in words:
        if expects or (not word.startswith("-") and not script_seen):
            script_seen, expects = True, False
            if not _SED_SCRIPT.match(word):
                return word
        elif word in ("-e", "--expression"):
            expects = True
        elif word.startswith("-") and word not in _SED_PLAIN:
            return word
    return None
