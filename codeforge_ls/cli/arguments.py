"""The command line of ``codeforge``: all verbs, their options and their help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from codeforge_ls import __version__
from codeforge_ls.cli import (
    attaching,
    auditing,
    finding,
    governing,
    history,
    keeping,
    logbook,
    running,
    trusting,
    upkeep,
)
from codeforge_ls.cli.main import DESCRIPTION
from codeforge_ls.cli.verb import common_options


def parse(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The arguments, and for ``demo`` the rest that is its own. Ends the process with 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="codeforge",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_options(top=True)],
    )
    parser.add_argument("--version", action="version", version=f"codeforge {__version__}")
    verbs = parser.add_subparsers(dest="verb_name", metavar="VERB", required=True, title="verbs")
    for part in (
        finding,
        running,
        history,
        governing,
        attaching,
        trusting,
        keeping,
        auditing,
        upkeep,
        logbook,
    ):
        part.declare(verbs)
    verbs.add_parser("demo", add_help=False, help="See it all work on a real code base, offline")
    arguments, rest = parser.parse_known_args(words)
    if rest and arguments.verb_name != "demo":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    for override in arguments.set:
        name, equals, _ = override.partition("=")
        if not equals or "." not in name:
            parser.error(f"--set takes SECTION.FIELD=VALUE, not {override!r}")
    return arguments, rest
