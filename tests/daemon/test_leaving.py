"""The end of the daemon under bad conditions: what fails or hangs in it does not keep it, or a worker, alive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.daemon.place import PACKAGE, Place


def codeforge(place: Place, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "codeforge_ls.cli.main", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=place.root,
        env=place.env | {"PYTHONPATH": str(PACKAGE)},
        check=False,
    )
    assert done.returncode == 0, (words, done, place.daemon_log())
    return json.loads(done.stdout)


def test_a_name_that_is_not_utf8_stops_neither_the_watch_nor_the_end(place: Place) -> None:
    (place.root / "plain.py").write_text("def first_word(): pass\n")
    codeforge(place, "index")
    place.wait(lambda: codeforge(place, "health")["watching"] == {"by": "events"})
    time.sleep(1.0)  # the watches are being set
    with open(os.fsencode(place.root) + b"/n\xff.py", "wb") as file:
        file.write(b"def odd(): pass\n")
    watching = place.wait(lambda: (w := codeforge(place, "health")["watching"])["by"] == "polling" and w)
    assert watching["reason"]

    for name in ("changed_outside", "changed_again"):
        (place.root / "plain.py").write_text(f"def {name}(): pass\n")

        def found(wanted: str = name) -> bool:
            hits = codeforge(place, "search", wanted)["hits"]
            return [hit["symbol"] for hit in hits] == [wanted]

        place.wait(found, 20)
    log = next((place.base / "state").rglob("daemon.jsonl")).read_text()
    assert sum("polling, because of" in line for line in log.splitlines()) == 1

    began = time.monotonic()
    assert codeforge(place, "daemon", "stop") == {"stopped": True}
    place.wait(lambda: not place.processes(), 3)
    assert time.monotonic() - began < 8
    assert "leaving without order" not in place.daemon_log()


def test_a_daemon_leaves_what_is_gone(place: Place) -> None:
    """Without its root it stays for clients only, without its state folder not at all; neither costs anybody else."""
    (place.root / "plain.py").write_text("def first_word(): pass\n")
    codeforge(place, "index")
    away = place.base / "away"
    place.root.rename(away)
    place.wait(lambda: not place.processes(), 12)

    away.rename(place.root)
    first = codeforge(place, "health")["pid"]
    shutil.rmtree(place.base / "state" / "codeforge")
    place.wait(lambda: first not in place.daemons(), 10)
    place.wait(lambda: not place.processes(), 5)
    assert codeforge(place, "search", "first_word")["hits"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_thread_that_hangs_cannot_keep_the_daemon(place: Place) -> None:
    """A git whose output never ends holds a thread of the daemon; after ten seconds it leaves all the same."""
    git = shutil.which("git")
    tools = place.base / "tools"
    tools.mkdir()
    slow = tools / "git"
    slow.write_text(f'#!/bin/sh\ncase "$*" in *" -oi "*) exec sleep 300;; esac\nexec {git} "$@"\n')
    slow.chmod(0o755)
    (place.root / "folder").mkdir()
    place.env["PATH"] = f"{tools}:{place.env['PATH']}"
    pid = codeforge(place, "health")["pid"]

    def asked() -> int | None:
        return next((one for one in place.processes() if _is_sleep_of(one, pid)), None)

    # Ours too now: the daemon waits for an end of output that does not come when that git is killed.
    output = os.open(f"/proc/{place.wait(asked)}/fd/1", os.O_WRONLY)
    try:
        began = time.monotonic()
        assert codeforge(place, "daemon", "stop") == {"stopped": True}
        assert 8 < time.monotonic() - began < 14
        place.wait(lambda: not place.processes(), 3)
        assert "leaving without order" in place.daemon_log()
    finally:
        os.close(output)


def _is_sleep_of(pid: int, parent: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line, open(f"/proc/{pid}/stat", "rb") as facts:
            return (
                line.read() == b"sleep\x00300\x00"
                and int(facts.read().rpartition(b")")[2].split()[1]) == parent
            )
    except OSError:
        return False
