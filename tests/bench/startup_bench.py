"""Start-up: the version, a warm and a cold front end, and the loop of the daemon while 2,000 files are indexed."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
TICKS = os.sysconf("SC_CLK_TCK")
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"processId": None, "rootUri": None, "capabilities": {}},
}
MCP_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}


class Place:
    """A temporary workspace with runtime, state and configuration folders of its own."""

    def __init__(self, files: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="codeforge-bench-"))
        self.root = self.folder / "repository"
        self.root.mkdir()
        (self.folder / "run").mkdir(mode=0o700)
        names = {"XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state", "XDG_CONFIG_HOME": "config"}
        self.env = {**os.environ, **{name: str(self.folder / folder) for name, folder in names.items()}}
        subprocess.run(["git", "init", "-q"], cwd=self.root, check=True)
        _copy_python_files(self.root, files)

    def codeforge(self, *arguments: str) -> str:
        """The output of a verb."""
        done = subprocess.run(
            [BIN / "codeforge", *arguments], cwd=self.root, env=self.env, capture_output=True, text=True, check=True
        )
        return done.stdout

    def close(self) -> None:
        """Stop the daemon and remove everything."""
        subprocess.run([BIN / "codeforge", "daemon", "stop"], cwd=self.root, env=self.env, capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def daemon_cpu(self) -> float:
        """CPU seconds of the daemon so far."""
        pid = json.loads(self.codeforge("daemon", "status", "--json"))["pid"]
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def _copy_python_files(root: Path, count: int) -> None:
    packages = Path(next(path for path in sys.path if path.endswith("site-packages")))
    taken = 0
    for source in sorted(packages.rglob("*.py")):
        if taken >= count:
            return
        if source.stat().st_size < 200_000:
            target = root / source.relative_to(packages)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            taken += 1


def lsp_answer(place: Place) -> float:
    """Seconds from spawning ``codeforge-ls`` to the answer of ``initialize``."""
    body = json.dumps(INITIALIZE).encode()
    return _first_answer(place, "codeforge-ls", b"Content-Length: %d\r\n\r\n" % len(body) + body)


def mcp_answer(place: Place) -> float:
    """Seconds from spawning ``codeforge-mcp`` to the answer of ``initialize``."""
    return _first_answer(place, "codeforge-mcp", json.dumps(MCP_INITIALIZE).encode() + b"\n")


def _first_answer(place: Place, program: str, message: bytes) -> float:
    start = time.perf_counter()
    child = subprocess.Popen(
        [BIN / program], cwd=place.root, env=place.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin and child.stdout
    child.stdin.write(message)
    child.stdin.flush()
    child.stdout.read(1)
    seconds = time.perf_counter() - start
    child.stdin.close()
    child.wait(10)
    child.stdout.close()
    return seconds


def report() -> None:
    """Print the figures."""
    versions = [_timed([BIN / "codeforge", "--version"]) for _ in range(10)]
    print(f"codeforge --version                     median {statistics.median(versions) * 1000:6.0f} ms")
    for name, answer in (("lsp", lsp_answer), ("mcp", mcp_answer)):
        cold_wall, cold_cpu, warm = [], [], []
        for _ in range(3):
            place = Place(20)
            try:
                before = time.process_time()
                cold_wall.append(answer(place))
                cold_cpu.append(place.daemon_cpu() + time.process_time() - before)
                place.codeforge("index")
                time.sleep(2)
                warm += [answer(place) for _ in range(7)]
            finally:
                place.close()
        print(f"{name}: spawn to first answer, warm          median {statistics.median(warm) * 1000:6.0f} ms")
        print(f"{name}: spawn to first answer, cold daemon   median {statistics.median(cold_wall) * 1000:6.0f} ms wall")
        print(f"{name}: CPU of a cold daemon soon after      median {statistics.median(cold_cpu):6.2f} s")
    place = Place(2000)
    try:
        built = json.loads(place.codeforge("index", "--json"))
        place.codeforge("search", "parse configuration")
        health = json.loads(place.codeforge("health", "--json"))
        print(f"index of {built['files']} files: {built['files_per_second']:.0f} files/s; loop: {health['daemon']['watchdog']}")
    finally:
        place.close()


def _timed(argv: list[object]) -> float:
    start = time.perf_counter()
    subprocess.run([str(part) for part in argv], check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    report()
