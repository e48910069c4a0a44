"""The verb ``mcp``: where agents reach this workspace over HTTP, and the token that lets them in."""

from __future__ import annotations

import json
from typing import Any

from codeforge_ls.cli.output import BOLD, YELLOW
from codeforge_ls.cli.verb import Context, Subparsers, add_verb

VARIABLE = "CODEFORGE_HTTP_TOKEN"


def declare(verbs: Subparsers) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs,
        "mcp",
        mcp,
        "Say how agents reach this workspace over HTTP, or renew the token",
        "codeforge mcp http\ncodeforge mcp http --stay\ncodeforge mcp rotate",
    )
    parser.add_argument(
        "action",
        choices=("http", "rotate"),
        help="http: address, token file and settings for agents; rotate: a new token, the old one counts no more",
    )
    parser.add_argument(
        "--stay", action="store_true", help="keep the daemon, and with it the address, until Ctrl-C"
    )


def mcp(context: Context) -> int:
    """0 when the door is open, 3 when it is not."""
    out = context.out
    facts = context.daemon().call("mcp.rotate" if context.arguments.action == "rotate" else "mcp.http")
    out.json(facts)
    if facts["error"]:
        out.line(out.paint(f"{facts['error']['message']} {facts['error']['hint']}", YELLOW))
        return 3
    if not facts["open"]:
        _say_how_to_open(context)
        return 0 if context.arguments.action == "rotate" else 3
    if context.arguments.action == "rotate":
        out.line(out.paint(f"new token in {facts['token_file']}: give it to your agents anew"))
    else:
        _show(context, facts)
    while context.arguments.stay:
        context.daemon().receive()  # nothing comes; it ends with the daemon or with Ctrl-C
    return 0


def _say_how_to_open(context: Context) -> None:
    from codeforge_ls.config import user_config_dir

    out = context.out
    out.line(out.paint("MCP over HTTP is off.", BOLD))
    out.line(
        out.paint(f"on for all your workspaces: mcp: {{http: true}} in {user_config_dir() / 'config.yaml'}")
    )
    out.line(out.paint("on for this daemon alone:   codeforge daemon restart --set mcp.http=true"))


def _show(context: Context, facts: dict[str, Any]) -> None:
    out, url = context.out, facts["url"]
    out.line(out.paint(url, BOLD), out.paint(f"{facts['clients']} clients"))
    out.line(
        out.paint(f"token file {facts['token_file']}, for you alone; keep the token out of command lines")
    )
    out.line()
    out.line(out.paint("In the shell that starts the agent:"))
    out.line(out.paint(f'  export {VARIABLE}="$(cat {_quoted(facts["token_file"])})"'))
    for agent, file, text in _settings(url, facts["token_file"]):
        out.line(out.paint(f"{agent} ({file}):"))
        for line in text.splitlines():
            out.line(out.paint(f"  {line}"))


def _settings(url: str, token_file: str) -> list[tuple[str, str, str]]:
    """What to write where, for each agent; none of it holds the token itself."""

    def bearer(value: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {value}"}

    claude = {"type": "http", "url": url, "headers": bearer(f"${{{VARIABLE}}}")}
    opencode = {"type": "remote", "url": url, "oauth": False, "headers": bearer(f"{{file:{token_file}}}")}
    gemini = {"httpUrl": url, "headers": bearer(f"${VARIABLE}")}
    codex = (
        f"[mcp_servers.codeforge]\n  url = {json.dumps(url)}\n  bearer_token_env_var = {json.dumps(VARIABLE)}"
    )
    return [
        ("Claude Code", ".mcp.json", json.dumps({"mcpServers": {"codeforge": claude}})),
        ("Codex", "~/.codex/config.toml", codex),
        ("opencode", "opencode.json", json.dumps({"mcp": {"codeforge": opencode}})),
        ("Gemini CLI", "~/.gemini/settings.json", json.dumps({"mcpServers": {"codeforge": gemini}})),
    ]


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(path)
