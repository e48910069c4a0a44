"""The verb ``keys``: the keys that the daemon keeps, by name. A value is typed or piped in, never an argument."""

from __future__ import annotations

import getpass
import sys

from codeforge_ls.cli.output import DIM, YELLOW
from codeforge_ls.cli.verb import Context, Subparsers, accept_key, add_verb, keyed


def declare(verbs: Subparsers) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs,
        "keys",
        keys,
        "List the keys of model providers by name, hand one over, or take it back",
        """codeforge keys list
codeforge keys set OPENAI_API_KEY
pass show openai | codeforge keys set OPENAI_API_KEY
codeforge keys forget OPENAI_API_KEY""",
    )
    parser.add_argument("action", choices=("list", "set", "forget"))
    parser.add_argument("name_of", nargs="?", metavar="NAME", help="the variable, such as OPENAI_API_KEY")
    accept_key(parser)


def keys(context: Context) -> int:
    """List, set or forget."""
    given, out = context.arguments, context.out
    if given.action == "list":
        answer = context.daemon().call("keys.list")
    elif given.name_of is None:
        out.error(
            {
                "code": "invalid_input",
                "message": f"keys {given.action} takes a NAME.",
                "hint": "See --help.",
                "data": {},
            }
        )
        return 2
    else:
        value = _value(given.name_of) if given.action == "set" else None
        answer = context.daemon().call("keys.set", keyed(given, {"keys": {given.name_of: value}}))
    out.json(answer)
    out.table(("key", "from"), [(key["name"], key["source"]) for key in answer["keys"]])
    out.line(out.paint(f"file: {answer['file']}", DIM))
    for problem in answer["problems"]:
        out.line(out.paint(problem, YELLOW))
    return 0


def _value(name: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(f"{name}: ")
    return sys.stdin.readline().rstrip("\r\n")
