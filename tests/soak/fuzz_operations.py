"""Fuzz of every operation: arguments made after its schema and against it, in process, over a real workspace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator

from codeforge_ls.config import ConfigStore
from codeforge_ls.model.actions import Actor, ActorKind
from codeforge_ls.model.errors import CodeForgeError
from codeforge_ls.opening import open_workspace
from codeforge_ls.operations import Operations
from tests.soak.ground import FOLDERS, Ground
from tests.soak.hostile import Hostile
from tests.soak.report import Part

MAY_CHANGE = {"edits.apply", "checkpoint.restore"}  # by order of a person
SLOW = {"index.build": 0.02, "events.verify": 0.2}  # share of their turns that they get
CALL_SECONDS = 30.0
UNLIMITED = {"rate_limit.per_second": "0"}
PERSON = Actor(kind=ActorKind.CLI, name="fuzz", session="fuzz-cli")
AGENT = Actor(kind=ActorKind.MCP, name="fuzz", session="fuzz-mcp")


async def prove(part: Part, *, cases: int) -> None:
    """So many calls; an error must be one of ours, and only what may change files does."""
    ground = Ground("ops")
    (ground.root / "work").mkdir()
    for name in ("a.py", "b.txt"):
        (ground.root / "work" / name).write_text(f"def main():\n    return '{name}'\n")
    ground.git("add", "-A")
    ground.git("commit", "-qm", "start")
    with part.timed(), _environment(ground):
        workspace = await open_workspace(
            ground.root, ConfigStore(ground.root, overrides=UNLIMITED), None, lambda: None
        )
        try:
            await _calls(Operations(workspace), ground, part, cases)
            if broken := await workspace.store.verify():
                part.fail(f"the log: {broken}")
            if differences := await workspace.store.refold():
                part.fail(f"the state tables differ from the log: {str(differences)[:500]}")
        finally:
            await workspace.close("fuzz is over")
            await asyncio.to_thread(ground.close)


class _Unforeseen(logging.Handler):
    """Errors that were logged with a traceback: nobody had foreseen them. Collected into a list."""

    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self._into.append(f"{record.getMessage()}: {record.exc_info[1]!r}"[:400])


async def _calls(operations: Operations, ground: Ground, part: Part, cases: int) -> None:
    hostile, names = Hostile(part.seed), operations.names()
    unforeseen: list[str] = []
    logging.getLogger("codeforge_ls").addHandler(handler := _Unforeseen(unforeseen))
    before, git, slowest = ground.picture(), ground.git_picture(), (0.0, "")
    for case in range(cases):
        name = hostile.rng.choice(names)
        if hostile.rng.random() >= SLOW.get(name, 1):
            name = "health"
        actor = hostile.rng.choice((PERSON, AGENT))
        arguments = hostile.fitting(operations.schema(name)) if hostile.rng.random() < 0.9 else hostile.json()
        if isinstance(arguments, dict) and hostile.rng.random() < 0.1:
            arguments["idempotencyKey"] = hostile.rng.choice((hostile.json(), "a", "b"))
        shown = f"case {case} (seed {part.seed}): {name} by {actor.kind} with {json.dumps(arguments)[:400]}"
        began = time.monotonic()
        try:
            result = await asyncio.wait_for(operations.call(name, arguments, actor), CALL_SECONDS)
            part.count("answered")
            if "Internal error" in json.dumps(result, allow_nan=False):
                part.fail(f"{shown}: {result}")
        except CodeForgeError as error:
            part.count(error.code)
            if error.code == "internal" or not error.message:
                part.fail(f"{shown}: {error.code}: {error}")
        except Exception as error:
            part.fail(f"{shown}: {type(error).__name__}: {str(error)[:300]}")
        for text in unforeseen:
            part.fail(f"{shown}: logged {text}")
        unforeseen.clear()
        slowest = max(slowest, (time.monotonic() - began, name))
        now = ground.picture()
        if now != before and not (name in MAY_CHANGE and actor.is_person):
            part.fail(f"{shown}: changed {sorted(set(now.items()) ^ set(before.items()))}")
        before = now
    logging.getLogger("codeforge_ls").removeHandler(handler)
    if ground.git_picture() != git:
        part.fail(f"the user's .git changed (seed {part.seed})")
    part.facts["slowest call"] = f"{slowest[0] * 1000:.0f} ms ({slowest[1]})"


@contextlib.contextmanager
def _environment(ground: Ground) -> Iterator[None]:
    """This process lives in the ground's folders meanwhile: state and configuration come from there."""
    old = {name: os.environ.get(name) for name in FOLDERS.values()}
    os.environ.update({name: ground.env[name] for name in FOLDERS.values()})
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
