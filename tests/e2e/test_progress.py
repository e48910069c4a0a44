"""Given checkpoints that take longer than nobody notices, an editor, an agent and a terminal see how far they are."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import ground_of
from tests.e2e.ground import Ground

FILES, BYTES = 6000, 90_000
SAID = re.compile(r"checkpoint: ([0-9,]+) of ([0-9,]+) files")


@pytest.fixture(scope="module")
def large() -> Iterator[Ground]:
    """540 MB that cannot be compressed: a picture of all takes a second and more, on fast machines too."""
    with ground_of() as ground:
        for number in range(FILES):
            path = ground.root / f"data/{number // 100}/{number}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(BYTES))
        yield ground


def touched(ground: Ground, number: int) -> None:
    """Every file has another time, so that the next picture reads all of them again."""
    for path in (ground.root / "data").rglob("*.bin"):
        os.utime(path, ns=(number, number))


def rising(said: list[str]) -> None:
    """Several words on how much of all is read, and never less than before. A restore then counts what it changes."""
    found = [SAID.search(text) for text in said]
    pairs = [tuple(int(part.replace(",", "")) for part in match.groups()) for match in found if match]
    done = [at for at, of in pairs if of >= FILES]
    assert len(set(done)) > 1, said
    assert done == sorted(done)
    assert all(0 <= at <= of for at, of in pairs), pairs


@pytest.mark.timeout(300)
def test_an_editor_an_agent_and_a_terminal_see_how_far_a_checkpoint_is(large: Ground) -> None:
    editor, agent = large.editor(), large.agent()
    edit = {"path": "README.md", "old_text": "Carts", "new_text": "Baskets"}
    asked = {"command": "codeforge.edits.apply", "arguments": [{"edits": [edit]}], "workDoneToken": "mine"}
    applied = editor.request("workspace/executeCommand", asked, 90)
    assert applied["status"] == "applied", applied
    values = [
        n["params"]["value"]
        for n in editor.notices
        if n["method"] == "$/progress" and n["params"]["token"] == "mine"
    ]
    assert [values[0]["kind"], values[-1]["kind"]] == ["begin", "end"]
    reports = [value for value in values if value["kind"] == "report"]
    rising([value["message"] for value in reports])
    assert all(0 <= value["percentage"] <= 100 for value in reports)

    touched(large, 1)
    asked = {"name": "restore_checkpoint", "arguments": {"checkpoint_id": applied["checkpoint_id"]}}
    answer = agent.request("tools/call", {**asked, "_meta": {"progressToken": "mine"}}, 90)
    assert answer["result"]["structuredContent"]["changed"] == ["README.md"], answer
    assert "Carts" in large.text("README.md")
    told = [n["params"] for n in agent.notices if n["method"] == "notifications/progress"]
    assert {params["progressToken"] for params in told} == {"mine"}
    rising([params.get("message", "") for params in told])
    at = [params["progress"] for params in told]
    assert at == sorted(set(at))  # as MCP wants it: more each time

    touched(large, 2)
    ours, theirs = os.openpty()
    process = large.start("rewind", applied["checkpoint_id"], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the other side is closed
        while piece := os.read(ours, 1 << 16):
            shown += piece
    os.close(ours)
    assert process.wait(90) == 0, shown
    rising(re.findall(r"checkpoint: [0-9,]+ of [0-9,]+ files", shown.decode()))
    editor.close()
    agent.close()
