"""Given a user without any privilege, both backends isolate, layers are written and limits hold by a watchdog."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def command() -> list[str]:
    """How to run our code as somebody without privilege."""
    if os.getuid():
        return [sys.executable]
    places = f"PYTHONPATH={REPOSITORY}:{sysconfig.get_paths()['purelib']}"
    for python in (sys.executable, "/usr/bin/python3"):
        argv = [
            *NOBODY,
            "env",
            "-i",
            "PATH=/usr/bin:/bin:/root/bin",
            "PYTHONDONTWRITEBYTECODE=1",
            places,
            python,
        ]
        done = subprocess.run(
            [*argv, "-c", "import codeforge_ls.sandbox"], cwd="/", capture_output=True, check=False
        )
        if done.returncode == 0:
            return argv
    pytest.skip(
        "no Python here lets nobody import this repository: it lies in a folder that only root may enter"
    )


def test_nobody_is_isolated_and_limited_too() -> None:
    argv = command()
    base = Path(tempfile.mkdtemp(prefix="cfn", dir="/tmp"))
    try:
        if not os.getuid():
            os.chown(base, 65534, 65534)
        argv += [str(Path(__file__).with_name("unprivileged.py")), str(base)]
        env = {**os.environ, "HOME": str(base)}
        done = subprocess.run(
            argv, cwd="/", env=env, capture_output=True, text=True, timeout=110, check=False
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
    finally:
        shutil.rmtree(base)
    for backend in ("bubblewrap", "landlock"):
        _, output, _ = said[f"{backend} protected"]
        assert "SECRET" not in output
        assert output.count("cannot touch") == 2, output
        assert said[f"{backend} memory"][0] != 0
        assert "MemoryError" in said[f"{backend} memory"][1] or "memory" in said[f"{backend} memory"][2]
        assert "processes" in said[f"{backend} processes"][2] or "fork" in said[f"{backend} processes"][1]
        assert said[f"{backend} output"][2] == "more than 2 MiB of output"
    assert said["layer"][0] == 0
    assert {"delete old", "delete lib/n", "file deep/lib/z", "file deep/lib/n"} <= {*said["layer"][1:]}
    assert said["left"] == [".env", ".git", "lib", "old"]
