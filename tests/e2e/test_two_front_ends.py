"""Proof 2: an editor and a foreign agent on one workspace, and a terminal beside them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.agent import Agent, code_of, text_of
from tests.e2e.editor import Editor
from tests.e2e.ground import FILES, SECRET, Ground

Json = dict[str, Any]
FIX = {"path": "shop/cart.py", "old_text": "return sum(prices) - 1", "new_text": "return sum(prices)"}
HARD = [
    FIX,
    {"path": "crlf.txt", "old_text": "one\ntwo", "new_text": "one\n2"},
    {"path": "bom.txt", "old_text": "two", "new_text": "zwei"},
    {"path": "latin.txt", "old_text": "zwei", "new_text": "Süß"},
    {"path": "run.sh", "old_text": "hello", "new_text": "goodbye"},
    {"path": "nested/inner.txt", "old_text": "in a repository", "new_text": "inside"},
    {"path": "ignored.txt", "old_text": "does not see", "new_text": "never saw"},
    {"path": "new/deep/file.txt", "content": "made\n"},
]


@pytest.fixture
def editor(ground: Ground) -> Iterator[Editor]:
    opened = ground.editor()
    yield opened
    opened.close()


@pytest.fixture
def agent(ground: Ground) -> Iterator[Agent]:
    opened = ground.agent()
    yield opened
    opened.close()


def in_background(call: Any, *arguments: Any, **named: Any) -> tuple[threading.Thread, list[Any]]:
    """Call it in a thread; the list gets its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call(*arguments, **named)), daemon=True)
    thread.start()
    return thread, results


def test_allowed_edits_are_applied_and_taken_back_byte_for_byte(
    ground: Ground, editor: Editor, agent: Agent
) -> None:
    before = ground.picture()
    done = agent.facts("apply_edits", edits=HARD)
    assert done["status"] == "applied", done
    assert len(editor.prompts) == 1
    assert "foreign-agent" in editor.prompts[0]
    assert "-        return sum(prices) - 1" in editor.prompts[0]
    assert (ground.root / "crlf.txt").read_bytes() == b"one\r\n2\r\nthree"
    assert (ground.root / "bom.txt").read_bytes() == b"\xef\xbb\xbfone\nzwei\n"
    assert (ground.root / "latin.txt").read_bytes() == "Straße und Maß\nSüß\n".encode("latin-1")
    assert (ground.root / "run.sh").read_bytes() == FILES["run.sh"].replace(b"hello", b"goodbye")
    assert (ground.root / "run.sh").stat().st_mode & 0o777 == 0o755
    assert ground.text("new/deep/file.txt") == "made\n"
    changed = {name for name, seen in ground.picture().items() if before.get(name) != seen}
    assert changed == {edit["path"] for edit in HARD} | {"new", "new/deep"}

    listed = agent.facts("list_checkpoints")["checkpoints"]
    assert done["checkpoint_id"] in [one["id"] for one in listed]
    back = agent.facts("restore_checkpoint", checkpoint_id=done["checkpoint_id"])
    assert back["status"] == "applied", back
    assert len(editor.prompts) == 2
    assert ground.picture() == before
    forth = agent.facts("restore_checkpoint", checkpoint_id=back["safety_checkpoint_id"])
    assert forth["status"] == "applied", forth
    assert ground.text("new/deep/file.txt") == "made\n"
    again = ground.ask("rewind", done["checkpoint_id"])
    assert again["status"] == "applied", again
    assert ground.picture() == before


@pytest.mark.parametrize("person", ["deny", "null", "nonsense", "error", "never"])
def test_anything_but_a_yes_changes_nothing(
    ground: Ground, editor: Editor, agent: Agent, person: str
) -> None:
    before, editor.person = ground.picture(), person
    known = len(ground.ask("checkpoints", "--limit", "1000")["checkpoints"])
    done = agent.facts("apply_edits", edits=HARD)
    assert done["status"] == "denied", done
    assert done["checkpoint_id"] is None
    assert len(editor.prompts) == 1
    assert ground.picture() == before
    assert len(ground.ask("checkpoints", "--limit", "1000")["checkpoints"]) == known
    if person == "never":
        ground.wait(lambda: editor.withdrawn, 5, "the prompt was not withdrawn")
        assert "nobody answered" in done["message"]


def test_all_or_nothing(ground: Ground, editor: Editor, agent: Agent) -> None:
    before = ground.picture()
    for bad in (
        {"path": "bom.txt", "old_text": "no such text", "new_text": "x"},
        {"path": "bom.txt", "old_text": "two", "new_text": "x", "base_hash": "0" * 32},
        {"path": ".env", "old_text": "TOKEN", "new_text": "x"},
        {"path": "../outside.txt", "content": "x"},
    ):
        result = agent.call("apply_edits", {"edits": [*HARD, bad]})
        refused = result.get("isError") or result["structuredContent"]["status"] in ("denied", "conflict")
        assert refused, result
        assert SECRET not in text_of(result)
    assert not editor.prompts
    assert ground.picture() == before


@pytest.mark.parametrize(("verb", "status"), [("approve", "applied"), ("deny", "denied")])
def test_the_terminal_answers_and_the_prompt_goes_away(
    ground: Ground, editor: Editor, agent: Agent, verb: str, status: str
) -> None:
    before, editor.person = ground.picture(), "never"
    thread, results = in_background(agent.facts, "apply_edits", edits=[FIX])
    waiting = ground.wait(lambda: editor.command("approval.list")["approvals"])
    assert waiting[0]["id"] in editor.prompts[0]
    answered = ground.ask(verb, waiting[0]["id"])["approval"]
    assert answered["answered_by"].startswith("cli")
    thread.join(20)
    assert results[0]["status"] == status
    assert results[0]["approval_id"] == waiting[0]["id"]
    ground.wait(lambda: editor.withdrawn, 5, "the prompt was not withdrawn")
    late = ground.cli("approve", waiting[0]["id"], "--json")
    assert late.returncode == 1
    assert b'"conflict"' in late.stdout
    assert (ground.picture() != before) == (status == "applied")
    if status == "applied":
        assert ground.ask("rewind", results[0]["checkpoint_id"])["status"] == "applied"
    assert ground.picture() == before


def test_a_document_with_unsaved_text_is_edited_in_the_editor_only(
    ground: Ground, editor: Editor, agent: Agent
) -> None:
    disk = ground.picture()
    unsaved = f"# naïve 😀 note\n{FILES['shop/cart.py'].decode()}# end\n"
    editor.open("shop/cart.py", unsaved)
    assert "naïve 😀" in text_of(agent.call("read_code", {"path": "shop/cart.py"}))
    done = agent.facts("apply_edits", edits=[FIX])
    assert done["status"] == "applied", done
    assert editor.texts["shop/cart.py"] == unsaved.replace(" - 1", "")
    assert editor.edits[0]["textDocument"]["version"] == 1
    assert ground.picture() == disk

    typed = editor.texts["shop/cart.py"] + "# typed after it\n"
    editor.type("shop/cart.py", typed)
    back = agent.facts("restore_checkpoint", checkpoint_id=done["checkpoint_id"])
    assert back["status"] == "applied", back
    assert editor.texts["shop/cart.py"] == unsaved
    assert ground.picture() == disk
    undone = agent.facts("restore_checkpoint", checkpoint_id=back["safety_checkpoint_id"])
    assert undone["status"] == "applied", undone
    assert editor.texts["shop/cart.py"] == typed
    assert ground.picture() == disk


def test_typing_while_the_question_waits_is_not_clobbered(
    ground: Ground, editor: Editor, agent: Agent
) -> None:
    disk, editor.person = ground.picture(), "never"
    editor.open("shop/cart.py", FILES["shop/cart.py"].decode())
    thread, results = in_background(agent.facts, "apply_edits", edits=[FIX])
    waiting = ground.wait(lambda: editor.command("approval.list")["approvals"])
    editor.type("shop/cart.py", "# rewritten meanwhile\n")
    editor.command("approval.answer", approval_id=waiting[0]["id"], verdict="allow_once")
    thread.join(20)
    assert results[0]["status"] == "conflict", results
    assert editor.texts["shop/cart.py"] == "# rewritten meanwhile\n"
    assert ground.picture() == disk


def test_closing_the_editor_does_not_stop_a_run(ground: Ground, agent: Agent) -> None:
    before = ground.picture()
    ground.play(
        {"tool": "Write", "arguments": {"path": "one.txt", "content": "1\n"}},
        {"tool": "Bash", "arguments": {"command": "sleep 3; echo 2 > two.txt"}},
        {"say": "It is done."},
    )
    first = ground.editor()
    started = time.monotonic()
    run_id = first.command("run.start", task="write two files", profile="free")["run_id"]
    assert time.monotonic() - started < 5
    ground.wait((ground.root / "one.txt").exists)
    first.close()
    second = ground.editor()
    assert second.command("run.get", run_id=run_id)["run"]["status"] == "running"
    ground.wait(lambda: second.command("run.get", run_id=run_id)["run"]["status"] == "completed")
    page: Json = second.request("codeforge/run/events", {"run_id": run_id, "after": 0, "limit": 2000})
    events = page["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "run.created"
    assert events[-1]["type"] == "run.completed"
    live = second.events(run_id)
    assert [event["seq"] for event in live] == list(range(live[0]["seq"], len(events) + 1))
    half = second.request("codeforge/run/events", {"run_id": run_id, "after": 5, "limit": 3})
    assert [event["seq"] for event in half["events"]] == [6, 7, 8]
    assert agent.facts("get_run", run_id=run_id)["run"]["output"] == "It is done."
    assert second.command("checkpoint.restore", run_id=run_id, to="last")["changed"] == ["two.txt"]
    assert ground.text("one.txt") == "1\n"
    second.command("checkpoint.restore", run_id=run_id, to="first")
    assert ground.picture() == before
    second.close()


def test_a_foreign_agent_cannot_pick_a_looser_profile(ground: Ground, editor: Editor, agent: Agent) -> None:
    before, editor.person = ground.picture(), "deny"
    ground.play(
        {"tool": "Write", "arguments": {"path": "mine.txt", "content": "x"}},
        {"tool": "Bash", "arguments": {"command": "touch also-mine.txt"}},
        {"say": "I was told no."},
    )
    run_id = agent.facts("start_run", task="take over", profile="trusted-mount-autonomous")["run_id"]
    ground.wait(lambda: agent.facts("get_run", run_id=run_id)["run"]["status"] == "completed")
    assert len(editor.prompts) == 2
    assert ground.picture() == before


def test_a_foreign_agent_cannot_answer_for_a_person(ground: Ground, editor: Editor, agent: Agent) -> None:
    editor.person = "never"
    thread, results = in_background(agent.facts, "apply_edits", edits=[FIX])
    waiting = ground.wait(lambda: editor.command("approval.list")["approvals"])[0]["id"]
    other = ground.agent("accomplice")
    assert not [tool for tool in other.tools() if "approv" in tool["name"] and "list" not in tool["name"]]
    for tool in ("approval_answer", "approval.answer", "codeforge.approval.answer", "approve"):
        result = other.call(tool, {"approval_id": waiting, "verdict": "allow_once"})
        assert result.get("isError") or "rpc_error" in result, result
    for method in ("approval/answer", "workspace/executeCommand"):
        assert "error" in other.request(method, {"approval_id": waiting, "verdict": "allow_once"})
    other.close()
    thread.join(20)
    assert results[0]["status"] == "denied"


def test_agents_do_not_see_what_is_protected(ground: Ground, agent: Agent) -> None:
    assert code_of(agent.call("read_code", {"path": ".env"})) == "denied"
    assert SECRET not in text_of(agent.call("search_code", {"query": f"TOKEN {SECRET}"}))
    assert SECRET not in text_of(agent.call("repo_map", {"query": "TOKEN"}))
