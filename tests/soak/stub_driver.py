"""Runs commands one after the other among stubs, inside a sandbox, and says what each of them called and changed.

Standard library only: it is started with the interpreter alone. Input on stdin: a JSON list of argument vectors.
Output: one JSON line for each: ``{"calls": [[word, ...]], "trace": [word], "changed": [name]}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys

CALLS, TRACE = "/tmp/calls", "/tmp/trace"  # the sandbox's own
PS4 = re.compile(r"^\++ (\S+)", re.MULTILINE)


def picture() -> dict[str, tuple[int, int]]:
    """Every file here with size and time."""
    found = {}
    for folder, folders, files in os.walk("."):
        if ".git" in folders:
            folders.remove(".git")
        for name in (*folders, *files):
            status = os.lstat(os.path.join(folder, name))
            size = 0 if name in folders else status.st_size
            found[os.path.join(folder, name)] = (size, status.st_mtime_ns if size else 0)
    return found


def run(argv: list[str], before: dict[str, tuple[int, int]]) -> dict[str, object]:
    """Run one and read what was written down."""
    open(CALLS, "wb").close()
    trace = os.open(TRACE, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    # each builtin that bash runs is seen as well
    words = ["/bin/bash", *argv[1:3], "-x", *argv[3:]] if argv[:2] == ["bash", "--noprofile"] else argv
    try:
        _run_to_its_end(words, os.environ | {"BASH_XTRACEFD": str(trace), "STUB_LOG": CALLS}, trace)
    except FileNotFoundError:
        return {"calls": [argv], "trace": [], "changed": []}
    finally:
        os.close(trace)
    with open(CALLS, "rb") as file:
        calls = [part.split(b"\x1f")[:-1] for part in file.read().split(b"\x1e\x1f")[:-1]]
    with open(TRACE, errors="replace") as file:
        traced = PS4.findall(file.read())
    after = picture()
    changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
    return {
        "calls": [[word.decode(errors="replace") for word in call] for call in calls],
        "trace": traced,
        "changed": changed,
    }


def _run_to_its_end(words: list[str], environment: dict[str, str], trace: int) -> None:
    """What waits for ever (``tail -f``) has called what it calls after three seconds; nothing of it stays."""
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        pass_fds=[trace], start_new_session=True,
    )  # fmt: skip
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    """One line for each command."""
    before = picture()
    for argv in json.load(sys.stdin):
        answer = run(argv, before)
        if answer["changed"]:
            before = picture()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
