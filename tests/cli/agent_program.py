"""A foreign agent as a program of its own: it starts ``codeforge-mcp``, and shells, as it is told on standard input.

Told ``{"send": TOOL, "arguments"}`` it calls a tool, ``{"receive": true}`` waits for the answer, ``{"shell":
COMMAND}`` runs ``bash -c``, ``{"terminal": COMMAND}`` types into an interactive bash on a terminal of its own.
With ``--editor`` it starts ``codeforge-ls`` too.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from typing import Any

INFO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "agent", "version": "1"}}


def start(shim: str, role: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", shim, role], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def request(pipe: subprocess.Popen[bytes], number: int, method: str, params: Any) -> None:
    assert pipe.stdin
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    pipe.stdin.write(json.dumps(message).encode() + b"\n")
    pipe.stdin.flush()


def receive(pipe: subprocess.Popen[bytes], number: int) -> Any:
    assert pipe.stdout
    while True:
        message = json.loads(pipe.stdout.readline())
        if message.get("id") == number:
            return message


def shell(command: str) -> dict[str, Any]:
    done = subprocess.run(
        ["bash", "-c", f"{command}\ntrue"], capture_output=True, text=True, timeout=90, check=False
    )
    return {"out": done.stdout, "err": done.stderr}


def terminal(command: str) -> dict[str, Any]:
    child, master = pty.fork()
    if child == 0:
        os.execvp("bash", ["bash", "--norc", "-i"])
    os.write(master, f"{command}; exit\n".encode())
    seen = b""
    with contextlib.suppress(OSError):
        while piece := os.read(master, 65536):
            seen += piece
    os.close(master)
    os.waitpid(child, 0)
    return {"out": seen.decode(errors="replace"), "err": ""}


def main() -> None:
    shim, *options = sys.argv[1:]
    if "--editor" in options:
        editor = start(shim, "lsp")
        assert editor.stdin
        assert editor.stdout
        params = {"capabilities": {}, "processId": None, "rootUri": None}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).encode()
        editor.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        editor.stdin.flush()
        assert editor.stdout.readline()
    mcp, number = start(shim, "mcp"), 0
    request(mcp, number, "initialize", INFO)
    receive(mcp, number)
    print(json.dumps({"ready": mcp.pid}), flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        answer: Any = {}
        if "send" in told:
            number += 1
            request(mcp, number, "tools/call", {"name": told["send"], "arguments": told["arguments"]})
        elif "receive" in told:
            answer = receive(mcp, number)["result"]
        elif "shell" in told:
            answer = shell(told["shell"])
        elif "terminal" in told:
            answer = terminal(told["terminal"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
