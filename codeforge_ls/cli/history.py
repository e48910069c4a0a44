"""The verbs that look back and go back: ``checkpoints`` and ``rewind``."""

from __future__ import annotations

from typing import Any

from codeforge_ls.cli.finding import progress_bar
from codeforge_ls.cli.output import BOLD, DIM, GREEN, YELLOW
from codeforge_ls.cli.times import moment
from codeforge_ls.cli.verb import Context, Subparsers, accept_key, add_verb, keyed


def declare(verbs: Subparsers) -> None:
    """Add the verbs to the command line."""
    listing = add_verb(
        verbs,
        "checkpoints",
        checkpoints,
        "List checkpoints, or show what changed since one",
        """codeforge checkpoints
codeforge checkpoints --run RUN_ID
codeforge checkpoints --diff CHECKPOINT_ID""",
    )
    listing.add_argument("--run", metavar="RUN_ID", help="only those of one run")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="how many (50)")
    listing.add_argument("--diff", metavar="CHECKPOINT_ID", help="the diff from this checkpoint to now")

    back = add_verb(
        verbs,
        "rewind",
        rewind,
        "Put the files back as they were at a checkpoint",
        """codeforge rewind RUN_ID                 what this run changed, as it was before
codeforge rewind RUN_ID --to last       only its last action
codeforge rewind CHECKPOINT_ID --all    the whole tree as it was then""",
    )
    back.add_argument("target", metavar="RUN_OR_CHECKPOINT", help="id of a run or of a checkpoint")
    back.add_argument("--to", metavar="first|last|CHECKPOINT_ID", help="where to, for a run (first)")
    back.add_argument("--all", action="store_true", help="every file, not only those the run changed")
    accept_key(back)


def checkpoints(context: Context) -> int:
    """List, or diff."""
    given, out = context.arguments, context.out
    if given.diff:
        answer = context.daemon().call("checkpoint.diff", {"checkpoint_id": given.diff})
        out.json(answer)
        out.diff(answer["diff"])
        return 0
    answer = context.daemon().call("checkpoint.list", {"run_id": given.run, "limit": given.limit})
    out.json(answer)
    rows = [
        (c["id"], moment(c["created_at"]), c["kind"], c["stream"], c["label"]) for c in answer["checkpoints"]
    ]
    out.table(("id", "taken", "kind", "stream", "before"), rows)
    return 0


def rewind(context: Context) -> int:
    """Restore, and say how to undo that."""
    given, out = context.arguments, context.out
    wanted = keyed(given, _wanted(given.target, given.to, whole=given.all))
    daemon = context.daemon()
    with progress_bar(context) as on_progress:
        answer = daemon.call("checkpoint.restore", wanted, on_progress)
    out.json(answer)
    for path in answer["changed"]:
        out.line(out.paint("restored", GREEN), out.paint(path))
    for path in answer["conflicts"]:
        out.line(out.paint("left as it is", YELLOW), out.paint(path))
    if not answer["changed"] and not answer["conflicts"]:
        unchanged = answer["status"] == "applied"
        out.line(out.paint("nothing had changed" if unchanged else answer["message"], BOLD))
    if answer["safety_checkpoint_id"]:
        out.line(out.paint(f"undo: codeforge rewind {answer['safety_checkpoint_id']} --all", DIM))
    return 0 if answer["status"] == "applied" and not answer["conflicts"] else 1


def _wanted(target: str, to: str | None, *, whole: bool) -> dict[str, Any]:
    scope = {"scope": "all" if whole else "run"}
    if to is not None and to not in ("first", "last"):
        return {"checkpoint_id": to, **scope}
    if target.startswith("run-"):
        return {"run_id": target, "to": to or "first", **scope}
    return {"checkpoint_id": target, **scope}
