"""Given a call with an idempotency key, when it is repeated, by whatever door and after whatever happened, then it was
done once and its answer is told again; or it is said why not."""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from contextlib import closing
from typing import Any

import pytest

from tests.e2e.agent import Agent, error_of
from tests.e2e.editor import Editor, Refused
from tests.e2e.ground import FILES, Ground

Json = dict[str, Any]


def new_file() -> Json:
    """Edits that could be applied any number of times."""
    return {"edits": [{"path": f"new-{uuid.uuid4().hex[:8]}.txt", "content": "made\n"}]}


def facts(result: Json) -> Json:
    assert not result.get("isError"), result
    found: Json = result["structuredContent"]
    return found


def is_replay(result: Json) -> bool:
    return bool(result.get("_meta", {}).get("codeforge/replayed"))


def refusal(editor: Editor, name: str, **argument: Any) -> Json:
    """The error of a command that must fail."""
    with pytest.raises(Refused) as refused:
        editor.command(name, **argument)
    error: Json = refused.value.error["data"]
    return error


def checkpoints(editor: Editor) -> int:
    return len(editor.command("checkpoint.list", limit=1000)["checkpoints"])


def question(ground: Ground, editor: Editor) -> str:
    """The id of the one question that waits."""
    waiting: str = ground.wait(lambda: editor.command("approval.list")["approvals"])[0]["id"]
    return waiting


def in_background(agent: Agent, arguments: Json, key: str) -> tuple[threading.Thread, list[Json]]:
    results: list[Json] = []

    def call() -> None:
        results.append(agent.call("apply_edits", arguments, key=key))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread, results


def test_a_run_is_started_once_from_an_editor_and_from_the_terminal(ground: Ground) -> None:
    editor, agent = ground.editor(), ground.agent()
    wanted = {"task": "say it once", "profile": "free", "idempotencyKey": "job 1 é"}
    ground.play({"say": "Said."})
    first = editor.command("run.start", **wanted)
    assert editor.command("run.start", **wanted) == first
    assert editor.command("run.start", **wanted, mode="coder") == first  # its default
    ground.wait(lambda: editor.command("run.get", run_id=first["run_id"])["run"]["status"] == "completed", 90)
    editor.close()
    editor = ground.editor()  # a new connection of the same client
    assert editor.command("run.start", **wanted) == first
    assert len(editor.command("run.list")["runs"]) == 1

    other = refusal(editor, "run.start", **(wanted | {"task": "say something else"}))
    assert (other["code"], other["data"]["state"]) == ("conflict", "other_arguments")
    for bad in ("", "x" * 256, "a\nb", 7, ["k"], {"k": 1}):
        wrong = refusal(editor, "run.start", **(wanted | {"idempotencyKey": bad}))
        assert (wrong["code"], wrong["data"]["field"]) == ("invalid_input", "idempotencyKey")
    assert "hits" in editor.command("search", query="cart", idempotencyKey="x" * 999)  # looking ignores it

    # The same key of other clients, or for another operation, is another key.
    theirs = agent.call("start_run", {"task": "say it once"}, key=wanted["idempotencyKey"])
    assert not is_replay(theirs)
    again = agent.call("start_run", {"task": "say it once"}, key=wanted["idempotencyKey"])
    assert is_replay(again)
    assert facts(again) == facts(theirs)
    plan = ("plan", "start", "say it once", "--detach", "--idempotency-key", wanted["idempotencyKey"])
    words = ("run", "say it once", "--detach", "--idempotency-key", wanted["idempotencyKey"])
    plan_id, run_id = ground.ask(*plan)["plan_id"], ground.ask(*words)["run_id"]
    assert ground.ask(*plan)["plan_id"] == plan_id
    repeated = ground.cli(*words, "--json")
    assert json.loads(repeated.stdout) == {"run_id": run_id}
    assert b"this key was used before" in repeated.stderr
    whole = ground.run("say it once", "--idempotency-key", wanted["idempotencyKey"])  # watches the old one
    assert whole["run"]["id"] == run_id
    assert len({first["run_id"], facts(theirs)["run_id"], run_id}) == 3
    ground.wait(lambda: not editor.command("health")["runs"], 60)
    assert len(editor.command("run.list")["runs"]) == 4  # these three, and that of the plan
    agent.close()
    editor.close()


def test_edits_are_made_once_however_often_they_are_sent(fresh: Ground) -> None:
    editor, agent = fresh.editor(person="never"), fresh.agent()
    known, edits = checkpoints(editor), new_file()
    thread, results = in_background(agent, edits, "edit-1")
    waiting = question(fresh, editor)
    busy = error_of(agent.call("apply_edits", edits, key="edit-1"))
    assert (busy["code"], busy["data"]["state"]) == ("conflict", "in_progress")
    other = error_of(agent.call("apply_edits", new_file(), key="edit-1"))
    assert other["data"]["state"] == "other_arguments"
    editor.command("approval.answer", approval_id=waiting, verdict="allow_once")
    thread.join(20)
    assert facts(results[0])["status"] == "applied"
    assert not is_replay(results[0])
    again = agent.call("apply_edits", edits, key="edit-1")
    assert is_replay(again)
    assert facts(again) == facts(results[0])
    assert (len(editor.prompts), checkpoints(editor)) == (1, known + 1)

    # An agent that hangs up while the question waits finds the answer when it comes back.
    edits = new_file()
    leaving = fresh.agent()
    in_background(leaving, edits, "edit-2")
    waiting = question(fresh, editor)
    leaving.close()
    editor.command("approval.answer", approval_id=waiting, verdict="allow_once")
    fresh.wait((fresh.root / edits["edits"][0]["path"]).exists)
    found = fresh.wait(lambda: _answered(fresh.agent(), edits, "edit-2"))
    assert facts(found)["status"] == "applied"
    assert (len(editor.prompts), checkpoints(editor)) == (2, known + 2)

    # What came to nothing may be tried again under the same key; a dry run has no use for one.
    editor.person = "allow"
    edits = {"edits": [{"path": "shop/cart.py", "old_text": "not there yet", "new_text": "there"}]}
    assert facts(agent.call("apply_edits", edits, key="edit-3"))["status"] == "conflict"
    (fresh.root / "shop/cart.py").write_text("# not there yet\n")
    for _ in range(2):
        dry = agent.call("apply_edits", {**edits, "dry_run": True}, key="edit-3")
        assert "+# there" in facts(dry)["diff"]
        assert not is_replay(dry)
    done = agent.call("apply_edits", edits, key="edit-3")
    assert (facts(done)["status"], is_replay(done)) == ("applied", False)
    assert facts(agent.call("apply_edits", edits, key="edit-3")) == facts(done)
    (fresh.root / "shop/cart.py").write_bytes(FILES["shop/cart.py"])
    agent.close()
    editor.close()


def _answered(agent: Agent, edits: Json, key: str) -> Json | None:
    """The answer kept for the key, or None while the call is still at work."""
    result = agent.call("apply_edits", edits, key=key)
    agent.close()
    return result if is_replay(result) else None


def test_the_next_daemon_knows_what_was_done_and_says_what_nobody_knows(fresh: Ground) -> None:
    editor, agent = fresh.editor(), fresh.agent()
    edits, lost = new_file(), new_file()
    done = agent.call("apply_edits", edits, key="done")
    assert facts(done)["status"] == "applied"
    editor.person = "never"
    in_background(agent, lost, "lost")
    question(fresh, editor)
    fresh.kill(fresh.daemon())
    for front_end in (editor, agent):
        front_end.process.wait(5)
    fresh.wait(lambda: not fresh.processes(), 5, "left by a killed daemon")

    (fresh.root / edits["edits"][0]["path"]).unlink()
    editor, agent = fresh.editor(), fresh.agent()
    again = agent.call("apply_edits", edits, key="done")
    assert is_replay(again)
    assert facts(again) == facts(done)
    assert not (fresh.root / edits["edits"][0]["path"]).exists()  # told, not done
    unknown = error_of(agent.call("apply_edits", lost, key="lost"))
    assert (unknown["code"], unknown["data"]["state"]) == ("conflict", "unknown")
    assert "codeforge runs" in unknown["hint"]
    assert "use a new key" in unknown["hint"]
    assert facts(agent.call("apply_edits", lost, key="found"))["status"] == "applied"
    editor.close()
    agent.close()
    assert fresh.ask("daemon", "stop") == {"stopped": True}

    # A day later it is a new key. A larger answer than is kept is named, not invented.
    (state,) = (fresh.base / "state" / "codeforge").iterdir()
    with closing(sqlite3.connect(state / "state.db", isolation_level=None)) as raw:
        raw.execute("UPDATE reservations SET created_at = created_at - 86401 WHERE key = 'done'")
        raw.execute("UPDATE reservations SET answer = NULL, bytes = 2000000 WHERE key = 'found'")
    editor, agent = fresh.editor(), fresh.agent()
    anew = agent.call("apply_edits", edits, key="done")
    assert (facts(anew)["status"], is_replay(anew)) == ("applied", False)
    assert fresh.text(edits["edits"][0]["path"]) == "made\n"
    large = error_of(agent.call("apply_edits", lost, key="found"))
    assert large["data"] == {"field": "idempotencyKey", "state": "done", "bytes": 2_000_000}
    assert "too large" in large["message"]
    assert fresh.ask("events", "verify") == {"sound": True, "broken": []}
    editor.close()
    agent.close()
