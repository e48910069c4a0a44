"""Which files a known program writes by its arguments: output options, destinations, in-place edits."""

from __future__ import annotations

import re

from codeforge_ls.policy.nested import program
from codeforge_ls.policy.wordsets import names

_ALL_OPERANDS = names("tee touch rm rmdir unlink shred truncate mkdir mkfifo")
_BUT_FIRST = names("chmod chown chgrp")
_DESTINATION = names("cp mv ln install rsync scp")
# Long options that name a file to write, for every program; a program that has none of them is not harmed.
_LONG = re.compile(
    r"--(?:outp(?:u(?:t(?:-(?:file|document|directory))?)?)?|out-?file|log-file|junit-?xml|"
    r"target-directory|dump-header|cookie-jar|report-log|basetemp)(?:=(.*))?\Z",
    re.DOTALL,
)
_SHORT = {
    "sort": "o",
    "curl": "oD",
    "wget": "O",
    "tree": "o",
    "gcc": "o",
    "cc": "o",
    "clang": "o",
    "go": "o",
    "rustc": "o",
    "ld": "o",
    "cp": "t",
    "mv": "t",
    "ruff": "o",
    "time": "o",
    "eslint": "o",
    "zip": "",
}


def written_paths(argv: tuple[str, ...]) -> list[str]:
    """The paths that the arguments say are written or removed, as far as the program is known."""
    name = program(argv)
    found = _by_option(name, argv)
    operands = [word for word in argv[1:] if not word.startswith("-")]
    if name in _ALL_OPERANDS:
        found += operands
    elif name in _BUT_FIRST:
        found += operands[1:]
    elif name in _DESTINATION and operands:
        found += operands if name == "mv" else operands[-1:]
    elif name == "dd":
        found += [word[3:] for word in operands if word.startswith("of=")]
    elif name in ("sed", "gsed", "perl") and any(re.match(r"-\w*i|--in-place", word) for word in argv[1:]):
        found += operands[1:] or operands
    elif name == "uniq" and len(operands) > 1:
        found += operands[1:2]
    return found


def _by_option(name: str, argv: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    letters = _SHORT.get(name, "")
    for index, word in enumerate(argv[1:], start=1):
        if match := _LONG.match(word):
            found += [match.group(1)] if match.group(1) is not None else list(argv[index + 1 : index + 2])
        elif letters and len(word) > 1 and word[0] == "-" and word[1] in letters:
            found += [word[2:]] if len(word) > 2 else list(argv[index + 1 : index + 2])
    return [path for path in found if path]
