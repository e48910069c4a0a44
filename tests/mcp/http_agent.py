"""A client of the HTTP door as a program of its own: plays JSON orders from standard input, one answer a line.

``{"send": {"method", "path", "headers", "body"}}`` makes one request on a connection that is kept; ``{"raw": HEX}``
writes bytes to a new connection and reads until the end. ``{"port": N}`` comes first.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from typing import Any


def send(connection: http.client.HTTPConnection, order: dict[str, Any]) -> dict[str, Any]:
    body = order.get("body")
    connection.request(
        order.get("method", "POST"),
        order.get("path", "/mcp"),
        body=None if body is None else body.encode(),
        headers=order["headers"],
    )
    answer = connection.getresponse()
    return {
        "status": answer.status,
        "headers": {name.lower(): value for name, value in answer.getheaders()},
        "body": answer.read().decode(),
    }


def raw(port: int, data: bytes) -> dict[str, Any]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(data)
        seen = b""
        try:
            while piece := sock.recv(65536):
                seen += piece
        except OSError as error:
            return {"seen": seen.decode("latin-1"), "error": str(error)}
    return {"seen": seen.decode("latin-1")}


def main() -> None:
    port = int(json.loads(sys.stdin.readline())["port"])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    print(json.dumps({"pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            told = (
                raw(port, bytes.fromhex(order["raw"])) if "raw" in order else send(connection, order["send"])
            )
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            told = {"error": type(error).__name__}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
