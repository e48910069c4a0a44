"""One daemon for one root: the race, the socket, who may connect, and how long it stays."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.daemon.place import PACKAGE, Line, Place


def start(place: Place, root: Path | None = None, *options: str, **env: str) -> subprocess.Popen[bytes]:
    before = set(place.sockets)
    process = place.daemon(root, *options, **env)
    place.wait(lambda: set(place.sockets) - before)
    return process


def test_eight_starters_make_one_daemon_and_two_roots_make_two(place: Place) -> None:
    starters = [place.daemon() for _ in range(8)]
    place.wait(lambda: sum(starter.poll() is None for starter in starters) == 1)
    assert sorted(starter.poll() or 0 for starter in starters) == [0] * 8  # losers leave without complaint
    line = Line(place.sockets[0])
    answer = line.hello()
    assert answer["ok"] is True
    assert answer["root"] == str(place.root)
    assert answer["pid"] == next(starter.pid for starter in starters if starter.poll() is None)

    other = place.base / "other"
    place.git(other)
    start(place, other)
    assert len(place.sockets) == 2

    inside = place.root / "deep" / "er"
    inside.mkdir(parents=True)
    assert place.daemon(inside).wait(15) == 0  # a folder inside a worktree belongs to it
    assert len(place.sockets) == 2


def test_socket_and_folders_are_ours_alone(place: Place) -> None:
    start(place)
    sock = place.sockets[0]
    assert stat.S_IMODE(sock.stat().st_mode) == 0o600
    for folder in (sock.parent, next((place.base / "state" / "codeforge").iterdir())):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(os.fsencode(sock)) < 108


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_another_user_is_refused(place: Place) -> None:
    start(place)
    sock = place.sockets[0]
    # As if the folders and the socket were open to all: the kernel's word about the peer must be enough.
    for path in (place.base, place.base / "run", sock.parent):
        path.chmod(0o777)
    sock.chmod(0o666)
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        's.sendall(b\'{"role":"cli","protocol":1,"version":"0","pid":1,"cwd":"/"}\\n\'); print(s.recv(999))'
    )
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    said = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", script, str(sock)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    if "Permission denied" in said.stderr and "socket" not in said.stderr:
        pytest.skip("nobody cannot run a Python here")
    assert '"ok": false' in said.stdout, said
    assert "not 65534" in said.stdout


def test_a_stale_socket_file_is_replaced_and_foreign_folders_are_refused(place: Place) -> None:
    first = start(place)
    first.kill()
    first.wait()
    assert place.sockets  # kill -9 leaves the file
    second = place.daemon()
    place.wait(lambda: _greets(place.sockets[0]))
    second.terminate()
    assert second.wait(12) == 0
    assert not place.sockets

    runtime = place.base / "run" / "codeforge"
    shutil.rmtree(runtime)
    (place.base / "elsewhere").mkdir()
    runtime.symlink_to(place.base / "elsewhere")
    refused = place.shim("mcp")
    out, err = refused.communicate(timeout=15)
    assert (refused.returncode, out) == (3, b"")
    assert b"is a link or a file" in err
    assert err.count(b"\n") == 1
    if os.getuid() == 0:
        runtime.unlink()
        runtime.mkdir(mode=0o700)
        os.chown(runtime, 65534, 65534)
        assert b"belongs to user 65534" in place.shim("mcp").communicate(timeout=15)[1]


def test_without_a_usable_runtime_folder_the_temporary_one_serves(place: Place) -> None:
    script = "import sys; from codeforge_ls import rendezvous as r; print(r.socket_path(sys.argv[1]))"
    temporary = place.base / "t"
    temporary.mkdir()
    long = place.base / ("long" * 20)
    long.mkdir()
    for runtime in ("", "relative", str(place.base / "none"), str(long)):
        env = place.env | {"XDG_RUNTIME_DIR": runtime, "TMPDIR": str(temporary)}
        said = subprocess.check_output([sys.executable, "-c", script, "/x"], env=env, text=True, timeout=15)
        folder = temporary / f"codeforge-{os.getuid()}"
        assert Path(said.strip()).parent == folder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def _greets(path: Path) -> bool:
    try:
        return bool(Line(path).hello()["ok"])
    except (OSError, AssertionError):
        return False


def test_home_root_and_missing_folders_are_refused(place: Place) -> None:
    for options, cwd in (
        (["--root", place.env["HOME"]], place.root),
        (["--root", "/"], place.root),
        (["--root", str(place.base / "none")], place.root),
        ([], Path(place.env["HOME"])),
        (["--rot", "x"], place.root),
        (["--set", "novalue"], place.root),
    ):
        shim = place.shim("mcp", *options, cwd=cwd)
        out, err = shim.communicate(timeout=15)
        assert (shim.returncode, out) == (2, b""), (options, err)
        assert err.startswith(b"codeforge: ")
        assert err.count(b"\n") == 1
    assert not place.daemons()


def test_idle_daemon_leaves_and_a_client_keeps_it(place: Place) -> None:
    daemon = start(place, CODEFORGE_DAEMON_IDLE_SECONDS="2")
    line = Line(place.sockets[0])
    assert line.hello()["ok"]
    time.sleep(3.5)
    assert daemon.poll() is None
    line.close()
    closed = time.monotonic()
    assert daemon.wait(10) == 0
    assert time.monotonic() - closed > 1.5
    assert not place.sockets
    assert not place.processes()


def test_bad_hellos_are_answered_and_forgotten(place: Place) -> None:
    start(place)
    path = place.sockets[0]
    good = {"role": "cli", "protocol": 1, "cwd": "/", "pid": 1, "version": "0.1.0"}
    for wrong, word in (
        (b"GET / HTTP/1.1\r\n", "not a JSON object"),
        (b"[1]\n", "not a JSON object"),
        (b"\xff\xfe\n", "not a JSON object"),
        (b"[" * 60000 + b"\n", "not a JSON object"),
        (b" " * 70000 + b"\n", "too long"),
        (b'{"role":"root","protocol":1,"version":"0"}\n', "no session of kind"),
        (b'{"role":["cli"],"protocol":1,"version":"0"}\n', "no session of kind"),
        (b'{"role":"cli"}\n', "lacks protocol"),
        (b'{"role":"cli","protocol":7,"version":"0.0.1"}\n', "update CodeForge"),
    ):
        line = Line(path)
        line.sock.sendall(wrong)
        answer = line.read()
        assert answer["ok"] is False
        assert word in answer["error"], (wrong[:40], answer)
        assert line.file.read() == b""  # and the connection is over
        line.close()
    for rude in (b"", b"{", b"no end"):
        line = Line(path)
        line.sock.sendall(rude)
        line.close()
    silent = Line(path)
    began = time.monotonic()
    assert "No hello" in silent.read()["error"]
    assert 4 < time.monotonic() - began < 9
    line = Line(path)
    assert line.ask(good)["ok"] is True


def test_a_tool_cannot_connect_even_with_a_clean_environment(place: Place) -> None:
    start(place)
    path = place.sockets[0]
    script = (
        "import json, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        's.sendall(b\'{"role":"cli","protocol":1,"version":"0","pid":1,"cwd":"/"}\\n\'); print(s.recv(999))'
    )
    inner = ["env", "-i", sys.executable, "-c", script, str(path)]
    assert b'"ok": true' in subprocess.check_output(inner, timeout=15)
    command = ["sh", "-c", '"$@"; true', "sh", *inner]
    said = subprocess.check_output(command, env=place.env | {"CODEFORGE_TOOL": "1"}, timeout=15)
    assert b"approve itself" in said
    shim = place.shim("mcp", CODEFORGE_TOOL="1")
    assert b"approve itself" in shim.communicate(timeout=15)[1]
    assert shim.returncode == 1


def test_only_a_newer_version_replaces_the_daemon(place: Place, tmp_path: Path) -> None:
    old = start(place)
    path = place.sockets[0]
    assert Line(path).hello(version="0.0.9")["ok"] is True
    assert Line(path).hello(version="nonsense")["ok"] is True
    assert old.poll() is None

    newer = tmp_path / "newer"
    shutil.copytree(
        PACKAGE / "codeforge_ls", newer / "codeforge_ls", ignore=shutil.ignore_patterns("__pycache__")
    )
    init = newer / "codeforge_ls" / "__init__.py"
    init.write_text(init.read_text().replace("0.1.0", "0.2.0"))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from codeforge_ls import rendezvous as r; "
        "print(r.open_session(r.workspace_root(sys.argv[2]), 'cli').answer['version'])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, str(newer), str(place.root)],
        env=place.env | {"PYTHONPATH": str(newer)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.stdout.strip() == "0.2.0", said.stderr + place.daemon_log()
    assert old.wait(10) == 0
    answer = Line(place.sockets[0]).hello()
    assert (answer["ok"], answer["version"]) == (True, "0.2.0")  # the older front end is served
    assert len(place.daemons()) == 1


def test_two_runtime_folders_still_share_one_daemon(place: Place) -> None:
    daemon = start(place)
    (place.base / "run2").mkdir(mode=0o700)
    script = (
        "import sys; from codeforge_ls import rendezvous as r; "
        "s = r.open_session(r.workspace_root(sys.argv[1]), 'cli'); print(s.answer['pid'], s.path)"
    )
    said = subprocess.check_output(
        [sys.executable, "-c", script, str(place.root)],
        env=place.env | {"XDG_RUNTIME_DIR": str(place.base / "run2")},
        text=True,
        timeout=40,
    )
    assert said.split() == [str(daemon.pid), str(place.sockets[0])]


def test_signals_end_it_in_order(place: Place) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        daemon = start(place)
        line = Line(place.sockets[0])
        assert line.hello()["ok"]
        os.kill(daemon.pid, signal.SIGHUP)  # reload: nothing to reload, and nothing breaks
        assert line.ask({"id": 1, "op": "daemon.status"})["result"]["pid"] == daemon.pid
        began = time.monotonic()
        daemon.send_signal(number)
        assert line.file.read() == b""
        assert daemon.wait(10) == 0
        assert time.monotonic() - began < 5
        assert not place.sockets
