"""How each real agent is told of our server and of the scripted model, and asked for one thing without a person."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TASK = "mend the cart"
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Server:
    """Where our server is: a command line and its environment, or an address with its token."""

    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    url: str = ""
    token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True)
class Program:
    """A command line and its environment."""

    words: list[str]
    env: dict[str, str] = field(default_factory=dict)


def claude(packages: Path, home: Path, server: Server, model: str) -> Program:
    """Claude Code, which defers tools behind a search of its own unless told not to."""
    ours: dict[str, Any] = {"type": "http", "url": server.url, "headers": server.headers}
    if server.command:
        ours = {"command": server.command[0], "args": server.command[1:], "env": server.env}
    told = home / "mcp.json"
    told.write_text(json.dumps({"mcpServers": {"codeforge": ours}}))
    words = [
        str(packages / "@anthropic-ai/claude-code-linux-x64/claude"),
        "-p",
        TASK,
        "--mcp-config",
        str(told),
    ]
    env = {"ANTHROPIC_BASE_URL": model, "ANTHROPIC_API_KEY": "none", "ENABLE_TOOL_SEARCH": "false"}
    return Program([*words, "--strict-mcp-config", "--allowedTools", "mcp__codeforge"], env | QUIET)


def codex(packages: Path, home: Path, server: Server, model: str) -> Program:
    """Codex, whose own approvals are switched off: ours are looked at."""
    ours = f'url = "{server.url}"\nbearer_token_env_var = "CODEFORGE_TOKEN"'
    if server.command:
        ours = f"command = {json.dumps(server.command[0])}\nargs = {json.dumps(server.command[1:])}"
        ours += "\n[mcp_servers.codeforge.env]\n"
        ours += "\n".join(f"{name} = {json.dumps(value)}" for name, value in server.env.items())
    folder = home / ".codex"
    folder.mkdir()
    (folder / "config.toml").write_text(
        'model = "scripted"\nmodel_provider = "s"\ncheck_for_update_on_startup = false\n[analytics]\nenabled = false\n'
        f'[model_providers.s]\nname = "s"\nbase_url = "{model}/v1"\nwire_api = "responses"\n'
        f"[mcp_servers.codeforge]\n{ours}\n"
    )
    (program,) = packages.glob("@openai/codex-linux-x64/vendor/*/bin/codex")
    words = [
        str(program),
        "exec",
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        TASK,
    ]
    return Program(
        words, {"CODEX_HOME": str(folder), "CODEFORGE_TOKEN": server.token, "OPENAI_API_KEY": "none"}
    )


def opencode(packages: Path, home: Path, server: Server, model: str) -> Program:
    """opencode, with a provider of its own."""
    ours: dict[str, Any] = {"type": "remote", "url": server.url, "oauth": False, "headers": server.headers}
    if server.command:
        ours = {"type": "local", "command": list(server.command), "environment": server.env}
    provider = {
        "npm": "@ai-sdk/openai-compatible", "name": "s", "options": {"baseURL": f"{model}/v1", "apiKey": "none"},
        "models": {"scripted": {"name": "scripted", "tool_call": True}},
    }  # fmt: skip
    told = home / "opencode.json"
    told.write_text(
        json.dumps(
            {
                "autoupdate": False, "share": "disabled", "model": "s/scripted", "small_model": "s/scripted",
                "provider": {"s": provider}, "mcp": {"codeforge": {**ours, "enabled": True}},
            }
        )
    )  # fmt: skip
    words = [str(packages / "opencode-linux-x64/bin/opencode"), "run", TASK]
    return Program(words, {"OPENCODE_CONFIG": str(told)} | QUIET)


def gemini(packages: Path, home: Path, server: Server, model: str) -> Program:
    """Gemini CLI, a program of Node."""
    ours: dict[str, Any] = {"httpUrl": server.url, "headers": server.headers}
    if server.command:
        ours = {"command": server.command[0], "args": list(server.command[1:]), "env": server.env}
    (home / ".gemini").mkdir()
    (home / ".gemini/settings.json").write_text(
        json.dumps(
            {
                "privacy": {"usageStatisticsEnabled": False},
                "general": {"disableAutoUpdate": True},
                "security": {"auth": {"selectedType": "gemini-api-key"}},
                "mcpServers": {"codeforge": {**ours, "trust": True}},
            }
        )
    )
    words = [
        str(packages.parent / "node"),
        str(packages / "@google/gemini-cli/bundle/gemini.js"),
        "-p",
        TASK,
        "-y",
    ]
    env = {"GEMINI_API_KEY": "none", "GOOGLE_GEMINI_BASE_URL": model, "GEMINI_CLI_TRUST_WORKSPACE": "true"}
    return Program([*words, "--skip-trust"], env)


PROGRAMS: dict[str, Callable[[Path, Path, Server, str], Program]] = {
    "claude": claude, "codex": codex, "opencode": opencode, "gemini": gemini,
}  # fmt: skip
