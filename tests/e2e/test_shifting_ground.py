"""What is judged is what is touched: paths that are swapped, files that may not be seen, and nodes of any kind."""

from __future__ import annotations

import shutil
import threading
from typing import Any

import pytest

from tests.e2e.ground import Ground

Json = dict[str, Any]


def test_a_path_that_is_swapped_while_a_person_thinks_is_not_written(ground: Ground) -> None:
    editor, agent = ground.editor(person="never"), ground.agent()
    inside = ground.root / "swapped"
    inside.mkdir()
    shutil.copy(ground.root / ".git/config", inside / "config")
    git = ground.git_picture()
    results: list[Json] = []
    edit = {"path": "swapped/config", "content": "[core]\n\tfsmonitor = evil\n"}
    asking = threading.Thread(
        target=lambda: results.append(agent.facts("apply_edits", edits=[edit])), daemon=True
    )
    asking.start()
    ground.wait(lambda: editor.prompts, 10, "nobody was asked")
    shutil.rmtree(inside)
    inside.symlink_to(".git")
    waiting = editor.command("approval.list")["approvals"]
    editor.command("approval.answer", approval_id=waiting[0]["id"], verdict="allow_once")
    asking.join(20)
    assert results[0]["status"] == "conflict", results
    assert "leads elsewhere" in results[0]["message"]
    assert ground.git_picture() == git
    inside.unlink()
    agent.close()
    editor.close()


def test_protected_files_are_on_no_map_of_an_agent(ground: Ground) -> None:
    hidden = ground.root / "secrets"
    hidden.mkdir()
    (hidden / "keys.py").write_text("def unlock(password='opensesame'):\n    return password\n")
    ground.ask("index")
    assert "opensesame" in ground.ask("map", "--budget", "4096")["text"]  # a person may see it
    agent = ground.agent()
    shown = str(agent.call("repo_map", {"budget_tokens": 4096}))
    assert "shop/cart.py" in shown
    assert "opensesame" not in shown
    assert "opensesame" not in str(agent.call("search_code", {"query": "unlock password opensesame"}))
    assert "opensesame" not in str(agent.call("symbol_info", {"name": "unlock"}))
    agent.close()
    ground.play({"tool": "RepoMap", "arguments": {"budget_tokens": 4096}}, {"say": "Seen."})
    run = ground.run("look at the map", "--profile", "plan-readonly")
    assert run["run"]["status"] == "completed", run["run"]
    assert "opensesame" not in str(run["events"])
    shutil.rmtree(hidden)


@pytest.mark.parametrize(
    "command",
    [
        "head -c 9000000 /dev/zero > README.md; head -c 9000000 /dev/zero > big.bin",
        "rm README.md; mkdir README.md",
        "rm README.md; mkdir -p README.md/a; echo x > README.md/a/b",
        "rm README.md; mkfifo README.md",
        "ln -sfn /etc/hostname README.md",
        "ln -sfn README.md README.md",
        "rm -r shop; ln -s /tmp shop",
    ],
)
def test_a_rewind_puts_back_whatever_a_command_made_of_a_file(ground: Ground, command: str) -> None:
    before = ground.picture()
    ground.play({"tool": "Bash", "arguments": {"command": command}}, {"say": "Done."})
    run = ground.run("make a mess", "--profile", "free")
    assert run["run"]["status"] == "completed", run["run"]
    back = ground.ask("rewind", run["run"]["id"], "--to", "first")
    assert back["status"] == "applied", back
    assert ground.picture() == before


def test_a_file_open_under_another_name_is_edited_in_the_editor(ground: Ground) -> None:
    editor, agent = ground.editor(), ground.agent()
    link = ground.root / "another-name.md"
    link.symlink_to("README.md")
    disk = ground.text("README.md")
    editor.open("README.md", disk + "unsaved\n")
    done = agent.facts(
        "apply_edits", edits=[{"path": link.name, "old_text": "# Shop", "new_text": "# Store"}]
    )
    assert done["status"] == "applied", done
    assert editor.texts["README.md"] == disk.replace("# Shop", "# Store") + "unsaved\n"
    assert ground.text("README.md") == disk
    link.unlink()
    agent.close()
    editor.close()
