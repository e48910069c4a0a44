"""Fuzz of the policy: commands with an attack put in at any place; what is allowed runs nothing but what is listed.

What the evaluator allows is really run, by bash, inside bubblewrap, with a PATH that holds only stubs which write
down how they were called.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from codeforge_ls.model.policy import Decision, PolicyLayer, ToolCall
from codeforge_ls.policy.evaluate import evaluate
from codeforge_ls.policy.library import PolicyLibrary
from tests.soak.ground import Ground
from tests.soak.hostile import Hostile
from tests.soak.report import Part

PROFILE = "headless-safe-sandbox"
LISTED = (
    "git status",
    "git diff",
    "git log",
    "go test",
    "python -m pytest",
    "npm test",
    "make test",
    "make lint",
)
STUBS = (
    "git", "go", "python", "python3", "npm", "make", "pytest", "curl", "rm", "sh", "bash", "env", "xargs", "find",
    "tee",    "touch", "cat", "sudo", "timeout", "nice", "ssh", "node", "perl", "awk", "sed", "ls", "nohup",
    "busybox", "wget",
)  # fmt: skip
ATTACKS = (
    ";", "&&", "||", "|", "&", "\n", "\r", "`touch pwned`", "$(touch pwned)", "<(touch pwned)", "> pwned", ">> pwned",
    ">| pwned", "&> pwned", "2> pwned", "< a.txt", "<<< x", "${IFS}", "$IFS", "$'\\x3b'", "\\", "'", '"', "(",
    ")", "{",
    "}", "!", "#", "~", "*", "?", "\t", "\u2028", "\u00a0", "\u202e", "\0", "\x1b", "curl x", "rm -f a.txt",
    "env curl",
    "sh -c 'touch pwned'", "--output=pwned", "--outp=pwned", "-c core.pager=curl", "--exec-path=.", "-C /",
    "-o pwned",
    "--rootdir=/", "-p evil", "--ext-diff", "--textconv", "--no-index", "--", "-", "deploy", "X=1", "PATH=.", "exec",
    "eval", "time", "!!", "1>&2", "2>&1", "coproc", "function f", "if", "then", "git push", "/usr/bin/curl", "../x",
)  # fmt: skip
BATCH = 400  # commands of one sandbox
DRIVER = r"""
i=0
while IFS= read -r -d '' command; do
  export STUB_LOG="$OUT/$i"; i=$((i+1))
  timeout 5 bash --noprofile --norc -c 'PATH="$STUBS"; eval "$1"' run "$command" </dev/null >/dev/null 2>&1
done
"""


def prove(part: Part, *, cases: int, legal: Path) -> None:
    """So many commands against the strict preset; those that are allowed are run."""
    ground = Ground("pol")
    hostile = Hostile(part.seed)
    with part.timed():
        try:
            layers = PolicyLibrary(ground.root, None).get(PROFILE)
            words = json.loads(legal.read_text(encoding="utf-8"))[PROFILE]
            allowed: list[str] = []
            for _ in range(cases):
                command = _command(hostile, words)
                if _judge(part, layers, command, ground.root):
                    allowed.append(command)
            runnable = [command for command in dict.fromkeys(allowed) if _can_be_run(command)]
            for start in range(0, len(runnable), BATCH):
                _run(part, ground, runnable[start : start + BATCH])
            part.facts["allowed"] = f"{len(allowed)}, run {len(runnable)}"
        finally:
            ground.close()


def _command(hostile: Hostile, legal: list[str]) -> str:
    """A legal command, most often with attacks at any place, or random text."""
    rng, command = hostile.rng, hostile.rng.choice(legal)
    if rng.random() < 0.04:
        return hostile.text()
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        attack, place = rng.choice(ATTACKS), rng.randint(0, len(command))
        if rng.random() < 0.4:
            attack = f" {attack} "
        command = command[:place] + attack + command[place:]
    return command


def _judge(part: Part, layers: list[PolicyLayer], command: str, root: Path) -> bool:
    """Whether it is allowed; the evaluator never raises."""
    try:
        decision = evaluate(layers, ToolCall(tool="Bash", command=command), root)
    except Exception as error:
        part.count("raised")
        part.fail(f"evaluate raised {error!r} for {command!r} (seed {part.seed})")
        return False
    part.count(decision.decision.value)
    return decision.decision is Decision.ALLOW


def _can_be_run(command: str) -> bool:
    return "\0" not in command and not any("\ud800" <= char <= "\udfff" for char in command)


def _run(part: Part, ground: Ground, commands: list[str]) -> None:
    """Run them among stubs and read what was called."""
    if shutil.which("bwrap") is None:
        part.facts["running what is allowed"] = "left out: bubblewrap is not installed"
        return
    place, stubs, out = ground.base / "run-here", ground.base / "stubs", ground.base / "calls"
    for folder in (place, stubs, out):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    (place / "a.txt").write_text("canary")
    for name in STUBS:
        stub = stubs / name
        # A call ends in NUL: arguments hold line ends, and dash's echo makes some more.
        stub.write_text(f'#!/bin/sh\nprintf \'%s\\0\' "{name} $*" >> "$STUB_LOG"\n')
        stub.chmod(0o755)
    sandbox = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
               "--bind", str(ground.base), str(ground.base), "--unshare-all", "--die-with-parent",
               "--chdir", str(place), "--setenv", "OUT", str(out), "--setenv", "STUBS", str(stubs)]  # fmt: skip
    fed = b"".join(command.encode() + b"\0" for command in commands)
    done = subprocess.run(
        [*sandbox, "bash", "--noprofile", "--norc", "-c", DRIVER],
        input=fed, capture_output=True, timeout=600, check=False, env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere"},
    )  # fmt: skip
    if done.returncode != 0:
        part.fail(f"the sandbox for allowed commands: exit {done.returncode}: {done.stderr[-300:]!r}")
    seen = 0
    for number, command in enumerate(commands):
        calls = (out / str(number)).read_text().split("\0")[:-1] if (out / str(number)).exists() else []
        seen += bool(calls)
        for call in calls:
            if not any(call == listed or call.startswith(f"{listed} ") for listed in LISTED):
                part.fail(f"allowed, and ran something else: {command!r} called {call!r} (seed {part.seed})")
    part.facts["seen to call a listed program"] = f"{seen} of the last {len(commands)} that were run"
    if not seen:
        part.fail("no allowed command was seen to run: the proof proves nothing")
    left = sorted(path.name for path in place.iterdir())
    if left != ["a.txt"] or (place / "a.txt").read_text() != "canary":
        part.fail(f"allowed commands changed files: {left}, among {commands[:50]!r} (seed {part.seed})")
