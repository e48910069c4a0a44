"""The verb ``trust``: look at what the workspace's settings file wants to decide, and trust exactly that file."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from codeforge_ls.cli.output import BOLD, DIM, GREEN, YELLOW
from codeforge_ls.cli.verb import add_verb

if TYPE_CHECKING:
    from codeforge_ls.cli.verb import Context, Subparsers


def declare(verbs: Subparsers) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs,
        "trust",
        trust,
        "Let this version of the workspace's settings file choose the model, isolation and the like",
        """codeforge trust            # shows what it sets, and asks
codeforge trust --yes
codeforge trust --revoke""",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--yes", action="store_true", help="trust it without a question")
    how.add_argument("--revoke", action="store_true", help="trust no version of it any more")


def trust(context: Context) -> int:
    """Show, ask, trust. Only a person's terminal gets through; an agent's shell is refused by the daemon."""
    daemon, out = context.daemon(), context.out
    if context.arguments.revoke:
        return _told(context, daemon.call("trust.revoke", {}))
    found = daemon.call("trust.show", {})
    if found["trusted"] or not found["sha256"]:
        return _told(context, found)
    if not context.arguments.yes:
        if out.as_json or not sys.stdin.isatty():
            return _told(context, found)
        _show(context, found)
        if input("Trust exactly this file? [y/N] ").strip().casefold() not in ("y", "yes"):
            return 1
    return _told(context, daemon.call("trust.grant", {"sha256": found["sha256"]}))


def _show(context: Context, found: dict[str, Any]) -> None:
    out = context.out
    out.line(out.paint(found["file"], BOLD), out.paint(f"sha256 {found['sha256']}", DIM))
    for name, value in found["withheld"].items():
        out.line(out.paint(f"  {name}: {json.dumps(value)}", YELLOW))
    if not found["withheld"]:
        out.line("It sets nothing that needs your trust.")


def _told(context: Context, found: dict[str, Any]) -> int:
    context.out.json(found)
    if not found["sha256"]:
        context.out.line(f"There is no file {context.out.paint(found['file'])}.")
        return 1
    _show(context, found)
    word, color = ("trusted", GREEN) if found["trusted"] else ("not trusted", YELLOW)
    context.out.line(context.out.paint(word, BOLD, color))
    if later := found.get("restart_needed"):
        context.out.note(f"{', '.join(later)}: after `codeforge daemon restart`")
    return 0 if found["trusted"] or context.arguments.revoke else 1
