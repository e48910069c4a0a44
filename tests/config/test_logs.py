"""Logs: JSON lines with the ids of their task, never stdout, never a secret, bounded in memory and on disk."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeforge_ls import logs, redaction
from codeforge_ls.model.errors import InvalidInput, NotFound

REPOSITORY = Path(__file__).parents[2]
log = logging.getLogger("tests.logs")


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logs.stop_logging()
    root.handlers[:], root.level = handlers, level


async def test_each_line_says_who_when_and_in_which_request(tmp_path: Path) -> None:
    logs.start_logging("daemon", tmp_path, "info")

    async def serve(number: int) -> None:
        logs.request_id.set(f"req-{number}")
        logs.task_id.set(f"task-{number}")
        await asyncio.sleep(0)
        log.info("serving %d", number)
        log.debug("not written")

    await asyncio.gather(*(serve(n) for n in range(3)))
    try:
        raise ValueError("inner")
    except ValueError:
        log.exception("failed %s", "hard")
    log.warning("wrong %d", "arguments")
    warnings.warn("old thing", stacklevel=1)
    logs.set_level("debug")
    log.debug("written now: lone \ud800 and nul \0")
    logs.start_logging("index-worker", tmp_path, "warning")
    log.warning("from the worker")
    logs.stop_logging()

    lines = logs.tail(tmp_path)
    assert [line["msg"] for line in lines[:3]] == ["serving 0", "serving 1", "serving 2"]
    assert {"time", "level", "service", "msg", "request_id", "task_id"} <= lines[0].keys()
    assert (lines[1]["request_id"], lines[1]["task_id"], lines[1]["service"]) == ("req-1", "task-1", "daemon")
    assert [line["time"] for line in lines] == sorted(str(line["time"]) for line in lines)
    (error,) = logs.errors(tmp_path)
    assert error["msg"] == "failed hard"
    assert str(error["exception"]).endswith("ValueError: inner")
    assert "logged with wrong arguments" in str(lines[4]["msg"])
    assert "old thing" in str(lines[5]["msg"])
    assert "written now" in str(lines[6]["msg"])
    assert logs.service(tmp_path, "index-worker") == lines[-1:]
    assert logs.request(tmp_path, "req-2") == lines[2:3]
    assert logs.tail(tmp_path, 2) == lines[-2:]
    assert logs.tail(tmp_path, -1) == []
    with pytest.raises(NotFound, match="no log"):
        logs.service(tmp_path, "nobody")
    with pytest.raises(InvalidInput):
        logs.start_logging("../evil", tmp_path)
    file = tmp_path / "logs" / "daemon.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b'{"torn": \n[1]\n\xff\n' + file.read_bytes() + b'{"msg": "half')
    assert len(logs.service(tmp_path, "daemon")) == 7


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdefgh.ijkl-mnop", "abcdefgh"),
        ("sent bearer 0123456789abcdef to it", "0123456789"),
        ('{"api_key": "zzzzzzzzzzzz"}', "zzzzzz"),
        ("OPENAI key sk-proj-AAAABBBBCCCCDDDD failed", "AAAABBBB"),
        ("password=hunter2secret&x=1", "hunter2"),
        ("clone https://ada:s3cretpass@example.org/x", "s3cretpass"),
        ("ghp_abcdefghijklmnop1234", "abcdefghijk"),
        ("AKIAABCDEFGHIJKLMNOP", "AKIAABCD"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "c2lnbmF0"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", "MIIEow"),
        ("the proxy said: odd-but-known-value", "odd-but-known-value"),
        ("x" * (33 << 10) + " token=straddling-the-cut-" + "y" * 4000, "straddling"),
    ],
)
def test_secrets_never_reach_the_file(tmp_path: Path, text: str, secret: str) -> None:
    code = (
        "import sys, pathlib, logging; from codeforge_ls import logs\n"
        "logs.start_logging('model-worker', pathlib.Path(sys.argv[1]))\n"
        "logging.info(sys.argv[2])\n"
        "try: raise ValueError(sys.argv[2])\n"
        "except ValueError: logging.exception('as an exception')\n"
    )
    if len(text) > 1000:
        assert secret not in logs.redact(text)
        return
    env = os.environ | {"PROXY_API_KEY": "odd-but-known-value"}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), text],
        cwd=REPOSITORY,
        env=env,
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert (run.stdout, run.stderr) == (b"", b"")
    written = (tmp_path / "logs" / "model-worker.jsonl").read_text()
    assert len(written.splitlines()) == 2
    assert secret not in written
    assert redaction.HIDDEN in written
    assert logs.redact("tokens_in=12345678 max_tokens: 40960000") == "tokens_in=12345678 max_tokens: 40960000"


def test_a_burst_drops_and_counts_and_files_rotate_within_their_bound(tmp_path: Path) -> None:
    logs.start_logging("daemon", tmp_path, "info")
    text = "x" * 2000
    for number in range(12_500):
        log.info("%d %s", number, text)
    dropped = logs.dropped()
    logs.stop_logging()
    files = sorted((tmp_path / "logs").iterdir())
    assert len(files) <= 3
    assert all(file.stat().st_size <= 10_000_000 for file in files)
    assert len(files) > 1
    last, first = logs.tail(tmp_path, 2)[::-1]
    if dropped:
        assert last["msg"] == f"{dropped} log records were dropped"
    kept = logs.tail(tmp_path, 100_000)
    assert len(kept) <= 12_500 - dropped + 1
    assert str(first["msg"]).endswith("xx")


def test_a_reader_that_hangs_costs_lines_not_the_process() -> None:
    """stderr is a pipe nobody reads: callers do not wait, drops are counted, the exit takes seconds, not for ever."""
    code = (
        "import logging, time; from codeforge_ls import logs\n"
        "logs.start_logging('daemon', None)\n"
        "start = time.perf_counter()\n"
        "for n in range(11_000): logging.info('line %d %s', n, 'y' * 200)\n"
        "print(logs.dropped(), time.perf_counter() - start, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        dropped, seconds = process.stdout.readline().split()
        assert int(dropped) > 100
        assert float(seconds) < 10
        assert process.wait(timeout=25) == 0
        assert process.stderr is not None
        json.loads(process.stderr.readline())
    finally:
        process.kill()
        process.communicate()


def test_a_folder_that_cannot_be_written_sends_the_lines_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    code = (
        "import sys, pathlib, logging; from codeforge_ls import logs\n"
        "logs.start_logging('daemon', pathlib.Path(sys.argv[1]))\n"
        "assert 'structlog' not in sys.modules\n"
        "logging.warning('still heard')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert run.stdout == ""
    complaint, line = run.stderr.splitlines()
    assert "cannot be written" in complaint
    assert json.loads(line)["msg"] == "still heard"
