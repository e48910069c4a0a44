"""``python -m codeforge_ls.daemon``: become the daemon of a workspace, or serve one session over stdio."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from codeforge_ls.child import end_quickly
from codeforge_ls.daemon.election import Claim, NotElected
from codeforge_ls.daemon.host import SESSIONS, Host
from codeforge_ls.daemon.processes import kill_descendants, leave_within
from codeforge_ls.daemon.server import CLOSE_SECONDS, LEAVE_SECONDS, READ_LIMIT, Server, entry_point
from codeforge_ls.daemon.watchdog import Watchdog, new_loop
from codeforge_ls.rendezvous import (
    INSIDE_TOOL,
    PROTOCOL,
    Refused,
    socket_path,
    state_folder,
    version,
    workspace_root,
)
from codeforge_ls.standby import NO_PLUGINS
from codeforge_ls.vault import take_from_environment

log = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0005  # a thread that computes gives way to the loop so soon (Python's default is 5 ms)


def arguments() -> argparse.Namespace:
    """What a front end passes on."""
    parser = argparse.ArgumentParser(prog="python -m codeforge_ls.daemon", description=__doc__)
    parser.add_argument("--root", required=True, help="the workspace")
    parser.add_argument(
        "--role", choices=sorted(SESSIONS), default="cli", help="the kind of session that comes first"
    )
    parser.add_argument("--config", type=Path, help="settings file instead of the user's")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="one setting")
    parser.add_argument("--ready-fd", type=int, help="a pipe that is told when the daemon answers")
    parser.add_argument("--embedded", action="store_true", help="serve one session over stdin and stdout")
    return parser.parse_args()


def main() -> int:
    """Run the daemon or the embedded session; returns the exit code. The loser of an election returns 0."""
    end_quickly()
    take_from_environment()  # before anything is started that would inherit a key
    os.environ.update(NO_PLUGINS)
    options = arguments()
    report = Reporter(options.ready_fd)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        if os.environ.get("CODEFORGE_TOOL") == "1":
            raise Refused(INSIDE_TOOL)
        root = workspace_root(options.root)
        claim = Claim(None if options.embedded else Path(socket_path(root)), Path(state_folder(root)))
        claim.win()
    except NotElected as lost:
        report(lost.report)
        if options.embedded:
            _say(lost.report.partition(" ")[2] or lost.report)
        return 1 if options.embedded else 0
    except (Refused, OSError) as error:
        report(f"error {error}")
        _say(str(error))
        return getattr(error, "exit_code", 1)
    run = _embedded if options.embedded else _daemon
    with asyncio.Runner(loop_factory=new_loop) as runner:
        code = runner.run(run(Path(root), options, claim, report))
        claim.remove_socket()
    return code  # the locks end with the process: whoever waits for them meets nothing of it any more


def _say(text: str) -> None:
    """One line for the client that embeds us, or for daemon.stderr."""
    sys.stderr.write(f"codeforge: {text}\n")


class Reporter:
    """Tells the front end that started us, once, how it went."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)

    def __call__(self, line: str) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # it does not wait any more
                os.write(self._descriptor, line.replace("\n", " ").encode(errors="replace") + b"\n")
                os.close(self._descriptor)
            self._descriptor = None


def _host(root: Path, options: argparse.Namespace, watchdog: Watchdog, stop: Callable[[str], None]) -> Host:
    overrides = dict(pair.partition("=")[::2] for pair in options.set)
    watchdog.start(asyncio.get_running_loop())
    return Host(
        root,
        watchdog=watchdog,
        close_soon=stop,
        config=options.config,
        overrides=overrides,
    )


async def _daemon(root: Path, options: argparse.Namespace, claim: Claim, report: Reporter) -> int:
    server = Server(claim)
    await server.serve(_host(root, options, Watchdog(), server.stop), lambda: report("ready"))
    return 0


async def _embedded(root: Path, options: argparse.Namespace, _claim: Claim, _report: Reporter) -> int:
    """One session over this process's stdio, which a thread pumps through a socket pair as the pipe would."""
    from codeforge_ls.shim import pump

    ours, theirs = socket.socketpair()
    wire_in, wire_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)  # nothing but the session writes to the wire
    serving: asyncio.Task[int] | None = None

    def stop(_reason: str) -> None:
        if serving is not None:
            serving.cancel()

    host = _host(root, options, Watchdog(), stop)
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=READ_LIMIT)
    pumping = threading.Thread(
        target=pump, args=(theirs,), kwargs={"source": wire_in, "target": wire_out}, name="stdio", daemon=True
    )
    pumping.start()
    hello = {
        "role": options.role, "protocol": PROTOCOL, "version": version(), "pid": os.getppid(),
        "cwd": str(root), "session": f"{options.role}-embedded",
    }  # fmt: skip
    code = 1
    try:
        serving = asyncio.ensure_future((await entry_point(options.role))(reader, writer, host, hello))
        code = await serving
    except asyncio.CancelledError:
        code = 0
    finally:
        ended = "the embedded session ended"
        leave_within(LEAVE_SECONDS, ended)
        writer.close()
        await asyncio.to_thread(pumping.join, 1.0)
        try:
            await asyncio.wait_for(host.close(ended), CLOSE_SECONDS)
        except Exception:
            log.exception("the workspace did not close in order")
        await asyncio.to_thread(kill_descendants)
    return code


if __name__ == "__main__":
    sys.exit(main())
