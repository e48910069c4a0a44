"""The verbs for agents at work: ``run``, ``plan``, ``runs``, ``show``, ``approvals``, ``approve`` and ``deny``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from codeforge_ls.cli.connection import Connection
from codeforge_ls.cli.live import Live
from codeforge_ls.cli.output import BOLD, DIM
from codeforge_ls.cli.times import moment
from codeforge_ls.cli.verb import Context, Subparsers, accept_key, add_verb, keyed

PAGE = 2000


def declare(verbs: Subparsers) -> None:
    """Add the verbs to the command line."""
    run_help = add_verb(
        verbs,
        "run",
        run,
        "Give an agent a task and watch it work",
        """codeforge run "make the failing test in tests/test_io.py pass"
codeforge run "explain the retry logic" --mode architect --profile plan-readonly
codeforge run "fix the typo" --yes --json
codeforge run "try an upgrade" --max-cost 0.5 --max-steps 20 --no-network --deny Bash
codeforge run "fix the typo" --detach --idempotency-key job-17
codeforge run --resume RUN_ID""",
    )
    run_help.add_argument("task", nargs="?", help="what to do; - reads it from standard input")
    run_help.add_argument("--resume", metavar="RUN_ID", help="go on with a suspended run instead")
    _how_to_run(run_help)

    plan_help = add_verb(
        verbs,
        "plan",
        plan,
        "Run several tasks in order, or look after plans",
        """codeforge plan start "add the parser" "add its tests" --name parser
codeforge plan list
codeforge plan cancel PLAN_ID""",
    )
    plan_help.add_argument("action", choices=("start", "list", "get", "cancel"))
    plan_help.add_argument(
        "words", nargs="*", metavar="TASK_OR_ID", help="the tasks of start, the id of get and cancel"
    )
    plan_help.add_argument("--name", default="", help="a name for people")
    plan_help.add_argument("--limit", type=int, default=50, metavar="N", help="how many to list (50)")
    _how_to_run(plan_help)

    runs_help = add_verb(
        verbs,
        "runs",
        runs,
        "List runs, or cancel one",
        "codeforge runs --limit 10\ncodeforge runs cancel RUN_ID",
    )
    runs_help.add_argument("action", nargs="?", choices=("list", "cancel"), default="list")
    runs_help.add_argument("run_id", nargs="?", metavar="RUN_ID")
    runs_help.add_argument("--limit", type=int, default=50, metavar="N", help="how many (50)")

    show_help = add_verb(
        verbs,
        "show",
        show,
        "Show a run with its events, or a plan",
        "codeforge show RUN_ID\ncodeforge show PLAN_ID --json",
    )
    show_help.add_argument("id", metavar="RUN_OR_PLAN")
    show_help.add_argument("--follow", action="store_true", help="stay until a run has ended")

    approvals_help = add_verb(
        verbs,
        "approvals",
        approvals,
        "List the questions that wait for a person, or answer all that come",
        "codeforge approvals --json\ncodeforge approvals --watch",
    )
    approvals_help.add_argument(
        "--watch", action="store_true", help="stay and put every question of this workspace to this terminal"
    )
    for name, verdict in (("approve", "allow_once"), ("deny", "deny")):
        summary = "Allow one waiting action" if name == "approve" else "Refuse one waiting action"
        answer_help = add_verb(
            verbs, name, answer, summary, f"codeforge approvals\ncodeforge {name} APPROVAL_ID"
        )
        answer_help.add_argument("approval_id", metavar="APPROVAL_ID")
        answer_help.set_defaults(verdict=verdict)
        if name == "approve":
            further = answer_help.add_mutually_exclusive_group()
            for option, means, about in (
                ("--run", "allow_run", "and the same again for the rest of its run or session"),
                (
                    "--always",
                    "allow_always",
                    "and for good in this workspace: a rule in your own policy file",
                ),
            ):
                further.add_argument(option, dest="verdict", action="store_const", const=means, help=about)


def _how_to_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", metavar="P", help="the policy profile")
    parser.add_argument("--mode", metavar="M", help="the agent's mode (coder)")
    parser.add_argument("--model", metavar="M", help="the model, as litellm names it")
    parser.add_argument(
        "--exec-mode",
        choices=("mount", "sandbox", "hybrid"),
        help="where commands run (sandbox.mode, else mount)",
    )
    tighter = parser.add_argument_group("tighter than the profile, for each run that this starts")
    tighter.add_argument("--max-steps", type=int, metavar="N", help="model calls")
    tighter.add_argument("--max-cost", type=float, metavar="USD", help="what the model may cost")
    tighter.add_argument("--max-seconds", type=float, metavar="S", help="time")
    tighter.add_argument("--no-network", action="store_true", help="commands have no network")
    tighter.add_argument(
        "--ask", action="append", metavar="TOOL", default=[], help="always ask; may be repeated"
    )
    tighter.add_argument(
        "--deny", action="append", metavar="TOOL", default=[], help="refuse; may be repeated"
    )
    parser.add_argument("--yes", action="store_true", help="allow what this run asks for, and nothing else")
    parser.add_argument("--detach", action="store_true", help="print the id and leave it at work")
    accept_key(parser)


def run(context: Context) -> int:
    """Start or resume a run, and show it."""
    given = context.arguments
    if (given.task is None) == (given.resume is None):
        return _misused(context, "Give a task, or --resume RUN_ID.")
    if given.detach and given.yes:
        return _misused(context, "--yes answers while it watches: it cannot be used with --detach.")
    daemon, live = _watcher(context)
    after = 0
    if given.resume is not None:
        after = _last_seq(daemon, given.resume)
        run_id = daemon.call("run.resume", keyed(given, {"run_id": given.resume}))["run_id"]
    else:
        task = sys.stdin.read() if given.task == "-" else given.task
        run_id = daemon.call("run.start", keyed(given, {"task": task, **_wishes(given), **_tighter(given)}))[
            "run_id"
        ]
    if live is None:
        context.out.json({"run_id": run_id})
        context.out.line(context.out.paint(run_id))
        return 0
    end = live.follow(f"run:{run_id}", after, ("run.cancel", {"run_id": run_id}))
    if context.out.as_json and end is not None:
        context.out.json({"run": daemon.call("run.get", {"run_id": run_id, "limit": 1})["run"]})
    return _ending(live, end)


def _watcher(context: Context) -> tuple[Connection, Live | None]:
    given, daemon = context.arguments, context.daemon()
    if given.detach:
        return daemon, None
    ask = sys.stdin.isatty() and context.out.is_terminal and not context.out.as_json
    return daemon, Live(daemon, context.out, ask=ask, allow=given.yes)


def _wishes(given: argparse.Namespace) -> dict[str, Any]:
    wishes = {name: getattr(given, name) for name in ("profile", "mode", "model", "exec_mode")}
    return {name: wish for name, wish in wishes.items() if wish is not None}


def _tighter(given: argparse.Namespace) -> dict[str, Any]:
    limits = {"max_steps": given.max_steps, "max_cost": given.max_cost, "timeout_seconds": given.max_seconds}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    rules = [
        {"specifier": {"tool": tool}, "decision": decision, "reason": f"--{decision} {tool}"}
        for decision, tools in (("deny", given.deny), ("ask", given.ask))
        for tool in tools
    ]
    wanted: dict[str, Any] = {"termination": limits, "rules": rules}
    if given.no_network:
        wanted["resource_limits"] = {"network_mode": "none"}
    wanted = {name: wish for name, wish in wanted.items() if wish}
    return {"tighten": wanted} if wanted else {}


def _ending(live: Live, end: dict[str, Any] | None) -> int:
    if end is None or live.was_interrupted:
        return 130
    return 0 if end["type"] == "plan.completed" or end["payload"].get("status") == "completed" else 1


def _misused(context: Context, message: str) -> int:
    context.out.error({"code": "invalid_input", "message": message, "hint": "See --help.", "data": {}})
    return 2


def _last_seq(daemon: Connection, run_id: str) -> int:
    after = 0
    while (page := daemon.call("run.events", {"run_id": run_id, "after": after, "limit": PAGE}))["events"]:
        after = page["next_cursor"]
    return after


def plan(context: Context) -> int:
    """Start, list, show or cancel plans."""
    given, out = context.arguments, context.out
    if given.action == "start":
        return _start_plan(context)
    if given.action == "list":
        answer = context.daemon().call("plan.list", {"limit": given.limit})
        out.json(answer)
        rows = [
            (p["id"], moment(p["created_at"]), p["status"], len(p["steps"]), p["name"])
            for p in answer["plans"]
        ]
        out.table(("id", "created", "status", "steps", "name"), rows)
        return 0
    if len(given.words) != 1:
        return _misused(context, f"plan {given.action} takes one PLAN_ID.")
    answer = context.daemon().call(f"plan.{given.action}", keyed(given, {"plan_id": given.words[0]}))
    out.json(answer)
    _show_plan(context, answer["plan"])
    return 0


def _start_plan(context: Context) -> int:
    given, out = context.arguments, context.out
    if not given.words:
        return _misused(context, "plan start takes at least one task.")
    daemon, live = _watcher(context)
    wanted = {"tasks": given.words, "name": given.name, **_wishes(given), **_tighter(given)}
    plan_id = daemon.call("plan.start", keyed(given, wanted))["plan_id"]
    if live is None:
        out.json({"plan_id": plan_id})
        out.line(out.paint(plan_id))
        return 0
    end = live.follow(f"plan:{plan_id}", 0, ("plan.cancel", {"plan_id": plan_id}))
    return _ending(live, end)


def _show_plan(context: Context, plan: dict[str, Any]) -> None:
    out = context.out
    out.line(out.paint(plan["id"], BOLD), out.paint(plan["status"]), out.paint(plan["name"]))
    rows = [
        (step["index"] + 1, step["status"], step["run_id"] or "", step["task"], step["error"])
        for step in plan["steps"]
    ]
    out.table(("step", "status", "run", "task", "error"), rows)


def runs(context: Context) -> int:
    """List the newest runs, or cancel one."""
    given, out = context.arguments, context.out
    if given.action == "cancel":
        if given.run_id is None:
            return _misused(context, "runs cancel takes a RUN_ID.")
        answer = context.daemon().call("run.cancel", {"run_id": given.run_id})
        out.json(answer)
        out.line(out.paint(answer["run"]["id"], BOLD), out.paint(answer["run"]["status"]))
        return 0
    answer = context.daemon().call("run.list", {"limit": given.limit})
    out.json(answer)
    rows = [
        (r["id"], moment(r["created_at"]), r["status"], r["step_count"], _cost(r), r["task"][:80])
        for r in answer["runs"]
    ]
    out.table(("id", "created", "status", "steps", "cost", "task"), rows)
    return 0


def _cost(run: dict[str, Any]) -> str:
    """USD; a + says that some calls had no known price."""
    return f"${run['cost_nano_usd'] / 1e9:.4f}{'+' if run['unpriced_calls'] else ''}"


def show(context: Context) -> int:
    """Show all events of a run, or the steps of a plan."""
    given, out, daemon = context.arguments, context.out, context.daemon()
    if given.id.startswith("plan-"):
        answer = daemon.call("plan.get", {"plan_id": given.id})
        out.json(answer)
        _show_plan(context, answer["plan"])
        return 0
    answer = daemon.call("run.get", {"run_id": given.id, "limit": PAGE})
    if given.follow and answer["run"]["status"] in ("pending", "running", "quality_gate"):
        live = Live(daemon, out, ask=False, allow=False)
        return _ending(live, live.follow(f"run:{given.id}", 0, ("run.cancel", {"run_id": given.id})))
    while (
        page := daemon.call("run.events", {"run_id": given.id, "after": answer["next_cursor"], "limit": PAGE})
    )["events"]:
        answer["events"] += page["events"]
        answer["next_cursor"] = page["next_cursor"]
    out.json(answer)
    if not out.as_json:
        _show_run(context, daemon, answer)
    return 0


def _show_run(context: Context, daemon: Connection, answer: dict[str, Any]) -> None:
    out, run = context.out, answer["run"]
    live = Live(daemon, out, ask=False, allow=False)
    for event in answer["events"]:
        live.show(event)
    tokens = f"{run['tokens_in']} tokens in, {run['tokens_out']} out"
    out.line(out.paint(f"{run['status']}, {run['step_count']} steps, {tokens}, {_cost(run)}", DIM))


def approvals(context: Context) -> int:
    """List what waits, or stay and ask."""
    if context.arguments.watch:
        if not (sys.stdin.isatty() and context.out.is_terminal) or context.out.as_json:
            return _misused(context, "--watch asks the person at a terminal, and this is none.")
        live = Live(context.daemon(), context.out, ask=True, allow=False, everything=True)
        context.out.note("questions of this workspace are asked here; Ctrl-C leaves")
        live.answer_all()
    answer = context.daemon().call("approval.list")
    context.out.json(answer)
    rows = [(a["id"], moment(a["expires_at"]), a["tool"], a["title"]) for a in answer["approvals"]]
    context.out.table(("id", "expires", "tool", "question"), rows)
    return 0


def answer(context: Context) -> int:
    """Answer a question with the verdict of the verb."""
    given, out = context.arguments, context.out
    wanted = {"approval_id": given.approval_id, "verdict": given.verdict}
    reply = context.daemon().call("approval.answer", wanted)
    out.json(reply)
    approval = reply["approval"]
    out.line(out.paint(approval["state"], BOLD), out.paint(approval["title"]))
    return 0
