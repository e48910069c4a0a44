"""The byte pipe: speed, big messages, half-close, death of the daemon, the folder an editor names, embedded."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from codeforge_ls.shim import PIPE_SAFE, first_folder, pump, read_first_frame
from tests.daemon.place import SHIM, Line, Place

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}


def talk(shim: subprocess.Popen[bytes], message: dict[str, Any] = INITIALIZE) -> dict[str, Any]:
    assert shim.stdin
    assert shim.stdout
    shim.stdin.write(json.dumps(message).encode() + b"\n")
    shim.stdin.flush()
    line = shim.stdout.readline()
    assert line, (shim.wait(10), shim.stderr.read() if shim.stderr else b"")
    return json.loads(line)


def lsp(message: dict[str, Any]) -> bytes:
    body = json.dumps(message).encode()
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def read_lsp(shim: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert shim.stdout
    size = 0
    while (line := shim.stdout.readline()) not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            size = int(line.split(b":")[1])
    assert size, (shim.wait(10), shim.stderr.read() if shim.stderr else b"")
    return json.loads(shim.stdout.read(size))


def test_version_and_help_need_no_workspace(place: Place) -> None:
    for role in ("lsp", "mcp"):
        shim = place.shim(role, "--version", cwd=Path("/"))
        assert shim.communicate(timeout=10)[0].startswith(b"codeforge-")
        assert b"--embedded" in place.shim(role, "--help", cwd=Path("/")).communicate(timeout=10)[0]
    assert not place.daemons()


def test_a_warm_start_is_fast_and_end_of_input_is_clean(place: Place) -> None:
    first = place.shim("mcp")
    assert talk(first)["result"]
    times = []
    for _ in range(5):
        began = time.monotonic()
        shim = place.shim("mcp")
        assert talk(shim)["result"]
        times.append(time.monotonic() - began)
        out, err = shim.communicate(timeout=10)
        assert (shim.returncode, out, err) == (0, b"", b"")
    assert min(times) < 0.25, times
    assert len(place.daemons()) == 1

    # All input at once, then the end: the answers under way still arrive.
    late = place.shim("mcp")
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    out, _ = late.communicate(
        json.dumps(INITIALIZE).encode() + b"\n" + json.dumps(ping).encode() + b"\n", timeout=15
    )
    assert [json.loads(line)["id"] for line in out.splitlines()] == [1, 2]
    assert late.returncode == 0


def test_killing_the_daemon_ends_each_pipe_within_a_second(place: Place) -> None:
    shims = [place.shim("mcp") for _ in range(3)]
    for shim in shims:
        assert talk(shim)["result"]
    (daemon,) = place.daemons()
    line = Line(place.sockets[0])
    assert line.hello()["ok"]
    os.kill(daemon, signal.SIGKILL)
    began = time.monotonic()
    for shim in shims:
        assert shim.wait(5) == 1
        assert shim.stderr
        said = shim.stderr.read()
        assert said.count(b"\n") == 1, said
        assert f"pid {daemon}".encode() in said
    assert time.monotonic() - began < 1.0
    place.wait(lambda: not place.processes())  # no worker, no tool is left
    assert talk(place.shim("mcp"))["result"]  # the next front end starts a new daemon
    assert place.daemons() != [daemon]


def test_a_client_that_dies_takes_its_pipe_along(place: Place) -> None:
    shim = place.shim("mcp")
    assert talk(shim)["result"]
    assert shim.stdin
    assert shim.stdout
    shim.stdout.close()
    shim.stdin.close()
    assert shim.wait(5) == 0
    assert len(place.daemons()) == 1


def test_big_messages_pass_both_ways_whatever_the_ends_are() -> None:
    """20 MB each way at once through the real pump; one side reads slowly at first, then closes its half."""
    payload = os.urandom(1 << 20) * 20
    for kind in ("pipe", "socket"):
        near, far = socket.socketpair()
        source_out, source_in = os.pipe()
        if kind == "pipe":
            target_out, target_in = os.pipe()
        else:
            ends = socket.socketpair()
            target_out, target_in = (end.detach() for end in ends)
        results: list[bool] = []

        def pump_all(
            near: socket.socket = near, a: int = source_out, b: int = target_in, into: list[bool] = results
        ) -> None:
            into.append(pump(near, to_sock=b"early", to_out=b"first", source=a, target=b))
            os.close(b)

        pumping = threading.Thread(target=pump_all)
        pumping.start()

        def echo(far: socket.socket = far) -> None:
            time.sleep(0.3)
            with far:
                while data := far.recv(1 << 16):
                    far.sendall(data)

        def feed(end: int = source_in) -> None:
            with os.fdopen(end, "wb") as stream:
                stream.write(payload)

        for work in (echo, feed):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.5)  # nobody reads yet: the pump must wait, not grow
        received = bytearray()
        while data := os.read(target_out, 1 << 16):
            received += data
        pumping.join(20)
        assert results == [True]
        assert bytes(received) == b"firstearly" + payload
        os.close(target_out)
        os.close(source_out)
    assert PIPE_SAFE <= 4096


def test_the_first_frame_names_the_folder() -> None:
    def frame(params: object) -> bytes:
        return lsp({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})

    folders = [{"uri": "file:///tmp/a%20b%C3%A9", "name": "x"}]
    assert first_folder(frame({"workspaceFolders": folders, "rootUri": "file:///no"})) == "/tmp/a bé"
    assert first_folder(frame({"workspaceFolders": None, "rootUri": "file:///yes"})) == "/yes"
    assert first_folder(frame({"rootUri": None, "rootPath": "/old"})) == "/old"
    for nothing in (None, {}, [], "x", {"rootUri": 7}, {"rootUri": "untitled:x"}, {"workspaceFolders": [3]}):
        assert first_folder(frame(nothing)) is None
    assert first_folder(b"garbage") is None
    for data in (
        frame({}),
        b"X: y\r\ncontent-LENGTH: 2\r\n\r\n{}",
        b"garbage",
        b"Content-Length: x\r\n\r\n",
        b"",
    ):
        out, into = os.pipe()
        os.write(into, data)
        os.close(into)
        assert read_first_frame(out) == data
        os.close(out)


def test_an_editor_started_from_home_is_served_where_its_folder_is(place: Place) -> None:
    home = Path(place.env["HOME"])
    params = {"processId": os.getpid(), "rootUri": place.root.as_uri(), "capabilities": {}}
    initialize = lsp({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    shim = place.shim("lsp", "--stdio", cwd=home)
    assert shim.stdin
    shim.stdin.write(initialize)
    shim.stdin.flush()
    assert "capabilities" in read_lsp(shim)["result"]
    assert Line(place.sockets[0]).hello()["root"] == str(place.root)
    shim.stdin.write(lsp({"jsonrpc": "2.0", "id": 2, "method": "shutdown"}))
    shim.stdin.flush()
    while read_lsp(shim).get("id") != 2:
        pass
    shim.stdin.write(lsp({"jsonrpc": "2.0", "method": "exit"}))
    shim.stdin.flush()
    assert shim.wait(5) == 0  # the code of the session, though the daemon stays
    assert place.daemons()

    homeless = place.shim("lsp", cwd=home)
    params["rootUri"] = None
    _, err = homeless.communicate(
        lsp({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}), 15
    )
    assert homeless.returncode == 2
    assert b"not a workspace" in err


def test_embedded_serves_without_socket_and_leaves_nothing(place: Place) -> None:
    shim = place.shim("mcp", "--embedded", "--set", "daemon.idle_seconds=5")
    assert talk(shim)["result"]
    assert not place.sockets
    refused = place.shim("mcp", "--embedded")  # the state has one owner
    assert b"embedded session" in refused.communicate(timeout=15)[1]
    assert refused.returncode == 1
    refused = place.shim("mcp")
    assert b"embedded session" in refused.communicate(timeout=15)[1]
    assert refused.returncode == 3
    assert shim.communicate(timeout=20)[0] == b""
    assert shim.returncode == 0
    place.wait(lambda: not place.processes())
    assert (
        subprocess.run([sys.executable, str(SHIM)], capture_output=True, timeout=10, check=False).returncode
        == 2
    )
