"""Consent: what people are asked, how long, for what their answer holds, and that it cannot be had in another way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.agent import Agent, code_of, text_of
from tests.e2e.conftest import ground_of
from tests.e2e.editor import Editor, Refused
from tests.e2e.ground import MODULE, Ground

Json = dict[str, Any]
CART = "shop/cart.py"
FIX = {"path": CART, "old_text": "return sum(prices) - 1", "new_text": "return sum(prices)"}
ASKS = "name: asks\nmode: default\nrules:\n  - {specifier: {tool: Read}, decision: allow}\n"


def write(path: str, content: str) -> Json:
    return {"tool": "Write", "arguments": {"path": path, "content": content}}


def policy(ground: Ground, name: str, text: str) -> None:
    (ground.base / "config" / "codeforge" / "policies" / f"{name}.yaml").write_text(text)


def in_background(work: Callable[[], Json]) -> Callable[[], Json]:
    """Start it; the result when it is there."""
    answers: list[Json] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()

    def result() -> Json:
        thread.join(60)
        assert answers, "it did not end"
        return answers[0]

    return result


def waiting(ground: Ground, editor: Editor) -> Json:
    """The question that waits, once there is one."""
    return ground.wait(lambda: editor.command("approval.list")["approvals"])[0]


def ended(ground: Ground, editor: Editor, run_id: str) -> Json:
    def look() -> Json | None:
        answer = editor.command("run.get", run_id=run_id, limit=2000)
        over = answer["run"]["status"] not in ("pending", "running")
        return {**answer["run"], "events": answer["events"]} if over else None

    found = ground.wait(look, 40, f"{run_id} did not end")
    assert found is not None
    return found


def told_model(run: Json) -> list[str]:
    messages = [e["payload"]["message"] for e in run["events"] if e["type"] == "run.message"]
    return [message["content"] for message in messages if message["role"] == "tool"]


def kinds(run: Json) -> list[str]:
    return [event["type"] for event in run["events"]]


def test_what_nobody_answers_is_denied_and_after_three_the_run_waits_for_somebody() -> None:
    with ground_of(approvals_timeout_seconds=1) as ground:
        policy(ground, "asks", ASKS)
        editor = ground.editor(person="never")
        turns = [write(f"new{number}.txt", "x\n") for number in range(3)]
        ground.play(*turns, write("new3.txt", "x\n"), {"say": "All done."})
        run_id = editor.command("run.start", task="write", profile="asks")["run_id"]
        run = ended(ground, editor, run_id)
        assert run["status"] == "suspended", run["reason"]
        assert "nobody answered 3 questions in a row" in run["reason"]
        said = told_model(run)
        assert len(said) == 3
        assert all("Nobody answered in time, so it counts as denied" in one for one in said), said
        assert not (ground.root / "new0.txt").exists()
        assert len(editor.prompts) == 3
        assert len(ground.wait(lambda: len(editor.withdrawn) >= 3 and editor.withdrawn)) >= 3

        editor.person = "allow"
        assert editor.command("run.resume", run_id=run_id)["run_id"] == run_id
        ground.wait_for_event(editor, run_id, "run.completed")
        run = ended(ground, editor, run_id)
        assert (run["status"], run["output"]) == ("completed", "All done.")
        assert ground.text("new3.txt") == "x\n"


def test_waiting_for_a_person_is_no_time_of_the_run() -> None:
    with ground_of(approvals_timeout_seconds=20) as ground:
        policy(ground, "asks", f"{ASKS}termination: {{timeout_seconds: 3}}\n")
        editor = ground.editor(person="never")
        ground.play({"say": "The model worker is warm."})
        ended(ground, editor, editor.command("run.start", task="warm up", profile="free")["run_id"])
        ground.play(write("slow.txt", "x\n"), {"say": "Done."})
        run_id = editor.command("run.start", task="write", profile="asks")["run_id"]
        question = waiting(ground, editor)
        time.sleep(4)
        editor.command("approval.answer", approval_id=question["id"], verdict="allow_once")
        run = ended(ground, editor, run_id)
        assert run["status"] == "completed", run["reason"]
        assert ground.text("slow.txt") == "x\n"
        (result,) = [e["payload"] for e in run["events"] if e["type"] == "run.toolcall.result"]
        assert result["duration"] < 4

        # What comes after the answer is the run's own time again.
        ground.play(write("late.txt", "x\n"), {"say": "slow " * 400, "delay": 0.5})
        editor.person = "allow"
        run_id = editor.command("run.start", task="write late", profile="asks")["run_id"]
        assert ended(ground, editor, run_id)["status"] == "timeout"


def test_an_answer_for_the_run_covers_the_same_again_and_nothing_else() -> None:
    with ground_of(approvals_timeout_seconds=20) as ground:
        policy(ground, "asks", ASKS)
        editor = ground.editor(person="run")
        turns = [write("a.txt", "1\n"), write("a.txt", "2\n"), write("b.txt", "1\n")]
        commands = [{"tool": "Bash", "arguments": {"command": f"echo {word}"}} for word in ("x", "x", "y")]
        ground.play(*turns, *commands, {"say": "Done."})
        run = ended(ground, editor, editor.command("run.start", task="go", profile="asks")["run_id"])
        assert run["status"] == "completed", run["reason"]
        assert (ground.text("a.txt"), ground.text("b.txt")) == ("2\n", "1\n")
        assert len(editor.prompts) == 4, editor.prompts  # a.txt, b.txt, echo x, echo y
        assert editor.offered[0][:2] == ["Allow once", "Allow for this run"]
        approved = [e["payload"]["decision"] for e in run["events"] if e["type"] == "run.toolcall.approved"]
        assert [decision["scope"] == "run" for decision in approved] == [
            False,
            True,
            False,
            False,
            True,
            False,
        ]
        assert "allowed for all of run:" in approved[1]["reason"]
        # Another run is asked anew.
        ground.play(write("a.txt", "3\n"), {"say": "Done."})
        ended(ground, editor, editor.command("run.start", task="again", profile="asks")["run_id"])
        assert len(editor.prompts) == 5


@pytest.fixture
def asked() -> Any:
    with ground_of(approvals_timeout_seconds=30) as ground:
        yield ground, ground.editor(person="never"), ground.agent()


def test_an_approval_is_for_the_bytes_and_the_policy_that_it_was_asked_for(
    asked: tuple[Ground, Editor, Agent],
) -> None:
    ground, editor, agent = asked
    # Stale base: the file is another one when the answer comes.
    result = in_background(lambda: agent.call("apply_edits", {"edits": [FIX]}))
    question = waiting(ground, editor)
    assert question["base_hashes"].keys() == {CART}
    assert len(question["policy_revision"]) == 32
    theirs = MODULE.replace("prices", "amounts")
    (ground.root / CART).write_text(theirs)
    editor.command("approval.answer", approval_id=question["id"], verdict="allow_once")
    facts = result()["structuredContent"]
    assert facts["status"] == "conflict", facts
    assert ground.text(CART) == theirs

    # The same with a link in its place.
    (ground.root / CART).write_text(MODULE)
    result = in_background(lambda: agent.call("apply_edits", {"edits": [FIX]}))
    question = waiting(ground, editor)
    (ground.root / CART).unlink()
    (ground.root / "elsewhere.py").write_text(MODULE)
    (ground.root / CART).symlink_to("../elsewhere.py")
    editor.command("approval.answer", approval_id=question["id"], verdict="allow_once")
    facts = result()["structuredContent"]
    assert facts["status"] == "conflict", facts
    assert ground.text("elsewhere.py") == MODULE

    # The policy is another one.
    (ground.root / CART).unlink()
    (ground.root / CART).write_text(MODULE)
    result = in_background(lambda: agent.call("apply_edits", {"edits": [FIX]}))
    question = waiting(ground, editor)
    policy(ground, "mine", "name: mine\nmode: plan\n")
    editor.command("config.reload")
    editor.command("approval.answer", approval_id=question["id"], verdict="allow_once")
    facts = result()["structuredContent"]
    assert facts["status"] == "denied", facts
    assert "policy changed" in facts["message"]
    assert ground.text(CART) == MODULE
    stream = question["stream"]
    events = [line for line in ground_events(ground, stream) if line["type"] == "approval.consumed"]
    assert not events


def ground_events(ground: Ground, stream: str) -> list[Json]:
    import json
    import sqlite3

    (database,) = (ground.base / "state").rglob("state.db")
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as opened:
        rows = opened.execute("SELECT type, payload FROM events WHERE stream = ? ORDER BY seq", (stream,))
        return [{"type": kind, "payload": json.loads(payload)} for kind, payload in rows]


def test_an_approval_is_used_once_and_only_people_answer(asked: tuple[Ground, Editor, Agent]) -> None:
    ground, editor, agent = asked
    other = ground.agent("another-agent")
    result = in_background(lambda: agent.call("apply_edits", {"edits": [FIX]}))
    question = waiting(ground, editor)
    # Another client has no door to it: no such tool, and the operation is not for agents.
    assert code_of(other.call("approval.answer", {"approval_id": question["id"]})) == "invalid_input"
    assert "approval.answer" not in str(other.tools())
    # Nor can anybody make an answer mean more than was offered.
    for verdict in ("dismissed", "allowed", "consumed"):
        with pytest.raises(Refused):
            editor.command("approval.answer", approval_id=question["id"], verdict=verdict)
    editor.command("approval.answer", approval_id=question["id"], verdict="allow_once")
    assert result()["structuredContent"]["status"] == "applied"
    with pytest.raises(Refused) as again:
        editor.command("approval.answer", approval_id=question["id"], verdict="allow_once")
    assert again.value.error["data"]["code"] == "conflict"
    # Replay: the same edit once more is another question.
    (ground.root / CART).write_text(MODULE)
    result = in_background(lambda: agent.call("apply_edits", {"edits": [FIX]}))
    second = waiting(ground, editor)
    assert second["id"] != question["id"]
    with pytest.raises(Refused):
        editor.command("approval.answer", approval_id=question["id"], verdict="allow_once")
    editor.command("approval.answer", approval_id=second["id"], verdict="deny")
    denied = result()
    assert denied["structuredContent"]["status"] == "denied"
    assert "denied" in text_of(denied)
    assert ground.text(CART) == MODULE
    used = [e for e in ground_events(ground, question["stream"]) if e["type"] == "approval.consumed"]
    assert [e["payload"]["approval_id"] for e in used] == [question["id"]]


def test_always_answers_what_is_alike_and_leaves_the_other_open_questions_standing() -> None:
    with ground_of(approvals_timeout_seconds=110, runs_max_concurrent=4) as ground:
        policy(ground, "asks", ASKS)
        editor = ground.editor(person="never")
        lines = {"first": "echo x", "second": "echo x", "third": "echo y", "fourth": "echo z"}
        ground.play(
            *(
                {"task": name, "turns": [{"tool": "Bash", "arguments": {"command": line}}, {"say": "Done."}]}
                for name, line in lines.items()
            )
        )
        runs = {name: editor.command("run.start", task=name, profile="asks")["run_id"] for name in lines}

        def opened() -> dict[str, Json]:
            return {one["stream"]: one for one in editor.command("approval.list")["approvals"]}

        ground.wait(lambda: len(opened()) == 4, 60)
        questions = {name: opened()[f"run:{run_id}"] for name, run_id in runs.items()}
        editor.command("approval.answer", approval_id=questions["first"]["id"], verdict="allow_always")
        for name in ("first", "second"):
            run = ended(ground, editor, runs[name])
            assert run["status"] == "completed", run["reason"]
            assert "x" in told_model(run)[0]
        told = [e["payload"] for e in run["events"] if e["type"] == "approval.answered"]
        assert [(one["state"], one["verdict"]) for one in told] == [("allowed", "allow_once")]
        assert told[0]["answered_by"].endswith(f"(always: {questions['first']['id']})")
        assert opened().keys() == {f"run:{runs['third']}", f"run:{runs['fourth']}"}

        # The rule is another's: this question stands as it stood, and its answer is used.
        editor.command("approval.answer", approval_id=questions["third"]["id"], verdict="allow_once")
        third = ended(ground, editor, runs["third"])
        assert "y" in told_model(third)[0]
        assert "approval.consumed" in kinds(third)

        # What can refuse is still bound to the answer, in that file too.
        (own,) = (ground.base / "config" / "codeforge" / "workspaces").rglob("policy.yaml")
        assert "echo x" in own.read_text()
        refusal = "  - {specifier: {tool: Bash}, decision: deny, command_exact: [never]}\n"
        own.write_text(own.read_text() + refusal)
        editor.command("config.reload")
        editor.command("approval.answer", approval_id=questions["fourth"]["id"], verdict="allow_once")
        fourth = ended(ground, editor, runs["fourth"])
        assert "policy changed" in told_model(fourth)[0]
        assert "approval.consumed" not in kinds(fourth)
