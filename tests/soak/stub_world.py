"""A small world to run allowed commands in: bubblewrap, no network, a PATH where every program writes down its call.

Some stubs go on to the real program, so that what it would start in turn is seen too.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.sandbox.environment import command_line
from tests.soak.ground import Ground

REPOSITORY = Path(__file__).resolve().parents[2]
BATCH = 500  # commands of one sandbox
STUBS = (
    "git", "go", "python", "python3", "npm", "make", "pytest", "curl", "rm", "sh", "bash", "env", "xargs", "find",
    "tee", "touch", "cat", "sudo", "timeout", "nice", "ssh", "node", "perl", "awk", "sed", "ls", "nohup", "busybox",
    "wget", "rg", "rsync", "tar", "sort", "head", "tail", "wc", "grep", "egrep", "dash", "id", "cp", "mv", "chmod",
    "gpg", "less", "more", "vi", "nano", "gzip", "rsh", "scp", "echo", "printf", "true", "kill", "evil",
)  # fmt: skip
# One write, so that the programs of a pipeline do not mix up their calls; it ends in a record separator.
STUB = """#!/bin/sh
printf '%s\\037' "{name}" "$@" '\x1e' >> "$STUB_LOG"
"""
# What the options of programs that are not installed here would run; the others are asked themselves.
PLAYED = {
    "rg": """for word in "$@"; do
  case "$word" in
    --pre=*|--hostname-bin=*) "${word#*=}" ;;
    --pre|--hostname-bin) next=1; continue ;;
    *) [ -z "$next" ] || "$word" ;;
  esac; next=
done
""",
    "rsync": """for word in "$@"; do
  case "$word" in
    --rsh=*|--rsync-path=*) sh -c "${word#*=}" ;;
    -e?*) sh -c "${word#-e}" ;;
    -e|--rsh|--rsync-path) next=1; continue ;;
    *) [ -z "$next" ] || sh -c "$word" ;;
  esac; next=
done
""",
}
REAL = ("git", "find", "sed", "tar", "sort", "head", "tail", "wc", "grep", "egrep", "xargs", "env", "timeout", "nice",
        "ls", "cat", "ssh", "awk", "make")  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What one command did: the calls that stubs wrote down, the words that bash ran, the files that changed."""

    calls: list[list[str]]
    trace: list[str]
    changed: list[str]


class StubWorld:
    """``real``: the programs of ``REAL`` do their work, in a small git repository."""

    def __init__(self, ground: Ground, *, real: bool) -> None:
        self._place, self._stubs = ground.base / "run-here", ground.base / "stubs"
        self._place.mkdir()
        self._stubs.mkdir()
        (self._place / "src").mkdir()
        for name in ("a.txt", "src/a.py", "src/b.py", "Makefile"):
            (self._place / name).write_text("test:\n" if name == "Makefile" else "x = 1\n")
        for name in STUBS:
            stub = self._stubs / name
            stub.write_text(STUB.format(name=name) + self._tail(name, real=real))
            stub.chmod(0o755)
        if real:
            tar = ["tar", "-C", str(self._place), "-cf", str(self._place / "dist.tar"), "src"]
            subprocess.run(tar, check=True, timeout=20)
            for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
                git = ["git", "-C", str(self._place), "-c", "user.name=a", "-c", "user.email=a@b", *words]
                subprocess.run(git, check=True, timeout=20)

    @staticmethod
    def _tail(name: str, *, real: bool) -> str:
        if not real:
            return ""
        found = shutil.which(name, path="/usr/bin:/bin") if name in REAL else None
        return f'exec {found} "$@"\n' if found else PLAYED.get(name, "")

    def run(self, commands: Sequence[str]) -> Iterator[tuple[str, Seen]]:
        """Run each as the product would start it. Raises ``RuntimeError`` when the world itself breaks."""
        for start in range(0, len(commands), BATCH):
            batch = commands[start : start + BATCH]
            yield from zip(batch, self._batch(batch), strict=True)

    def _batch(self, commands: Sequence[str]) -> list[Seen]:
        fed = json.dumps([command_line(command, str(self._stubs)) for command in commands])
        sandbox = [
            "bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
            "--ro-bind", str(REPOSITORY), str(REPOSITORY), "--ro-bind", str(self._stubs), str(self._stubs),
            "--bind", str(self._place), str(self._place), "--unshare-all", "--die-with-parent",
            "--chdir", str(self._place), sys.executable, "-I", "-S", str(Path(__file__).with_name("stub_driver.py")),
        ]  # fmt: skip
        environment = {"PATH": str(self._stubs), "HOME": "/nowhere", "GIT_PAGER": "cat", "LANG": "C.UTF-8"}
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            raise RuntimeError("bubblewrap is not installed: nothing can be proved")
        done = subprocess.run(
            [bwrap, *sandbox[1:]],
            input=fed,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            env=environment,
        )
        answers = [Seen(**json.loads(line)) for line in done.stdout.splitlines()]
        if done.returncode != 0 or len(answers) != len(commands):
            raise RuntimeError(f"the sandbox ended with {done.returncode}: {done.stderr[-500:]!r}")
        return answers
