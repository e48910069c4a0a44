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


def test_a_folder_that_is_too_large_says_so_and_keeps_what_edits_name(ground: Ground) -> None:
    """More than 2 GiB that are not ignored: the answers, ``health`` and the log say what cannot be taken back."""
    for number in range(45):
        path = ground.root / f"data/{number}.bin"
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as handle:
            handle.truncate(49 << 20)
    text = ground.text("README.md")
    ground.play(
        {"tool": "Edit", "arguments": {"path": "README.md", "old_text": "# Shop", "new_text": "# Store"}},
        {"tool": "Bash", "arguments": {"command": "echo more >> latin.txt; echo more >> README.md"}},
        {"say": "Done."},
    )
    run = ground.run("edit in a data set", "--profile", "free")
    assert run["run"]["status"] == "completed", run["run"]
    results = [e["payload"]["applied"] for e in run["events"] if e["type"] == "run.toolcall.result"]
    for applied in results:
        assert "holds only files that edits named" in applied["output"], applied
    assert [change["path"] for change in results[1]["files"]] == ["README.md"]
    made = [e["payload"]["checkpoint"] for e in run["events"] if e["type"] == "checkpoint.created"]
    assert all("GiB in files that are not ignored" in checkpoint["only_named"] for checkpoint in made)
    report = ground.ask("health")["checkpoints"]
    assert (report["hold"], report["reason"]) == ("only files that edits named", made[0]["only_named"])
    assert ground.ask("rewind", run["run"]["id"])["changed"] == ["README.md"]
    assert ground.text("README.md") == text
    assert (ground.root / "latin.txt").read_bytes().endswith(b"more\n")
