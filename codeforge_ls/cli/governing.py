"""The verb ``policy``: profiles, what they say of a tool call, and what a person changes about them.

Where the default counts, a daemon that runs is asked: it knows whether an editor is attached. Else, and where a
profile is named, no daemon is needed: the rules are asked here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeforge_ls.cli.output import BOLD, DIM, GREEN, RED, YELLOW
from codeforge_ls.cli.verb import Context, Subparsers, add_verb
from codeforge_ls.rendezvous import NoDaemon, Refused

if TYPE_CHECKING:
    from codeforge_ls.model.policy import PolicyDecision
    from codeforge_ls.policy.library import PolicyLibrary

COLORS = {"allow": GREEN, "ask": YELLOW, "deny": RED}
FIELDS = frozenset({"tool", "command", "path", "profile"})


def declare(verbs: Subparsers) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs,
        "policy",
        policy,
        "List, show, save or delete policy profiles, explain what one says of a tool call, see what is allowed always",
        """codeforge policy list
codeforge policy save ./strict.yaml         # checks its examples, then keeps it among your own
codeforge policy delete strict
codeforge policy always                     # what you answered with "always" here
codeforge policy forget 0                   # ask again for the first of them
codeforge policy schema > policy.schema.json
codeforge policy explain --tool Bash --command "git push"
codeforge policy get editor-interactive
codeforge policy explain --profile plan-readonly --tool Bash --command "git push" --json
codeforge policy explain --profile ./strict.yaml --tool Edit --path src/app.py
codeforge policy explain --batch < calls.jsonl
    a line is {"tool": "Bash", "command": "ls", "path": null, "profile": null}; so is each answer""",
    )
    parser.add_argument("action", choices=tuple(ACTIONS))
    parser.add_argument(
        "name_of",
        nargs="?",
        metavar="NAME",
        help="the profile to get or delete, the file to save (- for standard input), the number to forget",
    )
    parser.add_argument(
        "--profile",
        metavar="NAME_OR_FILE",
        help="the profile that judges (else the default: that of the daemon, if one runs)",
    )
    parser.add_argument("--run", metavar="RUN_ID", help="judge by the policy that is stored with this run")
    parser.add_argument("--tool", metavar="T", help="the tool, such as Bash or Edit")
    parser.add_argument("--command", metavar="C", help="the command line it would run")
    parser.add_argument("--path", metavar="P", help="the path it would touch")
    parser.add_argument(
        "--batch", action="store_true", help="read many calls as JSON lines from standard input"
    )


def policy(context: Context) -> int:
    """Do what the first word says."""
    return ACTIONS[context.arguments.action](context)


def _named(context: Context, what: str) -> str:
    from codeforge_ls.model.errors import InvalidInput

    if context.arguments.name_of is None:
        raise InvalidInput(f"policy {context.arguments.action} needs {what}.", data={"field": "NAME"})
    return str(context.arguments.name_of)


def _save(context: Context) -> int:
    from codeforge_ls.model.errors import InvalidInput

    name = _named(context, "a YAML file, or - for standard input")
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{name} cannot be read: {error}.") from error
    saved = context.daemon().call("policy.save", {"yaml": text})
    context.out.json(saved)
    context.out.line("saved", context.out.paint(saved["name"], BOLD), context.out.paint(saved["file"], DIM))
    return 0


def _delete(context: Context) -> int:
    gone = context.daemon().call("policy.delete", {"name": _named(context, "the name of a profile")})
    context.out.json(gone)
    context.out.line("deleted", context.out.paint(gone["file"]))
    return 0


def _always(context: Context) -> int:
    rules = context.daemon().call("policy.always", {})["rules"]
    context.out.json({"rules": rules})
    context.out.table(("", "tool", "what", "why", "where"), [(rule["index"], *_told(rule)) for rule in rules])
    return 0


def _told(rule: dict[str, Any]) -> tuple[str, str, str, str]:
    """Tool, what it covers, why, and where it stands."""
    said = rule["rule"]
    what = [*said["command_exact"], *said["command_allow"], *said["path_allow"]]
    tool = said["specifier"]["tool"]
    return tool, f"{said['decision']}: {', '.join(what)}", said["reason"], f"{rule['file']}:{rule['line']}"


def _forget(context: Context) -> int:
    from codeforge_ls.model.errors import InvalidInput

    number = _named(context, "the number that `policy always` shows")
    if not number.isdecimal():
        raise InvalidInput(f"{number!r} is no number.", data={"field": "index"})
    gone = context.daemon().call("policy.forget", {"index": int(number)})["forgotten"]
    context.out.json(gone)
    context.out.line("will be asked again:", *(context.out.paint(part) for part in _told(gone)[:2]))
    return 0


def _schema(context: Context) -> int:
    from codeforge_ls.policy.schema import policy_schema

    context.out.json(policy_schema())
    context.out.text(json.dumps(policy_schema(), indent=2))
    return 0


def _ask_daemon(context: Context, op: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """What the workspace's daemon answers; None when none runs, or none that can be asked."""
    try:
        return context.daemon(start=False).call(op, arguments)
    except NoDaemon:
        return None
    except Refused as refused:
        context.out.note(f"{refused} The default is that of the settings.")
        return None


def _library(context: Context) -> tuple[PolicyLibrary, str]:
    """The profiles of this workspace, and the name of the default one."""
    from codeforge_ls.config import load_settings
    from codeforge_ls.policy.library import HEADLESS, PolicyLibrary

    config = Path(context.arguments.config) if context.arguments.config else None
    settings = load_settings(context.root, overrides=context.overrides, config_path=config).settings.policy
    return PolicyLibrary.of(context.root, settings), settings.default or HEADLESS


def _list(context: Context) -> int:
    known = None if context.arguments.profile else _ask_daemon(context, "policy.list", {})
    known = known or _listed(context)
    profiles, default, problems = known["profiles"], known["default"], known["problems"]
    context.out.json({"profiles": profiles, "default": default, "problems": problems})
    rows = [("*" if p["name"] == default else "", p["name"], p["description"]) for p in profiles]
    context.out.table(("", "name", "description"), rows)
    for problem in problems:
        context.out.note(f"{problem['file']}:{problem['line']}: {problem['message']}")
    return 1 if problems else 0


def _listed(context: Context) -> dict[str, Any]:
    """What the operation ``policy.list`` would answer, from the files."""
    library, default = _library(context)
    profiles = [
        {"name": name, "description": library.get(name)[0].profile.description} for name in library.names()
    ]
    problems = [problem.model_dump(mode="json") for problem in library.problems]
    return {"profiles": profiles, "default": default, "problems": problems}


def _get(context: Context) -> int:
    from codeforge_ls.model.errors import InvalidInput

    library, default = _library(context)
    layers = [layer.model_dump(mode="json") for layer in library.get(context.arguments.name_of or default)]
    if not layers:
        raise InvalidInput("This profile has no layers.")
    context.out.json({"layers": layers})
    for layer in layers:
        context.out.line(context.out.paint(f"# {layer['scope']} {layer['source']}", DIM))
        context.out.text(json.dumps(layer["profile"], indent=2, ensure_ascii=False))
    return 0


def _explain(context: Context) -> int:
    given = context.arguments
    if given.name_of is None and (given.batch or (given.tool is None and not sys.stdin.isatty())):
        return _explain_many(_judge(context), given.profile)
    if given.tool is None or given.name_of is not None:
        from codeforge_ls.model.errors import InvalidInput

        said = "explain needs --tool." if given.tool is None else "explain takes no NAME."
        raise InvalidInput(said, hint="Such as --tool Bash --command 'git push', or JSON lines with --batch.")
    wanted = {"tool": given.tool, "command": given.command, "path": given.path}
    decision: dict[str, Any] | None
    if given.run:
        decision = context.daemon().call("policy.explain", {**wanted, "run_id": given.run})
    else:
        decision = None if given.profile else _ask_daemon(context, "policy.explain", wanted)
    if decision is None:
        decision = _judge(context)(wanted, given.profile).model_dump(mode="json")
    context.out.json(decision)
    out = context.out
    out.line(
        out.paint(decision["decision"], BOLD, COLORS[decision["decision"]]), out.paint(decision["reason"])
    )
    rule = f"rule {decision['rule_index']}" if decision["rule_index"] >= 0 else "no rule"
    where = f", {decision['file']}:{decision['line']}" if decision["file"] else ""
    out.line(out.paint(f"profile {decision['profile']}, {decision['scope']}, {rule}{where}", DIM))
    return 0


def _judge(context: Context) -> Callable[[dict[str, Any], str | None], PolicyDecision]:
    """A function that judges one call under a profile; profiles are read once."""
    from codeforge_ls.model.policy import PolicyLayer, ToolCall
    from codeforge_ls.policy.evaluate import evaluate

    library, default = _library(context)
    root, known = context.root, dict[str, Sequence[PolicyLayer]]()

    def judge(wanted: dict[str, Any], profile: str | None) -> PolicyDecision:
        name = profile or default
        if name not in known:
            if "/" in name or name.endswith((".yaml", ".yml")):
                known[name] = library.load_file(Path(name))
            else:
                known[name] = library.get(name)
        return evaluate(known[name], ToolCall.model_validate(wanted), root)

    return judge


def _explain_many(judge: Callable[[dict[str, Any], str | None], PolicyDecision], profile: str | None) -> int:
    """One answer a line, in order; a line that cannot be judged is answered with its error. 2 if there was one."""
    code = 0
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            answer = judge(*_read(line, profile)).model_dump_json()
        except Exception as error:
            wrong = _as_error(error)
            if wrong is None:
                raise
            code, answer = 2, json.dumps({"error": wrong})
        sys.stdout.write(answer + "\n")
    return code


def _read(line: bytes, profile: str | None) -> tuple[dict[str, Any], str | None]:
    from codeforge_ls.model.errors import InvalidInput

    try:
        wanted = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not JSON: {error}") from error
    if not isinstance(wanted, dict) or not set(wanted) <= FIELDS:
        raise InvalidInput("a line is an object with tool, and optionally command, path and profile")
    own = wanted.pop("profile", None)
    if own is not None and not isinstance(own, str):
        raise InvalidInput("profile is a name or a file", data={"field": "profile"})
    return wanted, own or profile


def _as_error(error: Exception) -> dict[str, Any] | None:
    """The wire form of what is wrong with one line; None for a fault of ours."""
    from pydantic import ValidationError

    from codeforge_ls.model.errors import CodeForgeError

    if isinstance(error, CodeForgeError):
        return dict(error.as_json())
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return {
            "code": "invalid_input",
            "message": f"{field}: {first['msg']}",
            "hint": "",
            "data": {"field": field},
        }
    return None


ACTIONS: dict[str, Callable[[Context], int]] = {
    "list": _list,
    "get": _get,
    "explain": _explain,
    "save": _save,
    "delete": _delete,
    "always": _always,
    "forget": _forget,
    "schema": _schema,
}
