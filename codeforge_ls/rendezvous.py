"""Where a workspace's daemon is and how to reach or start it: standard library only, for every front end.

The root is the git worktree's; the socket lies in a runtime folder that is ours alone. A daemon that we start
reports through a pipe when it is ready; the first line on the socket is a hello, the answer is one line too.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

# pathlib takes 15 ms to import, and a front end's start to first answer has 250:
# ruff: noqa: PTH100, PTH101, PTH103, PTH109, PTH111, PTH112, PTH113, PTH117, PTH118, PTH120, PTH123, PTH202, PTH110

PROTOCOL = 1  # of the hello line; raised when an old front end can no longer be served
START_TIMEOUT = (
    30.0  # seconds: a cold daemon on a busy machine, or one that waits for its predecessor to drain
)
HELLO_TIMEOUT = 20.0  # seconds: the daemon imports what the session needs before it answers the first hello
MAX_SOCKET_PATH = 107  # bytes that fit into sockaddr_un beside the final NUL
CHUNK = 1 << 16
INSIDE_TOOL = "A command that CodeForge runs for an agent cannot talk to CodeForge: it could approve itself."


class Refused(Exception):
    """The front end cannot go on. ``exit_code``: 1 it failed, 2 wrong usage or folder, 3 no daemon."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NoDaemon(Refused):
    """No daemon runs for this root, and none was to be started."""


class Options(NamedTuple):
    """What was asked for on the command line; ``overrides`` are the ``a.b=c`` of ``--set``."""

    root: str | None = None
    config: str | None = None
    overrides: tuple[str, ...] = ()
    embedded: bool = False

    def for_daemon(self) -> list[str]:
        """The part that a daemon gets when we start it."""
        config = ["--config", os.path.abspath(self.config)] if self.config else []
        return [*config, *(part for override in self.overrides for part in ("--set", override))]


class Session(NamedTuple):
    """An open connection after its hello; ``early`` holds bytes that came with the answer."""

    socket: socket.socket
    answer: dict[str, object]
    early: bytes
    started: bool
    path: str


# -- where things are ---------------------------------------------------------------------------------


def version() -> str:
    """The version of the package this file lies in, read without importing it."""
    with open(
        os.path.join(os.path.dirname(os.path.abspath(__file__)), "__init__.py"), encoding="utf-8"
    ) as file:
        for line in file:
            if line.startswith("__version__"):
                return line.split('"')[1]
    return "0"


def worktree_root(folder: str) -> str | None:
    """The nearest folder at or above ``folder`` that holds a git worktree; never the home folder or ``/``."""
    while not _forbidden(folder):
        mark = os.path.join(folder, ".git")
        if os.path.isfile(mark) or os.path.isfile(os.path.join(mark, "HEAD")):
            return folder
        folder = os.path.dirname(folder)
    return None


def workspace_root(folder: str) -> str:
    """The real path of the workspace of ``folder``. Raises ``Refused`` for no folder, ``$HOME`` and ``/``."""
    if "\0" in folder or not os.path.isdir(folder):
        raise Refused(f"There is no folder {folder!r}.", 2)
    real = os.path.realpath(folder)
    if _forbidden(real):
        raise Refused(
            f"{real} is not a workspace: open a project folder inside it, or name one with --root.",
            2,
        )
    return worktree_root(real) or real


def _forbidden(real: str) -> bool:
    return real == os.path.dirname(real) or real == os.path.realpath(os.path.expanduser("~"))


def workspace_id(root: str) -> str:
    """12 hex digits of the SHA-256 of the real root."""
    import hashlib

    return hashlib.sha256(os.fsencode(root)).hexdigest()[:12]


def state_folder(root: str) -> str:
    """``$XDG_STATE_HOME/codeforge/<id>``, made 0700 when absent. Raises ``Refused`` when that cannot be."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification: a relative path is invalid and ignored
        mac = sys.platform == "darwin"
        base = os.path.expanduser("~/Library/Application Support" if mac else "~/.local/state")
    folder = os.path.join(base, "codeforge", workspace_id(root))
    _make_state_folder(folder)
    return folder


def _make_state_folder(folder: str) -> None:
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"The state folder {folder} cannot be made: {error.strerror or error}. "
            "Set XDG_STATE_HOME to a folder that you can write to.",
            3,
        ) from error


def socket_path(root: str) -> str:
    """The socket of the root's daemon. Raises ``Refused`` when its folder is not ours alone."""
    name = f"{workspace_id(root)}.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    spare = len(f".{2**22}")  # the daemon binds beside the final name and renames
    if runtime and os.path.isabs(runtime) and os.path.isdir(runtime):
        path = os.path.join(runtime, "codeforge", name)
        if len(os.fsencode(path)) + spare <= MAX_SOCKET_PATH:
            return os.path.join(_own_folder(os.path.dirname(path)), name)
    path = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"codeforge-{os.getuid()}", name)  # noqa: S108 - owner and mode are checked
    if len(os.fsencode(path)) + spare > MAX_SOCKET_PATH:
        raise Refused(
            f"The socket path {path} is too long; set XDG_RUNTIME_DIR or TMPDIR to a shorter folder.", 3
        )
    return os.path.join(_own_folder(os.path.dirname(path)), name)


def _own_folder(folder: str) -> str:
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.lstat(folder)
        if (
            stat.S_ISDIR(found.st_mode)
            and found.st_uid == os.getuid()
            and stat.S_IMODE(found.st_mode) & 0o077
        ):
            os.chmod(folder, 0o700)
    except OSError as error:
        raise Refused(
            f"The runtime folder {folder} cannot be made: {error.strerror or error}. "
            "Set XDG_RUNTIME_DIR or TMPDIR to a folder that you can write to.",
            3,
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(f"The runtime folder {folder} is a link or a file; remove it.", 3)
    if found.st_uid != os.getuid():
        raise Refused(f"The runtime folder {folder} belongs to user {found.st_uid}; it must be yours.", 3)
    return folder


# -- the daemon ---------------------------------------------------------------------------------------


def open_session(root: str, role: str, options: Options | None = None, *, start: bool = True) -> Session:
    """Connect to the root's daemon and say hello; start it when there is none and ``start``.

    Raises ``Refused`` with a sentence for a person. Code 3: there is no daemon and none could be started.
    """
    if os.environ.get("CODEFORGE_TOOL") == "1":
        raise Refused(INSIDE_TOOL)
    path, deadline, started, replaced = socket_path(root), time.monotonic() + START_TIMEOUT, False, False
    while True:
        if time.monotonic() > deadline:
            raise Refused(
                f"The workspace daemon did not answer within {START_TIMEOUT:.0f} s; see `codeforge logs`.", 3
            )
        sock = _connect(path)
        if sock is None:
            if not start:
                raise NoDaemon(f"No daemon runs for {root}.", 3)
            path = _start_daemon(root, role, options or Options(), path, deadline)
            started = True
            continue
        answer, early = _hello(sock, {"role": role, "cwd": current_folder()})
        if answer.get("ok") is True:
            return Session(sock, answer, early, started, path)
        sock.close()
        if answer.get("retry") is not True or not start:
            raise Refused(str(answer.get("error", "the daemon refused")), 1 if answer else 3)
        if answer.get("code") == "replaced":
            if replaced:
                raise Refused(f"The daemon started for this version says {answer.get('error')}", 3)
            replaced = True
        time.sleep(0.05)


def _connect(path: str, timeout: float | None = None) -> socket.socket | None:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except OSError as error:
        sock.close()
        raise Refused(f"Cannot connect to {path}: {error.strerror or error}.", 3) from error
    return sock


def _hello(
    sock: socket.socket, fields: Mapping[str, object], timeout: float = HELLO_TIMEOUT
) -> tuple[dict[str, object], bytes]:
    """The daemon's answer and what came after it. A connection that just ended counts as ``retry``."""
    import json

    hello = {"protocol": PROTOCOL, "pid": os.getpid(), "version": version(), **fields}
    sock.settimeout(timeout)
    data = b""
    try:
        sock.sendall(json.dumps(hello).encode() + b"\n")
        while b"\n" not in data:
            piece = sock.recv(CHUNK)
            if not piece:
                return {"retry": True, "error": "the daemon closed the connection"}, b""
            data += piece
        line, _, early = data.partition(b"\n")
        answer = json.loads(line)
        sock.settimeout(None)
    except TimeoutError:
        raise Refused(f"The daemon did not answer the hello within {timeout:.0f} s.", 3) from None
    except (OSError, ValueError) as error:
        return {"retry": isinstance(error, OSError), "error": f"the daemon's hello was cut: {error}"}, b""
    return (
        (answer, early) if isinstance(answer, dict) else ({"error": "the daemon's hello makes no sense"}, b"")
    )


def current_folder() -> str:
    """Where this process stands; ``/`` when that folder was deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _start_daemon(root: str, role: str, options: Options, path: str, deadline: float) -> str:
    """Start a daemon and wait until some daemon is ready; returns the path of its socket.

    It reports through a pipe, one line: ``ready``, ``served`` (another one is), ``elsewhere PATH``
    (another one is, with another runtime folder) or ``error TEXT``.
    """
    logs = os.path.join(state_folder(root), "logs")
    _make_state_folder(logs)
    stderr = os.path.join(logs, "daemon.stderr")
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    command = [*daemon_command(root, role, options), "--ready-fd", str(write_end)]
    _spawn_detached(command, stderr, write_end)
    os.close(write_end)
    report = b""
    try:
        while not report.endswith(b"\n"):
            ready, _, _ = select.select([read_end], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(read_end, CHUNK) if ready else b""
            if not piece:
                break
            report += piece
    finally:
        os.close(read_end)
    word, _, text = report.decode(errors="replace").strip().partition(" ")
    if word in ("ready", "served"):
        return path
    if word == "elsewhere":
        return text
    if word == "error":
        raise Refused(text, 3)
    raise Refused(
        f"The daemon ended while it started: {_last_line(stderr) or 'it said nothing'} (see {stderr})", 3
    )


def daemon_command(root: str, role: str, options: Options) -> list[str]:
    """The command line of a daemon. ``-P`` keeps the current folder, maybe hostile, out of ``sys.path``."""
    python = sys.executable or "python3"
    return [python, "-P", "-m", "codeforge_ls.daemon", "--root", root, "--role", role, *options.for_daemon()]


def _spawn_detached(command: list[str], stderr: str, keep: int) -> None:
    """Run a command in its own session, owned by init, with nothing of ours open but ``keep``."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        if os.path.exists(stderr) and os.path.getsize(stderr) > 1 << 20:
            log_flags |= os.O_TRUNC
        log, null = os.open(stderr, log_flags, 0o600), os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.closerange(3, keep)
        os.closerange(keep + 1, min(65536, os.sysconf("SC_OPEN_MAX")))
        os.execv(command[0], command)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, f"codeforge: cannot start the daemon: {error}\n".encode())
    finally:
        os._exit(127)


def _last_line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 2000))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"its log cannot be read: {error.strerror or error}"
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def exit_code(session: Session) -> int:
    """The code the daemon gives for an ended session. Raises ``Refused`` when the daemon itself has ended."""
    gone = (
        f"The workspace daemon (pid {session.answer.get('pid')}) ended; start again to attach to a new one."
    )
    try:
        sock = _connect(session.path, timeout=0.4)
        if sock is None:
            raise Refused(gone)
        answer, _ = _hello(sock, {"role": "exit", "session": session.answer.get("session")}, timeout=0.4)
        sock.close()
    except Refused:
        raise Refused(gone) from None
    code = answer.get("exit_code")
    if not isinstance(code, int):
        raise Refused(gone)
    return code
