"""The verbs that look after the service itself: ``health``, ``doctor`` and ``daemon``."""

from __future__ import annotations

import time
from typing import Any

from codeforge_ls.cli.output import BOLD, DIM, GREEN, RED, YELLOW
from codeforge_ls.cli.times import span
from codeforge_ls.cli.verb import Context, Subparsers, add_verb
from codeforge_ls.rendezvous import NoDaemon, Refused

STOP_SECONDS = 15.0


def declare(verbs: Subparsers) -> None:
    """Add the verbs to the command line."""
    health_help = add_verb(
        verbs,
        "health",
        health,
        "Say whether the daemon and its parts are well",
        "codeforge health\ncodeforge health --deep --json",
    )
    health_help.add_argument(
        "--deep", action="store_true", help="ask the database, the index and the model too"
    )

    add_verb(
        verbs,
        "doctor",
        doctor,
        "Check this machine and this workspace, daemon or not",
        "codeforge doctor\ncodeforge doctor --json",
    )

    daemon_help = add_verb(
        verbs,
        "daemon",
        daemon,
        "Look at, stop or restart the daemon of this workspace",
        "codeforge daemon status\ncodeforge daemon stop\ncodeforge daemon restart --set llm.model=openai/gpt-5",
    )
    daemon_help.add_argument("action", choices=("status", "stop", "restart"))


def health(context: Context) -> int:
    """0 when all that was asked is well."""
    out = context.out
    answer = context.daemon().call("health", {"deep": context.arguments.deep})
    out.json(answer)
    well = answer["status"] == "ok"
    out.line(
        out.paint(answer["status"], BOLD, GREEN if well else RED),
        out.paint(f"version {answer['version']}, pid {answer['pid']}, up {span(answer['uptime_seconds'])}"),
    )
    for name, facts in sorted(answer.items()):
        if isinstance(facts, dict) and name != "services":
            shown = ", ".join(f"{key} {value}" for key, value in facts.items() if not isinstance(value, dict))
            out.line(out.paint(name, BOLD), out.paint(shown))
    if isinstance(parts := answer.get("daemon"), dict):
        _print_watchdog(context, parts["watchdog"])
    for name, part in answer.get("services", {}).items():
        mark = out.paint("ok", GREEN) if part["ok"] else out.paint("down", RED)
        out.line(mark, out.paint(name, BOLD), f"{part['latency_ms']:.1f} ms", out.paint(part["message"], DIM))
    for problem in [*answer.get("config_problems", []), *answer.get("policy_problems", [])]:
        out.line(out.paint(f"{problem['file']}:{problem['line']}: {problem['message']}", YELLOW))
    return 0 if well else 1


def _print_watchdog(context: Context, seen: dict[str, Any]) -> None:
    out = context.out
    since = "since ready" if seen["ready"] else "so far, not ready yet"
    worst = (
        f"longest {seen['max_ms']} ms, 99.9 % under {seen['p99_9_ms']} ms, over 100 ms: {seen['over_100_ms']}"
    )
    out.line(out.paint("event loop", BOLD), out.paint(f"{worst} ({since})"))


def doctor(context: Context) -> int:
    """1 when something that is needed is missing."""
    from codeforge_ls.cli.examination import examine

    out = context.out
    findings = examine(context)
    out.json(
        {
            "ok": all(found.grade != "bad" for found in findings),
            "checks": [found.as_json() for found in findings],
        }
    )
    colors = {"good": GREEN, "note": YELLOW, "bad": RED}
    for found in findings:
        out.line(
            out.paint(f"{found.grade:4}", colors[found.grade]),
            out.paint(found.name, BOLD),
            out.paint(found.text),
        )
    return 1 if any(found.grade == "bad" for found in findings) else 0


def daemon(context: Context) -> int:
    """Status never starts one; restart starts one with what ``--config`` and ``--set`` say."""
    action = context.arguments.action
    if action == "status":
        return _status_if_running(context)
    stopped = _stop(context)
    if action == "restart":
        return _status(context, start=True)
    context.out.json({"stopped": stopped})
    context.out.line("stopped" if stopped else "no daemon was running")
    return 0


def _status_if_running(context: Context) -> int:
    try:
        return _status(context)
    except NoDaemon as none:
        context.out.json({"running": False})
        context.out.line(str(none))
        return none.exit_code


def _status(context: Context, *, start: bool = False) -> int:
    out = context.out
    facts = context.daemon(start=start).call("daemon.status")
    out.json({"running": True, **facts})
    out.line(out.paint(f"running, pid {facts['pid']}, version {facts['version']}", BOLD))
    state = "open" if facts["workspace_open"] else "not opened yet"
    out.line(out.paint(facts["root"]), f"up {span(facts['uptime_seconds'])}, workspace {state}")
    _print_watchdog(context, facts["watchdog"])
    return 0


def _stop(context: Context) -> bool:
    """Whether there was one. Waits until its process has left; raises ``Refused`` when it does not."""
    try:
        connection = context.daemon(start=False)
    except NoDaemon:
        return False
    connection.call("daemon.stop")
    _wait_for_end(context)
    context.close()
    return True


def _wait_for_end(context: Context) -> None:
    from pathlib import Path

    from codeforge_ls.daemon.election import STATE_LOCK, Lock
    from codeforge_ls.rendezvous import state_folder

    lock = Lock(Path(state_folder(str(context.root))) / STATE_LOCK)
    end = time.monotonic() + STOP_SECONDS
    while not lock.take():
        if time.monotonic() > end:
            raise Refused(
                f"The daemon (pid {lock.holder().get('pid')}) does not leave; see `codeforge logs`.", 1
            )
        time.sleep(0.05)
    lock.release()
