"""Who is at the other end of the socket: the user it must be, the tool it must not be, the agent it may speak for."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_ANCESTORS = 256
MAX_KNOWN = 64  # agent programs remembered before the ended ones are forgotten
TOOL_MARK = b"CODEFORGE_TOOL=1"

# What agents are known to set in the shells that they start.
AGENT_MARKS = frozenset(
    {
        "AUGMENT_AGENT", "CLAUDECODE", "CLINE_ACTIVE", "CODEX_CI", "CODEX_SANDBOX",
        "CODEX_SANDBOX_NETWORK_DISABLED", "CODEX_THREAD_ID", "CURSOR_AGENT", "GEMINI_CLI", "GOOSE_TERMINAL",
        "OPENCODE", "QWEN_CODE",
    }
)  # fmt: skip
SHELLS = frozenset(
    {"ash", "bash", "busybox", "dash", "elvish", "fish", "ksh", "mksh", "nu", "sh", "tcsh", "xonsh", "zsh"}
)
# Programs that only start another one: who started the pipe is above them.
LAUNCHERS = frozenset(
    {
        "direnv", "env", "hatch", "mise", "nice", "nohup", "npm", "npm-cli.js", "npx", "npx-cli.js", "pdm", "pipx",
        "poetry", "setsid", "stdbuf", "timeout", "uv", "uvx", "xargs",
    }
)  # fmt: skip
# Programs that are above everything a person starts, and so can be nobody's mark.
HOSTS = frozenset(
    {
        "containerd-shim", "docker-init", "dumb-init", "init", "login", "runit", "s6-svscan", "screen", "sshd",
        "sshd-session", "su", "sudo", "supervisord", "systemd", "tini", "tmux",
    }
)  # fmt: skip
WITH_VALUE = frozenset(
    {"--init-command", "--init-file", "--rcfile", "-C", "-O", "+O", "-o", "+o"}
)  # of shells


def credentials(sock: socket.socket) -> tuple[int, int]:
    """Process id and user id of the peer, as the kernel knows them. Raises ``OSError`` if it cannot tell."""
    if sys.platform == "linux":
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return pid, uid
    # macOS: struct xucred (LOCAL_PEERCRED) has the uid after its version; LOCAL_PEERPID is a number
    (uid,) = struct.unpack_from("I", sock.getsockopt(0, 1, 76), 4)
    (pid,) = struct.unpack("i", sock.getsockopt(0, 2, 4))
    return pid, uid


def is_inside_tool(pid: int) -> bool:
    """Whether a process is a command that an agent runs, or descends from one or from this daemon.

    The mark is looked for in every ancestor, because a command can clear its own environment; the daemon
    adopts orphans of its tools (``processes.adopt_orphans``), because a command can leave its parent. A
    process that is gone or out of sight counts as inside: the answer guards approvals. Where there is no
    ``/proc`` this cannot be seen, and the sandbox must do.
    """
    if sys.platform != "linux":
        return False
    for _ in range(MAX_ANCESTORS):
        if pid == 1:
            return False
        if pid in (0, os.getpid()):
            return True
        try:
            status = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return True
        if TOOL_MARK in _environment(pid):
            return True
        pid = int(status.rpartition(b")")[2].split()[1])
        if pid == 0:
            return False  # the top of a process tree whose root is not ours to see
    return True


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []  # another user's process (login, sudo): none of our tools


@dataclass(frozen=True)
class Process:
    """A process as ``/proc`` shows it. ``started`` is in clock ticks since boot: with it a pid is never mistaken
    for another one. ``session`` is the pid of the session's leader, ``terminal`` a device number, 0 for none."""

    pid: int
    started: int
    parent: int
    session: int
    terminal: int
    name: str
    arguments: tuple[str, ...]
    mark: str

    @property
    def identity(self) -> tuple[int, int]:
        """What no other process has, as long as the machine is up."""
        return self.pid, self.started

    @property
    def is_interactive_shell(self) -> bool:
        """Whether it is a shell on a terminal that reads commands from there, not from an argument or a file."""
        if self.name not in SHELLS or not self.terminal:
            return False
        words = iter(self.arguments[1:])
        for word in words:
            if word in WITH_VALUE:
                next(words, None)
            elif not word.startswith(("-", "+")) or (not word.startswith("--") and "c" in word):
                return False
        return True

    @property
    def is_launcher(self) -> bool:
        """Whether it is there only to start another program."""
        # npm shows itself as one word, "npm exec NAME"; scripts of an interpreter are its first argument
        words = {word.partition(" ")[0].rpartition("/")[2] for word in self.arguments[:2]}
        return self.name in SHELLS or bool(words & LAUNCHERS) or self.name in LAUNCHERS


def look_at(pid: int) -> Process | None:
    """The process, or None when it is gone or cannot be seen."""
    folder = Path(f"/proc/{pid}")
    try:
        head, _, tail = (folder / "stat").read_bytes().rpartition(b")")
        fields = [int(field) for field in tail.split()[1:20]]
        arguments = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except (OSError, ValueError):
        return None
    try:
        name = (folder / "exe").readlink().name.removesuffix(" (deleted)")
    except OSError:  # another user's, such as login
        name = head.partition(b"(")[2].decode(errors="replace")
    return Process(
        pid=pid,
        started=fields[18],
        parent=fields[0],
        session=fields[2],
        terminal=fields[3],
        name="".join(c for c in name if c.isprintable())[:40],
        arguments=tuple(arguments),
        mark=_agent_mark(pid),
    )


def _agent_mark(pid: int) -> str:
    for setting in _environment(pid):
        name, _, value = setting.decode(errors="replace").partition("=")
        if name in AGENT_MARKS and value not in ("", "0", "false"):
            return name
    return ""


def lineage(pid: int) -> tuple[Process, ...]:
    """The process and its ancestors below init, nearest first; empty where there is no ``/proc``."""
    found: list[Process] = []
    while pid > 1 and len(found) < MAX_ANCESTORS and (process := look_at(pid)) is not None:
        found.append(process)
        pid = process.parent
    return tuple(found)


class Agents:
    """The programs that have attached a ``codeforge-mcp``, and who else descends from one of them.

    A program is remembered as long as it lives, attached or not: else it could hang up before it says yes to
    itself. It is the process that started the pipe, launchers passed over. An interactive shell is none, as a
    person types there too; neither is what is above all of a person's programs (``HOSTS``).

    Nobody is locked out of an editor that has agents inside: where the same process has started an attached
    ``codeforge-ls``, an interactive shell on a terminal of its own below it is a person's.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], str] = {}
        self._editors: set[tuple[int, int]] = set()
        self._had_any = False

    def attached(self, role: str, peer: Sequence[Process]) -> None:
        """Remember who started a pipe of kind ``mcp`` or ``lsp``; ``peer`` is the lineage of the pipe."""
        if role == "lsp" and len(peer) > 1:
            self._forget_ended()
            self._editors.add(peer[1].identity)
        elif role == "mcp":
            self._forget_ended()
            self._had_any = True
            for place, process in enumerate(peer):  # the first is the pipe, or an agent that needs none
                if place and (process.name in HOSTS or process.is_interactive_shell):
                    break
                self._known[process.identity] = f"{process.name} (pid {process.pid})"
                if place and not process.is_launcher:
                    break

    def behind(self, peer: Sequence[Process]) -> str:
        """The agent that a terminal's peer was started by, in words; empty when it is a person's."""
        if found := self._ancestor(peer):
            return found
        mark = next((process.mark for process in peer if process.mark), "")
        return f"an agent ({mark} is set)" if mark and self._had_any else ""

    def posing(self, peer: Sequence[Process]) -> str:
        """The agent whose command started this editor's pipe, in words. An editor that is itself the program with
        agents inside starts its pipe directly, and is none."""
        if len(peer) < 2 or peer[1].identity in self._known:
            return ""
        return self._ancestor(peer)

    def _ancestor(self, peer: Sequence[Process]) -> str:
        for place, process in enumerate(peer):
            name = self._known.get(process.identity, "")
            if name and not (process.identity in self._editors and _has_own_terminal(peer[:place], process)):
                return name
        return ""

    def _forget_ended(self) -> None:
        if len(self._known) + len(self._editors) < MAX_KNOWN:
            return
        alive = {
            one for one in {*self._known, *self._editors} if (p := look_at(one[0])) and p.identity == one
        }
        self._known = {one: name for one, name in self._known.items() if one in alive}
        self._editors &= alive


def _has_own_terminal(below: Sequence[Process], editor: Process) -> bool:
    """Whether the first of these processes sits in an interactive shell on a terminal that the editor opened."""
    peer = below[0] if below else editor
    leader = next((process for process in below if process.pid == peer.session), None)
    return (
        leader is not None
        and leader.is_interactive_shell
        and peer.terminal == leader.terminal != editor.terminal
    )
