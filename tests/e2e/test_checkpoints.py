"""Edits are preceded by checkpoints that cost little, and all that happened is taken back exactly all the same."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

from tests.e2e.ground import Ground

Json = dict[str, Any]


def _record(ground: Ground, checkpoint: Json) -> Json:
    """What a checkpoint says about itself in the shadow repository."""
    shadow = next((ground.base / "state/codeforge").glob("*/shadow.git"))
    command = ["git", "--git-dir", str(shadow), "cat-file", "blob", f"{checkpoint['commit']}:meta.json"]
    found: Json = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)
    return found


def test_edits_in_a_row_are_taken_back_one_by_one(ground: Ground) -> None:
    """Only the first looks at everything, and again after a command; what a person saves in between is not lost."""
    editor = ground.editor()
    git, pictures = ground.git_picture(), [ground.picture()]
    ground.ask("index")
    ground.play(
        {"tool": "Write", "arguments": {"path": "made/one.txt", "content": "1\n"}},
        {"tool": "Bash", "arguments": {"command": "sleep 1.5; echo more >> untracked.txt"}},
        {"tool": "Edit", "arguments": {"path": "untracked.txt", "old_text": "more", "new_text": "less"}},
        {"tool": "Write", "arguments": {"path": "ignored.txt", "content": "named\n"}},
        {"tool": "Edit", "arguments": {"path": "untracked.txt", "old_text": "less", "new_text": "least"}},
        {"say": "Done."},
    )
    run = ground.run("edit in a row", "--profile", "free")
    assert run["run"]["status"] == "completed", run["run"]
    made = [e["payload"]["checkpoint"] for e in run["events"] if e["type"] == "checkpoint.created"]
    assert len(made) == 5
    looked_at = [_record(ground, checkpoint)["looked_at"] for checkpoint in made]
    assert looked_at[1] is None  # before a command
    assert looked_at[3:] == [["ignored.txt", "untracked.txt"], ["ignored.txt", "untracked.txt"]], looked_at

    text = ground.text("untracked.txt")
    (ground.root / "person.txt").write_text("saved by a person meanwhile\n")
    time.sleep(0.5)
    expected = [text.replace("least", "less"), text.replace("least", "less"), text.replace("least", "more")]
    for checkpoint, content in zip(reversed(made[2:]), expected, strict=True):
        back = ground.ask("rewind", checkpoint["id"])
        assert back["status"] == "applied", back
        assert ground.text("untracked.txt") == content
        assert ground.text("person.txt") == "saved by a person meanwhile\n"
    assert ground.text("ignored.txt") == "git does not see me\n"
    ground.ask("rewind", run["run"]["id"], "--to", "first")
    (ground.root / "person.txt").unlink()
    assert ground.picture() == pictures[0]
    assert ground.git_picture() == git
    assert ground.ask("health")["checkpoints"] == {"hold": "everything"}
    editor.close()
