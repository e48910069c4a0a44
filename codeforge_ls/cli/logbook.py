"""The verbs for what was written down: ``logs``, ``events`` and ``db``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from codeforge_ls.cli.output import BOLD, DIM, RED, YELLOW, safe
from codeforge_ls.cli.verb import Context, Subparsers, accept_key, add_verb, keyed

LEVEL_COLORS = {"error": RED, "critical": RED, "warning": YELLOW}
SHOWN_FIRST = ("time", "level", "service", "msg")


def declare(verbs: Subparsers) -> None:
    """Add the verbs to the command line."""
    logs_help = add_verb(
        verbs,
        "logs",
        logs,
        "Read the logs of this workspace's processes",
        """codeforge logs                    the last 50 lines of all
codeforge logs errors --json
codeforge logs service index-worker --limit 200
codeforge logs request cli-1a2b3c-7""",
    )
    logs_help.add_argument(
        "what", nargs="?", choices=("tail", "errors", "service", "request"), default="tail"
    )
    logs_help.add_argument(
        "which", nargs="?", metavar="NAME_OR_ID", help="of service: its name; of request: its id"
    )
    logs_help.add_argument("--limit", "-n", type=int, default=50, metavar="N", help="how many lines (50)")

    events_help = add_verb(
        verbs,
        "events",
        events,
        "Check the log of events, or export and drop old streams",
        """codeforge events verify
codeforge events verify --stream run:RUN_ID
codeforge events drop --older-than 180""",
    )
    events_help.add_argument("action", choices=("verify", "drop"))
    events_help.add_argument("--stream", metavar="S", help="verify only this stream")
    events_help.add_argument(
        "--older-than", type=float, metavar="DAYS", help="drop: days without an event (setting)"
    )
    accept_key(events_help)

    db_help = add_verb(
        verbs,
        "db",
        db,
        "Migrate this workspace's database up or down; no daemon may be running",
        """codeforge db version --json
codeforge daemon stop && codeforge db migrate
codeforge db rollback --steps 1""",
    )
    db_help.add_argument("action", choices=("migrate", "rollback", "version"))
    db_help.add_argument("--to", type=int, metavar="NUMBER", help="migrate: up to this one (all)")
    db_help.add_argument("--steps", type=int, default=1, metavar="N", help="rollback: how many (1)")
    db_help.add_argument(
        "--lose-events", action="store_true", help="rollback: even where the log itself is lost"
    )


def _state(context: Context) -> Path:
    from codeforge_ls.config import state_dir

    return state_dir(context.root)


def logs(context: Context) -> int:
    """Print log lines, oldest first."""
    from codeforge_ls import logs as reader
    from codeforge_ls.model.errors import InvalidInput

    given, out = context.arguments, context.out
    if given.what in ("service", "request") and not given.which:
        raise InvalidInput(f"logs {given.what} needs a name or id.", hint="See codeforge logs --help.")
    if not 1 <= given.limit <= 100_000:
        raise InvalidInput("--limit is between 1 and 100000.", data={"field": "limit"})
    state = _state(context)
    match given.what:
        case "tail":
            lines = reader.tail(state, given.limit)
        case "errors":
            lines = reader.errors(state, given.limit)
        case "service":
            lines = reader.service(state, given.which, given.limit)
        case _:
            lines = reader.request(state, given.which, given.limit)
    for line in lines:
        out.json(line)
        if not out.as_json:
            _print_record(context, line)
    return 0


def _print_record(context: Context, line: dict[str, Any]) -> None:
    out, level = context.out, str(line.get("level", ""))
    head = out.paint(f"{line.get('time', '')} {line.get('service', '')}", DIM)
    mark = out.paint(level, LEVEL_COLORS[level]) if level in LEVEL_COLORS else safe(level)
    rest = {key: value for key, value in line.items() if key not in SHOWN_FIRST and value not in ("", None)}
    facts = " ".join(f"{key}={value}" for key, value in rest.items() if key not in ("exc_info", "exception"))
    out.line(head, mark, safe(line.get("msg", "")), out.paint(facts, DIM))
    if trace := line.get("exception") or line.get("exc_info"):
        out.text(trace if isinstance(trace, str) else json.dumps(trace))


def events(context: Context) -> int:
    """Verify the chain, or drop what is old."""
    given, out = context.arguments, context.out
    if given.action == "verify":
        answer = context.daemon().call("events.verify", {"stream": given.stream})
        out.json(answer)
        for place in answer["broken"]:
            out.line(out.paint(place, RED))
        out.line(out.paint("sound" if answer["sound"] else "broken", BOLD))
        return 0 if answer["sound"] else 1
    answer = context.daemon().call("events.drop", keyed(given, {"older_than_days": given.older_than}))
    out.json(answer)
    for stream in answer["dropped"]:
        out.line(out.paint(stream))
    out.line(f"{len(answer['dropped'])} streams exported to", out.paint(answer["exported_to"], BOLD))
    return 0


def db(context: Context) -> int:
    """Work on the database itself, under the lock that a daemon holds while it runs."""
    from codeforge_ls.daemon.election import STATE_LOCK, Lock
    from codeforge_ls.model.errors import Conflict
    from codeforge_ls.store import migrate, rollback, version

    given, out, state = context.arguments, context.out, _state(context)
    path = state / "state.db"
    if given.action == "version":
        found = version(path).model_dump(mode="json")
        out.json(found)
        out.line(
            out.paint(f"version {found['current']} of {found['latest']}", BOLD), out.paint(found["path"], DIM)
        )
        for name in found["pending"]:
            out.line("pending", safe(name))
        return 0
    lock = Lock(state / STATE_LOCK)
    if not lock.take():
        pid = lock.holder().get("pid")
        raise Conflict(f"The daemon (pid {pid}) has this database open.", hint="First: codeforge daemon stop")
    try:
        if given.action == "migrate":
            done = migrate(path, given.to)
        else:
            done = rollback(path, given.steps, lose_events=given.lose_events)
    finally:
        lock.release()
    out.json({"action": given.action, "done": done, "current": version(path).current})
    for name in done:
        out.line(given.action, safe(name))
    if not done:
        out.line("nothing to do")
    return 0
