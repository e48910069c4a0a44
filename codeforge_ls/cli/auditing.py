"""The verb ``audit``: the trail of who did what, when and why, whether the log is whole, and an export of it."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from codeforge_ls.cli.output import BOLD, DIM, RED
from codeforge_ls.cli.times import moment
from codeforge_ls.cli.verb import Context, Subparsers, add_verb

ACTIONS = ("approval", "denial", "policy", "trust", "keys", "settings", "delivery", "rewind", "drop")
PAGE = 1000


def declare(verbs: Subparsers) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs,
        "audit",
        audit,
        "Who did what, when and why: list it, check the log behind it, export it",
        """codeforge audit list --limit 20
codeforge audit list --run RUN_ID --action approval --action denial
codeforge audit list --who editor: --since 2026-01-31 --json
codeforge audit verify
codeforge audit export --output trail.jsonl && codeforge audit verify --against trail.jsonl""",
    )
    parser.add_argument("what", choices=("list", "verify", "export"))
    parser.add_argument("--run", metavar="RUN_ID", help="only of this run")
    parser.add_argument(
        "--action", action="append", choices=ACTIONS, default=[], help="only of this kind; may be repeated"
    )
    parser.add_argument("--who", metavar="TEXT", help="only by actors with this in their label")
    parser.add_argument(
        "--since", metavar="DATE", help="from then on, such as 2026-01-31 or 2026-01-31T08:00"
    )
    parser.add_argument("--until", metavar="DATE", help="before then")
    parser.add_argument("--cursor", type=int, metavar="N", help="list: go on after the last page")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="list: how many lines (50)")
    parser.add_argument("--output", metavar="FILE", help="export: a new file, mode 0600, not standard output")
    parser.add_argument(
        "--against", metavar="FILE", help="verify: an earlier export, which the log must still hold"
    )


def audit(context: Context) -> int:
    """List, verify or export."""
    return {"list": _list, "verify": _verify, "export": _export}[context.arguments.what](context)


def _wanted(given: argparse.Namespace) -> dict[str, Any]:
    wanted = {
        "run_id": given.run, "actions": given.action, "who": given.who,
        "since": _seconds("--since", given.since), "until": _seconds("--until", given.until),
    }  # fmt: skip
    return {name: value for name, value in wanted.items() if value not in (None, [])}


def _seconds(option: str, text: str | None) -> float | None:
    from codeforge_ls.model.errors import InvalidInput

    if text is None:
        return None
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise InvalidInput(f"{option} takes a date such as 2026-01-31T08:00, not {text!r}.") from error


def _list(context: Context) -> int:
    given, out = context.arguments, context.out
    wanted = {**_wanted(given), "limit": given.limit}
    if given.cursor is not None:
        wanted["cursor"] = given.cursor
    answer = context.daemon().call("audit.list", wanted)
    out.json(answer)
    rows = [(moment(e["time"]), e["action"], e["who"], e["what"], e["why"]) for e in answer["entries"]]
    out.table(("when", "action", "who", "what", "why"), rows)
    if answer["next_cursor"] is not None:
        out.line(out.paint(f"more: --cursor {answer['next_cursor']}", DIM))
    return 0


def _verify(context: Context) -> int:
    given, out = context.arguments, context.out
    wanted = {"against": str(Path(given.against).resolve())} if given.against is not None else {}
    answer = context.daemon().call("audit.verify", wanted)
    out.json(answer)
    for place in answer["broken"]:
        out.line(out.paint(place, RED))
    for table, rows in answer["tables"].items():
        out.line(out.paint(f"{table}: {len(rows)} rows are not what the log says", RED))
    out.line(out.paint("sound" if answer["sound"] else "broken", BOLD))
    return 0 if answer["sound"] else 1


def _export(context: Context) -> int:
    """Oldest first, one JSON object a line: the entry with its event, whose hash covers its content and the hash of
    the event before it in its stream."""
    given, out, daemon = context.arguments, context.out, context.daemon()
    wanted = {**_wanted(given), "order": "oldest", "limit": PAGE, "full": True}
    target, digest, lines = _target(given.output), hashlib.sha256(), 0
    try:
        while True:
            answer = daemon.call("audit.list", wanted)
            for entry in answer["entries"]:
                line = (json.dumps(entry, separators=(",", ":"), sort_keys=True) + "\n").encode()
                target.write(line)
                digest.update(line)
                lines += 1
            if answer["next_cursor"] is None:
                break
            wanted["cursor"] = answer["next_cursor"]
        target.flush()
    finally:
        if given.output is not None:
            target.close()
    if given.output is not None:
        out.json({"file": str(Path(given.output).resolve()), "entries": lines, "sha256": digest.hexdigest()})
        out.line(f"{lines} entries, SHA-256 {digest.hexdigest()}")
    return 0


def _target(output: str | None) -> Any:  # a binary stream; typeshed has no one name for both kinds
    from codeforge_ls.model.errors import Conflict, Unavailable

    if output is None:
        return sys.stdout.buffer
    try:
        return os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")
    except FileExistsError as error:
        raise Conflict(f"{output} is there already.", hint="Name a new file.") from error
    except OSError as error:
        raise Unavailable(f"{output} cannot be written: {error.strerror or error}.") from error
