"""Proof 3: kill -9 of every process of the product. The next call works, nothing is torn, nothing is left."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.editor import Editor
from tests.e2e.ground import FILES, Ground

Json = dict[str, Any]
ONCE = "echo once >> once.txt; sleep 37.25; echo twice >> once.txt"


def test_killed_workers_are_replaced_within_the_session(ground: Ground) -> None:
    editor, agent = ground.editor(), ground.agent()
    editor.command("index.build")
    ground.play({"say": "Hello."})
    for name in ("index", "query", "model"):
        finished = _run(ground, editor, "say hello")  # the model worker starts with the first run
        assert finished["output"] == "Hello."
        before = editor.command("health")
        pids = {**before["workers"], "model": before["model"]["worker"]["pid"]}
        pid = next(pid for worker, pid in pids.items() if name in worker)
        ground.kill(pid)
        assert editor.command("search", query="total prices")["hits"], name
        hits = agent.facts("search_code", query="with_tax")["hits"]
        assert hits[0]["path"] == "shop/tax.py", name
        assert _run(ground, editor, "say hello again")["output"] == "Hello."
        (ground.root / f"after_{name}.py").write_text(f"def born_after_{name}():\n    return 1\n")
        editor.command("index.build")
        found = editor.command("symbol.find", name=f"born_after_{name}")["definitions"]
        assert [one["path"] for one in found] == [f"after_{name}.py"]
        (ground.root / f"after_{name}.py").unlink()
        ground.wait(lambda pid=pid: pid not in ground.processes(), 5, "a killed worker is still there")
    writer = next(pid for name, pid in editor.command("health")["workers"].items() if "index" in name)
    assert os.getpriority(os.PRIO_PROCESS, writer) == 5  # the new one, too, gives way to the answers
    sharing = Path(f"/proc/{writer}/autogroup")
    assert not sharing.exists() or sharing.read_text().endswith("nice 5\n")
    agent.close()
    editor.close()


def test_a_model_worker_killed_at_work_does_not_harm_the_run(ground: Ground) -> None:
    editor = ground.editor()
    ground.play({"say": "I am slow and say very much. " * 20, "delay": 0.1})
    run_id = editor.command("run.start", task="talk slowly", profile="free")["run_id"]
    ground.wait(lambda: editor.hears(run_id), 30)
    ground.kill(editor.command("health")["model"]["worker"]["pid"])
    ground.play({"say": "Short."})
    ended = ground.wait(lambda: _ended(editor, run_id), 30)
    assert (ended["status"], ended["output"]) == ("completed", "Short."), ended
    assert _run(ground, editor, "say it short")["output"] == "Short."
    editor.close()


def test_a_killed_tool_is_a_failed_call_and_the_run_goes_on(ground: Ground) -> None:
    before, editor = ground.picture(), ground.editor()
    ground.play(
        {"tool": "Bash", "arguments": {"command": "touch begun.txt; sleep 41.25"}},
        {"say": "It was killed: {{last_result}}"},
    )
    run_id = editor.command("run.start", task="run a tool", profile="free")["run_id"]
    ground.wait((ground.root / "begun.txt").exists)
    sleeping = [pid for pid, command in ground.processes().items() if command.startswith("sleep 41.25")]
    for pid in sleeping:
        ground.kill(pid)
    assert sleeping
    ended = ground.wait(lambda: _ended(editor, run_id), 20)
    assert ended["status"] == "completed"
    assert "FAILED" in ended["output"]
    assert editor.command("checkpoint.restore", run_id=run_id)["changed"] == ["begun.txt"]
    assert ground.picture() == before
    editor.close()


def test_a_killed_daemon_is_followed_by_one_that_knows_everything(fresh: Ground) -> None:
    before, editor, agent = fresh.everything(), fresh.editor(), fresh.agent()
    fresh.play(
        {
            "tool": "Edit",
            "arguments": {"path": "crlf.txt", "old_text": "two", "new_text": "2"},
        },
        {"tool": "Bash", "arguments": {"command": ONCE}},
        {"say": "The call said: {{last_result}}"},
    )
    run_id = editor.command("run.start", task="be interrupted", profile="free")["run_id"]
    fresh.wait((fresh.root / "once.txt").exists)
    seen = editor.command("run.events", run_id=run_id)["events"]
    daemon = fresh.daemon()
    fresh.kill(daemon)
    killed = time.monotonic()
    for front_end in (editor, agent):
        assert front_end.process.wait(5) == 1
        assert time.monotonic() - killed <= 1.0
        assert front_end.process.stderr
        said = front_end.process.stderr.read().decode()
        assert len(said.splitlines()) == 1, said
        assert "Traceback" not in said
    fresh.wait(lambda: not fresh.processes(), 5, f"left by a killed daemon: {fresh.processes()}")

    editor = fresh.editor()
    run = editor.command("run.get", run_id=run_id)["run"]
    assert run["status"] == "suspended"
    assert "--resume" in run["reason"]
    events = editor.command("run.events", run_id=run_id)["events"]
    assert events[: len(seen)] == seen
    assert fresh.ask("events", "verify") == {"sound": True, "broken": []}
    kept = editor.command("checkpoint.list", run_id=run_id)["checkpoints"]
    assert len(kept) == 2
    assert fresh.cli("run", "--resume", run_id, "--json", timeout=60).returncode == 0
    done = editor.command("run.get", run_id=run_id, limit=2000)
    assert done["run"]["status"] == "completed"
    assert "Unknown outcome" in done["run"]["output"]
    assert [event["seq"] for event in done["events"]] == list(range(1, len(done["events"]) + 1))
    assert fresh.text("once.txt") == "once\n"
    assert fresh.ask("events", "verify")["sound"]
    # The killed call never told what it changed, so only the whole tree goes back to where it was.
    assert fresh.ask("rewind", run_id, "--all")["status"] == "applied"
    assert fresh.everything() == before


def test_a_daemon_killed_at_any_moment_tears_nothing(fresh: Ground) -> None:
    big = "".join(f"line {number}\n" for number in range(20_000))
    (fresh.root / "big.txt").write_text(big)
    turns = [
        {"tool": "Write", "arguments": {"path": "big.txt", "content": big + f"{n}\n"}} for n in range(60)
    ]
    known = {big} | {big + f"{n}\n" for n in range(60)}
    git = fresh.git_picture()
    fresh.play(*turns, {"say": "Done."})
    dice, left_beside = random.Random(7), False
    for moment in ("beside", "any", "any"):
        editor = fresh.editor()
        run_id = editor.command("run.start", task="write a lot", profile="free")["run_id"]
        fresh.wait_for_event(editor, run_id, "run.toolcall.result")
        daemon = editor.command("health")["pid"]
        if moment == "beside":  # while the new text is written beside the old
            while not _beside(fresh):
                pass
        else:
            time.sleep(dice.uniform(0, 0.7))
        fresh.kill(daemon)
        left_beside |= _beside(fresh)
        assert editor.process.wait(5) == 1
        fresh.wait(lambda: not fresh.processes(), 5, "left by a killed daemon")
        assert fresh.text("big.txt") in known
    assert left_beside, "no kill came in the middle of a write"
    editor = fresh.editor()
    assert not _beside(fresh)
    statuses = [run["status"] for run in editor.command("run.list")["runs"]]
    assert set(statuses) <= {"suspended", "completed"}
    assert fresh.ask("events", "verify")["sound"]
    oldest = editor.command("checkpoint.list", limit=1000)["checkpoints"][-1]
    assert (
        editor.command("checkpoint.restore", checkpoint_id=oldest["id"], scope="all")["status"] == "applied"
    )
    assert fresh.text("big.txt") == big
    assert fresh.git_picture() == git
    editor.close()


@pytest.mark.parametrize("at_work", [True, False])
def test_a_clean_end_leaves_no_process_and_suspends_the_run(fresh: Ground, at_work: bool) -> None:
    editor = fresh.editor()
    if not at_work:
        editor.end()  # the window is killed, without shutdown
        assert editor.process.wait(5) is not None
        assert fresh.ask("daemon", "stop") == {"stopped": True}
    else:
        fresh.play({"tool": "Bash", "arguments": {"command": ONCE}}, {"say": "Done."})
        run_id = editor.command("run.start", task="be stopped", profile="free")["run_id"]
        fresh.wait((fresh.root / "once.txt").exists)
        assert fresh.ask("daemon", "stop") == {"stopped": True}
        fresh.wait(lambda: not fresh.processes(), 5, "left by a stopped daemon")
        assert fresh.ask("show", run_id)["run"]["status"] == "suspended"
        assert fresh.text("once.txt") == "once\n"
        (fresh.root / "once.txt").unlink()
    assert fresh.text("README.md") == FILES["README.md"].decode()


def test_a_state_that_cannot_be_opened_is_said_and_leaves_no_process(fresh: Ground) -> None:
    fresh.ask("health")
    fresh.ask("daemon", "stop")
    (state,) = (fresh.base / "state" / "codeforge").iterdir()
    sound = (state / "state.db").read_bytes()
    for wal in state.glob("state.db-*"):
        wal.unlink()
    (state / "state.db").write_bytes(b"this is not a database" * 500)
    for _ in range(2):
        failed = fresh.cli("runs", "--json")
        assert failed.returncode in (1, 3), failed
        assert b'"code"' in failed.stdout
        assert b"Traceback" not in failed.stdout + failed.stderr
    fresh.cli("daemon", "stop")
    fresh.wait(lambda: not fresh.processes(), 10, "the daemon of a broken state stays")
    (state / "state.db").write_bytes(sound)
    assert fresh.ask("runs") == {"runs": []}


def _beside(ground: Ground) -> bool:
    return any(name.endswith(".codeforge") for name in os.listdir(ground.root))


def _run(ground: Ground, editor: Editor, task: str) -> Json:
    run_id = editor.command("run.start", task=task, profile="free")["run_id"]
    return ground.wait(lambda: _ended(editor, run_id), 30, f"the run did not end: {task}")


def _ended(editor: Editor, run_id: str) -> Json | None:
    run: Json = editor.command("run.get", run_id=run_id)["run"]
    return None if run["status"] in ("pending", "running") else run
