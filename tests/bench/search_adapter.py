"""Drives ``codeforge-mcp`` for quality benchmarks: JSON lines in, JSON lines out, through a real agent's door.

``python -m tests.bench.search_adapter`` speaks two protocols. With ``op``: ``{"op": "index", "dir": D}``,
``{"op": "search", "query": Q, "k": K}`` and ``{"op": "close"}``, answered by places ``[path, start, end]``. With
``root``: ``{"id", "root", "changed", "query", "k"}``, answered by files, best first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SCRIPTS = Path(sys.executable).parent
MOST = 50  # hits that search_code gives at once
READY_SECONDS = 600
WORD_LIMIT = 2_000  # characters that a query may have


class Agent:
    """A ``codeforge-mcp`` process on one workspace, with a state folder of its own."""

    def __init__(self, root: Path, settings: tuple[str, ...] = ()) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="cf-bench-", dir="/tmp"))
        run = self.home / "run"
        run.mkdir(mode=0o700)
        self.env = os.environ | {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_RUNTIME_DIR": str(run),
            "XDG_CONFIG_HOME": str(self.home / "config"),
        }
        self.root, self._ids = root, 0
        overrides = [part for one in settings for part in ("--set", one)]
        self._process = subprocess.Popen(
            [SCRIPTS / "codeforge-mcp", "--root", root, *overrides],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.env,
        )
        client = {"name": "bench", "version": "1"}
        self._ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._ids += 1
        self._send({"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer.get("id") == self._ids and "method" not in answer:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return dict(answer["result"])
        raise RuntimeError("codeforge-mcp ended")

    def search(self, query: str, limit: int, group_by: str = "chunk") -> dict[str, Any]:
        """The structured content of ``search_code``."""
        wanted = {"query": query[:WORD_LIMIT], "limit": min(limit, MOST), "group_by": group_by}
        result = self._ask("tools/call", name="search_code", arguments=wanted)
        if result.get("isError"):
            raise RuntimeError(result["content"])
        return dict(result["structuredContent"])

    def ready(self, changed: bool = True) -> dict[str, Any]:
        """Build, and wait until every leg covers every file; returns the last ``index`` facts."""
        if changed:
            command = [SCRIPTS / "codeforge", "--root", self.root, "index"]
            subprocess.run(command, env=self.env, check=True, stdout=subprocess.DEVNULL)
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            facts = dict(self.search("main", 1)["index"])
            whole = facts["state"] == "ready" and not facts["stale_files"]
            if whole and all(leg["state"] in {"ready", "off"} for leg in facts.get("legs", [])):
                return facts
            time.sleep(0.05)
        raise RuntimeError("the index did not become ready")

    def close(self) -> None:
        """End the daemon and take the folders away."""
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=10)
        subprocess.run(
            [SCRIPTS / "codeforge", "--root", self.root, "daemon", "stop"],
            env=self.env,
            check=False,
            capture_output=True,
        )
        shutil.rmtree(self.home, ignore_errors=True)


def places(found: dict[str, Any]) -> list[list[Any]]:
    """``[path, start, end]`` of every hit."""
    return [[hit["path"], hit["start_line"], hit["end_line"]] for hit in found["hits"]]


def main() -> None:
    """One request a line until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", action="append", default=[], help="a setting, as codeforge takes it")
    settings = tuple(parser.parse_args().set)
    agent: Agent | None = None
    try:
        for line in sys.stdin:
            asked = json.loads(line)
            if asked.get("op") == "close":
                break
            root = asked.get("dir") or asked.get("root")
            fresh = root is not None and (agent is None or agent.root != Path(root))
            if fresh:
                if agent is not None:
                    agent.close()
                agent = Agent(Path(root), settings)
            assert agent is not None, "the first request names a folder"
            began = time.perf_counter()
            if "id" in asked:
                agent.ready(changed=fresh or bool(asked["changed"]))
                indexed = time.perf_counter()
                hits = places(agent.search(asked["query"], MOST, "file"))
                answer = {
                    "id": asked["id"],
                    "files": [hit[0] for hit in hits],
                    "index_s": round(indexed - began, 3),
                    "query_s": round(time.perf_counter() - indexed, 4),
                }
            elif asked["op"] == "index":
                agent.ready()
                answer = {"files": sum(path.is_file() for path in Path(root).rglob("*"))}
            else:
                answer = {"results": places(agent.search(asked["query"], asked["k"]))}
            print(json.dumps(answer), flush=True)
    finally:
        if agent is not None:
            agent.close()


if __name__ == "__main__":
    main()
