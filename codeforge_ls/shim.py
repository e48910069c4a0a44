"""The byte pipe between a client's stdio and the daemon of its workspace: standard library only.

``codeforge-ls`` and ``codeforge-mcp`` are this file; ``python -I -S shim.py lsp|mcp`` works too. It finds the
root of the workspace, has ``rendezvous`` connect to its daemon, and copies bytes both ways. Imports are few,
and late where they can be: an agent's first turn waits for us.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
from collections.abc import Sequence
from typing import NoReturn

if not __package__:  # run by its path, maybe with -I -S: our own package is two folders up
    sys.path.insert(0, __file__.rpartition("/")[0] + "/..")

from codeforge_ls.rendezvous import (
    Options,
    Refused,
    current_folder,
    daemon_command,
    exit_code,
    open_session,
    version,
    workspace_root,
    worktree_root,
)

MAX_FIRST_FRAME = 8 << 20
CHUNK = 1 << 16
HIGH_WATER = 1 << 18  # bytes waiting for one side before we stop reading the other
PIPE_SAFE = 4096  # bytes that a pipe reported as writable takes without blocking (POSIX PIPE_BUF on Linux)

USAGE = """usage: {name} [--root DIR] [--config FILE] [--set SECTION.FIELD=VALUE]... [--embedded]

{what} on standard input and output, served by the CodeForge daemon of the workspace.

  --root DIR        the workspace; else the client's folder (its git worktree root)
  --config FILE     settings file for a daemon that has to be started
  --set A.B=VALUE   one setting for a daemon that has to be started; may be repeated
  --embedded        run the workspace in this process, without a daemon
  --stdio           accepted for editors that pass it; it is the only transport
  --version, --help
"""
WHAT = {"lsp": "The Language Server Protocol", "mcp": "The Model Context Protocol"}


# -- the pump -----------------------------------------------------------------------------------------


def pump(
    sock: socket.socket, *, to_sock: bytes = b"", to_out: bytes = b"", source: int = 0, target: int = 1
) -> bool:
    """Copy ``source`` to the socket and the socket to ``target`` until the socket ends.

    End of input is passed on as a half-close, so that answers under way still arrive. A side that does not
    read stops the reading of the other one. Returns False when ``target`` went away first. The descriptors
    keep their blocking mode: they may be shared with processes that would be surprised.
    """
    out = socket.socket(fileno=os.dup(target)) if stat.S_ISSOCK(os.fstat(target).st_mode) else None
    sock.setblocking(False)
    up, down, reading, half_closed = bytearray(to_sock), bytearray(to_out), True, False
    poll = select.poll()
    poll.register(target, 0)  # an error there is reported even when we want nothing
    try:
        while True:
            if not reading and not up and not half_closed:
                half_closed = True
                _shut(sock)
            poll.register(
                sock, _when(len(down) < HIGH_WATER, select.POLLIN) | _when(bool(up), select.POLLOUT)
            )
            poll.modify(target, _when(bool(down), select.POLLOUT))
            if reading and len(up) < HIGH_WATER:
                poll.register(source, select.POLLIN)
            ready = dict(poll.poll())
            if reading and len(up) < HIGH_WATER:
                poll.unregister(source)
            if ready.get(source, 0):
                piece = os.read(source, CHUNK)
                up += piece
                reading = bool(piece)
            if up and ready.get(sock.fileno(), 0) & select.POLLOUT:
                del up[: _send(sock, up)]
            if ready.get(target, 0) & (select.POLLERR | select.POLLNVAL):
                return False
            if down and ready.get(target, 0) & select.POLLOUT:
                del down[: _send(out, down) if out else os.write(target, down[:PIPE_SAFE])]
            if ready.get(sock.fileno(), 0) & ~select.POLLOUT and not _receive(sock, down):
                _write_rest(target, down)
                return True
    except BrokenPipeError:
        return False
    finally:
        if out:
            out.close()


def _when(wanted: bool, event: int) -> int:
    return event if wanted else 0


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the daemon is gone; the next read says so


def _send(sock: socket.socket, data: bytearray) -> int:
    try:
        return sock.send(memoryview(data)[:CHUNK].tobytes(), socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0
    except ConnectionError:
        return len(data)  # nobody takes it any more; the next read says so


def _receive(sock: socket.socket, down: bytearray) -> bool:
    try:
        piece = sock.recv(CHUNK)
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    down += piece
    return bool(piece)


def _write_rest(target: int, down: bytearray) -> None:
    """The daemon is gone: give the client what is left, but do not wait long for one that does not read."""
    poll = select.poll()
    poll.register(target, select.POLLOUT)
    while down and poll.poll(300):
        del down[: os.write(target, down[:PIPE_SAFE])]


# -- the two commands ---------------------------------------------------------------------------------


def first_folder(data: bytes) -> str | None:
    """The folder that an LSP ``initialize`` request names, or None if it names none or is something else."""
    import json
    from urllib.parse import unquote, urlsplit

    try:
        params = json.loads(data.partition(b"\r\n\r\n")[2])["params"]
        folders = params.get("workspaceFolders") or []
        uri = folders[0]["uri"] if folders else params.get("rootUri")
        if uri is None:
            path = params.get("rootPath")
            return path if isinstance(path, str) and path else None
        parts = urlsplit(uri)
        return unquote(parts.path) if parts.scheme == "file" and parts.path else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def read_first_frame(source: int = 0) -> bytes:
    """The bytes of the first LSP frame as they came; fewer when the input ends or is no such frame."""
    data, want = b"", -1
    while want < 0 or len(data) < want:
        piece = os.read(source, CHUNK)
        data += piece
        head, blank, _ = data.partition(b"\r\n\r\n")
        if not piece or len(data) > MAX_FIRST_FRAME or (not blank and len(data) > CHUNK):
            return data
        if blank and want < 0:
            sizes = [
                line.split(b":")[1].strip()
                for line in head.split(b"\r\n")
                if line[:15].lower() == b"content-length:"
            ]
            if not sizes or not sizes[0].isdigit():
                return data
            want = len(head) + 4 + int(sizes[0])
    return data


def find_root(role: str, options: Options) -> tuple[str, bytes]:
    """The root, and the bytes of the first frame if it had to be read to learn the client's folder."""
    if options.root is not None:
        return workspace_root(options.root), b""
    here = os.path.realpath(current_folder())
    if role != "lsp" or worktree_root(here):
        return workspace_root(here), b""
    frame = read_first_frame()
    return workspace_root(first_folder(frame) or here), frame


def parse(argv: Sequence[str]) -> Options | str:
    """The options, or ``--help`` or ``--version``. Raises ``Refused`` with code 2."""
    values: dict[str, list[str]] = {"--root": [], "--config": [], "--set": []}
    embedded, rest = False, list(argv)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name in ("--help", "-h", "--version"):
            return "--help" if name == "-h" else name
        if name in values:
            if not equals and not rest:
                raise Refused(f"{name} needs a value; see --help.", 2)
            values[name].append(value if equals else rest.pop(0))
        elif name == "--embedded":
            embedded = True
        elif name not in ("--stdio", "--clientProcessId"):
            raise Refused(f"Unknown option {name}; see --help.", 2)
    for override in values["--set"]:
        if "." not in override.partition("=")[0] or "=" not in override:
            raise Refused(f"--set takes SECTION.FIELD=VALUE, not {override!r}.", 2)
    root, config = (values[name][-1] if values[name] else None for name in ("--root", "--config"))
    return Options(root, config, tuple(values["--set"]), embedded)


def run(role: str, argv: Sequence[str]) -> int:
    """One front end from start to end; returns its exit code."""
    options = parse(argv)
    name = "codeforge-ls" if role == "lsp" else "codeforge-mcp"
    if isinstance(options, str):
        text = USAGE.format(name=name, what=WHAT[role]) if options == "--help" else f"{name} {version()}\n"
        os.write(1, text.encode())
        return 0
    root, first = find_root(role, options)
    if options.embedded:
        return _run_embedded(root, role, options, first)
    session = open_session(root, role, options)
    if not session.started and options.for_daemon():
        _complain("a daemon runs already: --config and --set take effect after `codeforge daemon restart`")
    if not pump(session.socket, to_sock=first, to_out=session.early):
        return 0
    return exit_code(session)


def _run_embedded(root: str, role: str, options: Options, first: bytes) -> int:
    """Become the daemon's code over this stdio. Bytes read already go before the rest, by a child."""
    command = [*daemon_command(root, role, options), "--embedded"]
    if first:
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            _prepend(first, write_end)
        os.dup2(read_end, 0)
        os.close(read_end)
        os.close(write_end)
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


def _prepend(first: bytes, target: int) -> NoReturn:
    try:
        data: bytes = first
        while data:
            while data:
                data = data[os.write(target, data) :]
            data = os.read(0, CHUNK)
    finally:
        os._exit(0)


def _complain(text: str) -> None:
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    os.write(2, f"codeforge: {line}\n".encode(errors="replace"))


def main(role: str) -> NoReturn:
    """Run one front end and end the process."""
    try:
        code = run(role, sys.argv[1:])
    except Refused as error:
        _complain(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        _complain(str(error) if error.filename else f"{error.strerror or error}")
        code = 1
    os._exit(
        code
    )  # nothing is buffered; skipping the interpreter's farewell saves the client some milliseconds


def main_ls() -> NoReturn:
    """The console script ``codeforge-ls``."""
    main("lsp")


def main_mcp() -> NoReturn:
    """The console script ``codeforge-mcp``."""
    main("mcp")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in WHAT:
        _complain("usage: shim.py lsp|mcp [options]; see shim.py lsp --help")
        os._exit(2)
    main(sys.argv.pop(1))
