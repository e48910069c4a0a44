"""Proof 4: the user's git is byte-identical after a run and a rewind."""

from __future__ import annotations

from tests.e2e.ground import Ground


def test_the_users_git_is_untouched(ground: Ground) -> None:
    """Objects, refs, index, HEAD and logs; with staged, unstaged, untracked, ignored and nested files present."""
    status = ground.git("status", "--porcelain", "--ignored")
    for mark in ("M  staged.txt", " M unstaged.txt", "?? untracked.txt", "?? nested/", "!! ignored.txt"):
        assert mark in status.splitlines()
    git, tree = ground.git_picture(), ground.picture()
    editor = ground.editor()
    ground.play(
        {
            "tools": [
                {"tool": "Edit", "arguments": {"path": "staged.txt", "old_text": "one", "new_text": "1"}},
                {"tool": "Edit", "arguments": {"path": "unstaged.txt", "old_text": "one", "new_text": "1"}},
                {"tool": "Edit", "arguments": {"path": "crlf.txt", "old_text": "two", "new_text": "2"}},
                {"tool": "Edit", "arguments": {"path": "latin.txt", "old_text": "zwei", "new_text": "2"}},
            ]
        },
        {"tool": "Write", "arguments": {"path": "ignored.txt", "content": "written"}},
        {"tool": "Write", "arguments": {"path": "made/new.txt", "content": "new"}},
        {
            "tool": "Bash",
            "arguments": {
                "command": "rm untracked.txt README.md; mv run.sh moved.sh; chmod 600 bom.txt; "
                "echo more >> nested/inner.txt; git status --short; git diff --stat; git log --oneline"
            },
        },
        {"say": "Done."},
    )
    run = ground.run("change many things", "--profile", "free")
    assert run["run"]["status"] == "completed", run["run"]
    results = [e["payload"]["applied"] for e in run["events"] if e["type"] == "run.toolcall.result"]
    assert [applied["outcome"] for applied in results] == ["applied"] * 7, results
    assert {"untracked.txt", "README.md", "run.sh", "moved.sh"} <= {
        change["path"] for change in results[-1]["files"]
    }
    assert not (ground.root / "README.md").exists()
    assert ground.git_picture() == git

    assert editor.command("checkpoint.restore", run_id=run["run"]["id"], to="last")["status"] == "applied"
    assert ground.text("README.md").startswith("# Shop")
    assert ground.text("staged.txt") == "1\nstaged\n"
    assert ground.ask("rewind", run["run"]["id"], "--to", "first")["status"] == "applied"
    assert ground.picture() == tree
    assert ground.git_picture() == git
    assert ground.git("status", "--porcelain", "--ignored") == status
    assert not ground.git("for-each-ref", "refs/codeforge")
    editor.close()


def test_a_workspace_without_git_can_be_rewound_too(ground: Ground) -> None:
    folder = ground.base / "plain"
    folder.mkdir()
    (folder / "notes.txt").write_bytes(b"first\r\n")
    ground.play({"tool": "Write", "arguments": {"path": "notes.txt", "content": "x\n"}}, {"say": "Done."})
    words = ("--root", str(folder), "--json")
    assert ground.cli("run", "write", "--profile", "free", *words).returncode == 0
    assert (folder / "notes.txt").read_bytes() == b"x\r\n"
    runs = ground.ask("runs", "--root", str(folder))["runs"]
    assert ground.cli("rewind", runs[0]["id"], *words).returncode == 0
    assert (folder / "notes.txt").read_bytes() == b"first\r\n"
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt"]
    assert ground.cli("daemon", "stop", "--root", str(folder)).returncode == 0
