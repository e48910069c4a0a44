"""Search quality through ``codeforge-mcp``: a corpus of installed packages, and two benchmarks if they are there.

``CODEFORGE_RETRIEVAL=run.py CORPORA`` and ``CODEFORGE_LOCALIZATION=run.py MIRRORS`` (paths, a blank between) add the
tables that those runners print; without them only the row of the built-in corpus is measured.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.search_adapter import Agent, places
from tests.bench.table import Row

PACKAGES = ("httpx", "structlog", "anyio")
# What a person might ask, and the file that answers it.
QUERIES = (
    ("login with user name and password", "httpx/_auth.py"),
    ("decompress gzip and brotli bodies", "httpx/_decoders.py"),
    ("upload files as form data", "httpx/_multipart.py"),
    ("meaning of 404 and other codes", "httpx/_status_codes.py"),
    ("parse and normalise a URL", "httpx/_urlparse.py"),
    ("command line interface", "httpx/_main.py"),
    ("connection pool limits and timeouts settings", "httpx/_config.py"),
    ("call a WSGI application without network", "httpx/_transports/wsgi.py"),
    ("BoundLogger", "structlog/stdlib.py"),
    ("colourful console output", "structlog/dev.py"),
    ("format exceptions as dictionaries", "structlog/tracebacks.py"),
    ("values bound to the current context", "structlog/contextvars.py"),
    ("capture log entries in tests", "structlog/testing.py"),
    ("add a timestamp to events", "structlog/processors.py"),
    ("run blocking code in a worker thread", "anyio/to_thread.py"),
    ("start a child process", "anyio/_core/_subprocesses.py"),
    ("semaphore, lock and condition", "anyio/_core/_synchronization.py"),
    ("listen on a TCP port", "anyio/_core/_sockets.py"),
    ("CapacityLimiter", "anyio/_core/_synchronization.py"),
    ("catch operating system signals", "anyio/_core/_signals.py"),
)


def rows() -> Iterator[Row]:
    """NDCG@10 on the built-in corpus; then the tables of the runners, printed by them."""
    with tempfile.TemporaryDirectory(prefix="cf-quality-") as folder:
        for name in PACKAGES:
            shutil.copytree(package(name), Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
        agent = Agent(Path(folder))
        try:
            agent.ready()
            gains = [_gain(agent, query, path) for query, path in QUERIES]
        finally:
            agent.close()
    mean = sum(gains) / len(gains)
    first = sum(gain == 1.0 for gain in gains)
    yield Row("search quality, installed packages, NDCG@10", f"{mean:.3f}, first {first} of {len(gains)}")
    adapter = f"{sys.executable} -m tests.bench.search_adapter"
    if given := os.environ.get("CODEFORGE_RETRIEVAL"):
        script, corpora = shlex.split(given)
        _run(script, "--corpora", corpora, "--runs", "1", "--adapter", f"cmd:{adapter}")
    if given := os.environ.get("CODEFORGE_LOCALIZATION"):
        script, mirrors = shlex.split(given)
        bm25 = f"{sys.executable} {Path(script).parent / 'adapters/bm25.py'} --split --path 3 --defs 3"
        _run(script, "--mirrors", mirrors, "--adapter", bm25)
        _run(script, "--mirrors", mirrors, "--adapter", adapter)


def package(name: str) -> Path:
    """Where an installed package lies."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise RuntimeError(f"{name} is not installed")
    return Path(found.origin).parent


def _gain(agent: Agent, query: str, path: str) -> float:
    """One relevant file: ``1 / log2(rank + 1)`` of the first hit in it, 0 beyond the tenth."""
    ranks = [at for at, place in enumerate(places(agent.search(query, 10)), 1) if place[0] == path]
    return 1 / math.log2(ranks[0] + 1) if ranks else 0.0


def _run(*command: str) -> None:
    subprocess.run([sys.executable, *command], check=False)
