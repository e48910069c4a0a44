"""The environment of a command: built from nothing, so that no variable of ours or of an editor steers it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from codeforge_ls.sandbox.command import CommandSpec

SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_KEPT = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TZ")
_DROPPED = re.compile(
    r"(?:PATH|IFS|ENV|BASH.*|LD_.*|DYLD_.*|GIT_.*|PYTEST_.*|PYTHON.*|NODE_OPTIONS|PERL.*|RUBY.*|PROMPT_COMMAND|PS4|"
    r"SHELLOPTS|CODEFORGE_.*|SSH_.*|XDG_RUNTIME_DIR|DBUS_.*)\Z"
)
# git in a hostile repository runs what its configuration names; these win over every file
_GIT = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.pager": "cat",
    "core.sshCommand": "ssh -oBatchMode=yes",
    "core.editor": "false",
    "sequence.editor": "false",
    "commit.gpgSign": "false",
    "diff.autoRefreshIndex": "false",  # git diff rewrites the index by it, optional locks or not
}
_SIMPLE = re.compile(r"[A-Za-z0-9_@%+=:,./\- '\"]+\Z")
_BUILTINS = frozenset(
    [
        "alias",
        "bg",
        "bind",
        "break",
        "builtin",
        "caller",
        "case",
        "cd",
        "command",
        "compgen",
        "complete",
        "continue",
        "coproc",
        "declare",
        "dirs",
        "disown",
        "do",
        "done",
        "echo",
        "elif",
        "else",
        "enable",
        "esac",
        "eval",
        "exec",
        "exit",
        "export",
        "false",
        "fc",
        "fg",
        "fi",
        "for",
        "function",
        "getopts",
        "hash",
        "help",
        "history",
        "if",
        "in",
        "jobs",
        "kill",
        "let",
        "local",
        "logout",
        "mapfile",
        "popd",
        "printf",
        "pushd",
        "pwd",
        "read",
        "readarray",
        "readonly",
        "return",
        "select",
        "set",
        "shift",
        "shopt",
        "source",
        "suspend",
        "test",
        "then",
        "time",
        "times",
        "trap",
        "true",
        "type",
        "typeset",
        "ulimit",
        "umask",
        "unalias",
        "unset",
        "until",
        "wait",
        "while",
        ".",
        ":",
        "[",
        "[[",
        "{",
    ]
)


def environment(spec: CommandSpec, token: str, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables a command sees. ``token`` marks its processes, so that strays can be found."""
    parent = os.environ if inherited is None else inherited
    env = {name: parent[name] for name in _KEPT if name in parent}
    env.setdefault("LANG", "C.UTF-8")
    env |= {name: value for name, value in (spec.env or {}).items() if _acceptable(name, value)}
    env |= {
        "PATH": os.pathsep.join(_search_path(spec, parent.get("PATH", ""))),
        "TERM": "dumb",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": str(len(_GIT)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CODEFORGE_TOOL": "1",
        "CODEFORGE_TOOL_ID": token,
    }
    for index, (name, value) in enumerate(_GIT.items()):
        env[f"GIT_CONFIG_KEY_{index}"], env[f"GIT_CONFIG_VALUE_{index}"] = name, value
    return env


def command_line(command: str, path: str) -> list[str]:
    """How to start it: a single plain command as its own argument vector, everything else through a bare bash.

    What was checked is what runs: words that bash would read in any other way go to bash. So does a program that is
    not on ``path``, since bash has the better words and exit code for that.
    """
    if _SIMPLE.match(command):
        try:
            argv = shlex.split(command)
        except ValueError:
            argv = []
        if argv and argv[0] not in _BUILTINS and "=" not in argv[0] and shutil.which(argv[0], path=path):
            return argv
    return ["bash", "--noprofile", "--norc", "-c", command]


def _acceptable(name: str, value: str) -> bool:
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None and "\0" not in value
    return plain and not _DROPPED.match(name)


def _search_path(spec: CommandSpec, inherited: str) -> list[str]:
    """The project's virtual environment, the folders of our own PATH outside the workspace, the system's.

    A folder in the workspace could hold a ``git`` that the agent wrote; only a virtual environment is let in, and
    where the backend confines, its programs are read-only.
    """
    found = [*spec.path_dirs, *(str(folder) for folder in virtual_environments(spec.workspace))]
    root = os.path.realpath(spec.workspace)
    for folder in filter(None, inherited.split(os.pathsep)):
        real = os.path.realpath(folder)
        outside = real != root and not real.startswith(root + os.sep)
        # not Path.is_dir, which raises for a folder that others may not enter
        if os.path.isabs(folder) and os.path.isdir(real) and outside:  # noqa: PTH112, PTH117
            found.append(folder)
    return list(dict.fromkeys([*found, *SYSTEM_PATH]))


def virtual_environments(workspace: Path) -> list[Path]:
    """The ``bin`` folders of the project's own virtual environments."""
    places = (workspace / name for name in (".venv", "venv"))
    return [
        place / "bin" for place in places if (place / "pyvenv.cfg").is_file() and (place / "bin").is_dir()
    ]
