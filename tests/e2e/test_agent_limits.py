"""Runs under their limits: steps, time, money, standing still, cancel, nonsense from the model, and plans."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiktoken

from codeforge_ls.index.repomap import estimate_tokens
from tests.e2e.editor import Editor
from tests.e2e.ground import BIN, HOME_OF_PACKAGE, SECRET, Ground

Json = dict[str, Any]
READ = {"tool": "Read", "arguments": {"path": "README.md"}}


@pytest.fixture(scope="module")
def editor(ground: Ground) -> Iterator[Editor]:
    opened = ground.editor()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def nothing_changes(ground: Ground) -> Iterator[None]:
    """No test here leaves anything in the tree."""
    before = ground.everything()
    yield
    assert ground.everything() == before


def start(editor: Editor, task: str, profile: str = "free", **more: Any) -> str:
    run_id: str = editor.command("run.start", task=task, profile=profile, **more)["run_id"]
    return run_id


def ended(ground: Ground, editor: Editor, run_id: str, seconds: float = 30) -> Json:
    """The run once it has ended, with ``events`` in it."""

    def look() -> Json | None:
        answer = editor.command("run.get", run_id=run_id, limit=2000)
        over = answer["run"]["status"] not in ("pending", "running")
        return {**answer["run"], "events": answer["events"]} if over else None

    found = ground.wait(look, seconds, f"{run_id} did not end")
    assert found is not None
    return found


def results(run: Json) -> list[Json]:
    """What came of the tool calls."""
    return [e["payload"]["applied"] for e in run["events"] if e["type"] == "run.toolcall.result"]


def kinds(run: Json) -> list[str]:
    return [event["type"] for event in run["events"]]


def test_usage_and_cost_are_counted(ground: Ground, editor: Editor) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    ground.play({**READ, "usage": usage}, {"say": "Read.", "usage": usage})
    run = ended(ground, editor, start(editor, "read"))
    assert run["status"] == "completed"
    assert run["output"] == "Read."
    assert (run["tokens_in"], run["tokens_out"], run["step_count"]) == (2000, 200, 1)
    assert run["cost_nano_usd"] == 2 * (1000 * 150 + 100 * 600)  # gpt-4o-mini: $0.15 and $0.60 a million
    assert run["unpriced_calls"] == 0
    calls = [e["payload"] for e in run["events"] if e["type"] == "agent.model_called"]
    assert [call["usage"]["cost_source"] for call in calls] == ["computed", "computed"]
    unpriced = ended(ground, editor, start(editor, "read again", model="openai/nobody-knows-me"))
    assert unpriced["unpriced_calls"] == 2
    assert unpriced["cost_nano_usd"] == 0


def test_the_map_of_a_prompt_fits_by_the_tokenizer_of_the_model(
    fresh: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A quarter of the letters of such names is too low a guess.
    names = [f"Zx{at}Qv{at * 7}_Jk{at * 13}" for at in range(400)]
    for at in range(0, 400, 10):
        body = "".join(f"class {name}:\n    pass\n\n" for name in names[at : at + 10])
        (fresh.root / f"dense_{at}.py").write_text(body)
    fresh.ask("index")
    fresh.play({"say": "Nothing to do."})
    assert fresh.run("look")["run"]["status"] == "completed"
    (prompt,) = [str(one["content"]) for one in fresh.model.requests[0]["messages"] if one["role"] == "user"]
    shown = prompt.partition("Map of the repository:\n")[2].partition("\n</untrusted-")[0]
    folder = Path(importlib.util.find_spec("litellm").submodule_search_locations[0])
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder / "litellm_core_utils" / "tokenizers"))
    tokens = len(tiktoken.encoding_for_model("gpt-4o-mini").encode(shown))
    assert 900 < tokens <= 1024
    assert estimate_tokens(shown) < tokens


def test_steps_and_money_end_a_run(ground: Ground, editor: Editor) -> None:
    ground.play({**READ, "repeat": 50})
    run = ended(ground, editor, start(editor, "read for ever", "tiny"))
    assert run["status"] == "failed"
    assert run["reason"] == "limit reached: 2 steps of 2"
    assert run["step_count"] == 2
    run = ended(ground, editor, start(editor, "read dearly", "cheap"))
    assert run["status"] == "failed"
    assert "limit reached: $" in run["reason"]
    assert run["step_count"] == 1
    run = ended(ground, editor, start(editor, "read, unpriced", "cheap", model="openai/nobody-knows-me"))
    assert run["status"] == "failed"
    assert "no known price" in run["reason"]


def test_time_ends_a_run_in_a_command_and_in_a_model_call(ground: Ground, editor: Editor) -> None:
    for turn in (
        {"tool": "Bash", "arguments": {"command": "sleep 33.5"}},
        {"say": "slow " * 400, "delay": 0.5},
    ):
        ground.play(turn)
        began = time.monotonic()
        run = ended(ground, editor, start(editor, "take your time", "brief"))
        assert run["status"] == "timeout", run["reason"]
        assert time.monotonic() - began < 8
        assert run["events"][-1]["type"] == "run.completed"
    assert not alive(ground, "sleep 33.5")


def test_standing_still_is_warned_once_then_ended(ground: Ground, editor: Editor) -> None:
    ground.play({**READ, "repeat": 50})
    run = ended(ground, editor, start(editor, "stand still", "stuck"))
    assert run["status"] == "failed"
    assert run["reason"].startswith("stall detected")
    assert kinds(run).count("run.stall_detected") == 1
    assert run["step_count"] < 10


def alive(ground: Ground, command: str) -> list[int]:
    return [pid for pid, words in ground.processes().items() if command in words]


def test_cancel_in_a_command_kills_its_children(ground: Ground, editor: Editor) -> None:
    command = "(sleep 34.5 & sleep 34.5 & setsid sleep 34.5 & wait)"
    ground.play({"tool": "Bash", "arguments": {"command": command}}, {"say": "Never said."})
    run_id = start(editor, "sleep")
    ground.wait(lambda: len([p for p in alive(ground, "sleep 34.5") if p]) >= 3)
    began = time.monotonic()
    assert editor.command("run.cancel", run_id=run_id)["run"]["status"] == "cancelled"
    ground.wait(lambda: not alive(ground, "sleep 34.5"), 1, "children live on after a cancel")
    assert time.monotonic() - began < 2
    run = ended(ground, editor, run_id)
    assert kinds(run)[-1] == "run.completed"
    assert "Never said." not in str(run)
    refused = ground.cli("runs", "cancel", run_id, "--json")
    assert refused.returncode == 1
    assert b'"conflict"' in refused.stdout


def test_cancel_in_a_model_call_hangs_up(ground: Ground, editor: Editor) -> None:
    ground.play({"say": "word " * 1000, "delay": 0.3})
    run_id = start(editor, "talk")
    ground.wait(lambda: editor.hears(run_id))
    while ground.model.wait_for_disconnect(0):
        pass
    assert editor.command("run.cancel", run_id=run_id)["run"]["status"] == "cancelled"
    assert ground.model.wait_for_disconnect(3), "the model call was not hung up"
    ground.play({"say": "Next."})
    assert ended(ground, editor, start(editor, "talk again"))["output"] == "Next."


def test_nonsense_from_the_model_is_answered_not_run(ground: Ground, editor: Editor) -> None:
    ground.play(
        {"tool": "Write", "arguments": '{"path": "torn.txt", "content": "x'},
        {"tool": "Format", "arguments": {"disk": "all"}},
        {"tool": "Write", "arguments": "[1, 2]"},
        {"tool": "Write", "arguments": {"path": "x.txt"}},
        {"tool": "Write", "arguments": {"path": "x.txt", "content": "x", "mode": "0777"}},
        {"tool": "Write", "arguments": {"path": "../x.txt", "content": "x"}},
        {"tool": "Edit", "arguments": {"path": "README.md", "old_text": "nothing like it", "new_text": "x"}},
        {"tool": "Bash", "arguments": {"command": "echo \x00 > x.txt"}},
        {"tool": "Restore", "arguments": {"checkpoint_id": "checkpoint-none"}},
        {"say": "I give up."},
    )
    run = ended(ground, editor, start(editor, "talk nonsense"))
    assert run["status"] == "completed", run["reason"]
    answers = [e["payload"]["message"] for e in run["events"] if e["type"] == "run.message"]
    answers = [message["content"] for message in answers if message["role"] == "tool"]
    assert len(answers) == 9
    assert all(text.startswith(("ERROR", "FAILED", "DENIED", "CONFLICT")) for text in answers), answers
    assert not [text for text in answers if "Traceback" in text]
    assert not (ground.base / "x.txt").exists()

    ground.play({"tool": "Nonsense", "arguments": "{{{", "repeat": 50})
    run = ended(ground, editor, start(editor, "only nonsense"))
    assert run["status"] == "failed"
    assert "could not be understood" in run["reason"]


def test_a_cut_stream_never_runs_a_tool(ground: Ground, editor: Editor) -> None:
    write = {"tool": "Write", "arguments": {"path": "cut.txt", "content": "x" * 400}}
    for fault in ("cut_tool", "cut", "no_finish"):
        ground.play({**write, "fault": fault, "times": 0})
        run = ended(ground, editor, start(editor, f"be cut by {fault}"))
        assert run["status"] == "failed", (fault, run)
        assert "run.toolcall.requested" not in kinds(run), fault
        ground.play({"say": "Better."})  # so that the circuit of this model stays closed
        assert ended(ground, editor, start(editor, f"recover from {fault}"))["output"] == "Better."


def test_secrets_stay_closed_even_to_a_trusted_run(ground: Ground, editor: Editor) -> None:
    turns = [
        {"tool": "Read", "arguments": {"path": ".env"}},
        {"tool": "Read", "arguments": {"path": "./shop/../.env"}},
        {"tool": "Read", "arguments": {"path": str(ground.root / ".env")}},
        {"tool": "Edit", "arguments": {"path": ".env", "old_text": "TOKEN", "new_text": "x"}},
        {"tool": "Write", "arguments": {"path": ".env", "content": "x"}},
        {"tool": "Write", "arguments": {"path": ".git/hooks/pre-commit", "content": "x"}},
        {"tool": "Bash", "arguments": {"command": "cat .env"}},
        {"tool": "Bash", "arguments": {"command": "cat < .env"}},
        {"tool": "Bash", "arguments": {"command": "true && cat ./shop/../.env"}},
        {"tool": "Grep", "arguments": {"pattern": "TOKEN"}},
    ]
    ground.play(*turns, {"say": "Nothing to see."})
    run = ended(ground, editor, start(editor, "look for secrets", "trusted-mount-autonomous"))
    assert run["status"] == "completed", run["reason"]
    outcomes = [applied["outcome"] for applied in results(run)]
    assert outcomes[:-1] == ["denied"] * 9, list(zip(outcomes, turns, strict=True))
    assert SECRET not in str(run)
    assert SECRET not in str(ground.model.requests)


def test_a_command_cannot_talk_to_the_daemon(ground: Ground, editor: Editor) -> None:
    words = f"['health', '--root', '{ground.root}']"
    script = f"import sys; sys.path.insert(0, '{HOME_OF_PACKAGE}'); from codeforge_ls.cli.main import main; "
    disguised = f'env -u CODEFORGE_TOOL {sys.executable} -c "{script}sys.exit(main({words}))"'
    ground.play(
        {"tool": "Bash", "arguments": {"command": f"{BIN}/codeforge approvals --root {ground.root}"}},
        {"tool": "Bash", "arguments": {"command": f"env -i {BIN}/codeforge health --root {ground.root}"}},
        {"tool": "Bash", "arguments": {"command": disguised}},
        {"say": "No way in."},
    )
    run = ended(ground, editor, start(editor, "approve yourself", "trusted-mount-autonomous"))
    outcomes = [applied["outcome"] for applied in results(run)]
    assert len(outcomes) == 3
    assert not {"applied", "conflict"} & {*outcomes}, results(run)
    assert not [applied for applied in results(run) if '"pid"' in applied["output"]]


def test_a_plan_stops_at_the_step_that_fails(ground: Ground, editor: Editor) -> None:
    def turns(task: str, *turns: Json) -> Json:
        return {"task": task, "turns": [*turns]}

    ground.play(
        turns("first-task", {"say": "One is done."}),
        turns("second-task", {**READ, "repeat": 50}),
        turns("third-task", {"say": "Three is done."}),
    )
    tasks = ["first-task", "second-task", "third-task"]
    plan_id = editor.command("plan.start", tasks=tasks, profile="tiny")["plan_id"]
    plan = ground.wait(lambda: over(editor, plan_id), 30)
    assert plan["status"] == "failed"
    assert [step["status"] for step in plan["steps"]] == ["completed", "failed", "skipped"]
    assert "2 steps of 2" in plan["steps"][1]["error"]
    assert plan["steps"][2]["run_id"] is None

    good = editor.command("plan.start", tasks=["first-task", "third-task"], profile="tiny")["plan_id"]
    plan = ground.wait(lambda: over(editor, good), 30)
    assert plan["status"] == "completed"
    runs = [editor.command("run.get", run_id=step["run_id"])["run"] for step in plan["steps"]]
    assert [run["output"] for run in runs] == ["One is done.", "Three is done."]
    assert runs[0]["ended_at"] <= runs[1]["started_at"]


def over(editor: Editor, plan_id: str) -> Json | None:
    plan: Json = editor.command("plan.get", plan_id=plan_id)["plan"]
    return None if plan["status"] in ("pending", "running") else plan


def test_cancelling_a_plan_cancels_its_run(ground: Ground, editor: Editor) -> None:
    ground.play({"tool": "Bash", "arguments": {"command": "sleep 35.5"}})
    plan_id = editor.command("plan.start", tasks=["sleep", "sleep more"], profile="free")["plan_id"]
    ground.wait(lambda: alive(ground, "sleep 35.5"))
    assert editor.command("plan.cancel", plan_id=plan_id)["plan"]["status"] == "cancelled"
    ground.wait(lambda: not alive(ground, "sleep 35.5"), 1, "children live on after a cancel")
    plan = editor.command("plan.get", plan_id=plan_id)["plan"]
    assert [step["status"] for step in plan["steps"]] == ["cancelled", "skipped"]
    run = editor.command("run.get", run_id=plan["steps"][0]["run_id"])["run"]
    assert run["status"] == "cancelled"
