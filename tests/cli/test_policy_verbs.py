"""What a person decides about policies from a terminal: it is in force at once, in the log, and outside the tree."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codeforge_ls.llm.scripted import ScriptedServer
from tests.daemon.place import PACKAGE, Place

STRICT = "# kept\nname: strict\nmode: plan\nrules:\n  - {specifier: {tool: Read}, decision: allow}\n"


@pytest.fixture
def ws(place: Place) -> Place:
    place.env["PYTHONPATH"] = str(PACKAGE)
    return place


def codeforge(place: Place, *words: str, code: int = 0, before: tuple[str, ...] = ()) -> Any:
    done = subprocess.run(
        [*before, sys.executable, "-m", "codeforge_ls.cli.main", *words, "--json"],
        capture_output=True, text=True, timeout=60, cwd=place.root, env=place.env, check=False,
    )  # fmt: skip
    assert done.returncode == code, (words, done)
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def events(place: Place, kind: str) -> list[tuple[str, dict[str, Any]]]:
    (database,) = (place.base / "state").rglob("state.db")
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as opened:
        rows = opened.execute(
            "SELECT actor, payload FROM events WHERE type = ? ORDER BY position", (kind,)
        ).fetchall()
    return [(actor, json.loads(payload)) for actor, payload in rows]


def test_profiles_are_kept_checked_and_recorded(ws: Place) -> None:
    (ws.base / "strict.yaml").write_text(STRICT)
    saved = codeforge(ws, "policy", "save", str(ws.base / "strict.yaml"))
    file = ws.base / "config" / "codeforge" / "policies" / "strict.yaml"
    assert (saved["file"], file.read_text(), oct(file.stat().st_mode)[-3:]) == (str(file), STRICT, "600")
    said = codeforge(ws, "policy", "explain", "--profile", "strict", "--tool", "Read", "--path", "a")
    assert (said["decision"], said["scope"], said["file"], said["line"]) == ("allow", "user", str(file), 5)
    (ws.base / "strict.yaml").write_text(STRICT + "  - {specifier: {tool: Bash}, decision: perhaps}\n")
    wrong = codeforge(ws, "policy", "save", str(ws.base / "strict.yaml"), code=2)["error"]
    assert wrong["data"]["line"] == 6
    (ws.base / "strict.yaml").write_text("name: headless-safe-sandbox\nmode: delegate\n")
    assert (
        "protected"
        in codeforge(ws, "policy", "save", str(ws.base / "strict.yaml"), code=1)["error"]["message"]
    )
    assert codeforge(ws, "policy", "delete", "plan-readonly", code=1)["error"]["code"] == "denied"
    other = file.parent.parent / "other.yaml"
    other.write_text("kept: true\n")
    assert codeforge(ws, "policy", "delete", "../other", code=1)["error"]["code"] == "not_found"
    assert other.exists(), "a name that is a path must delete nothing"
    assert codeforge(ws, "policy", "delete", "strict")["file"] == str(file)
    assert not file.exists()
    assert [(actor, e["change"], e["before"], e["after"]) for actor, e in events(ws, "policy.changed")] == [
        ("cli:terminal", "saved", None, STRICT),
        ("cli:terminal", "deleted", STRICT, None),
    ]
    schema = codeforge(ws, "policy", "schema")
    assert schema["properties"]["rules"]


def test_a_repositorys_settings_count_from_the_moment_a_person_trusts_that_file(ws: Place) -> None:
    own = ws.root / ".codeforge" / "config.yaml"
    own.parent.mkdir()
    own.write_text("llm:\n  model: theirs/model\n")
    assert codeforge(ws, "health")["model"]["name"] == ""
    looked = codeforge(ws, "trust", code=1)
    assert (looked["trusted"], looked["withheld"]) == (False, {"llm.model": "theirs/model"})
    assert codeforge(ws, "trust", "--yes")["trusted"]
    assert codeforge(ws, "health")["model"]["name"] == "theirs/model"
    own.write_text(own.read_text() + "sandbox:\n  backend: none\n")
    assert codeforge(ws, "trust", code=1)["withheld"] == {
        "llm.model": "theirs/model",
        "sandbox.backend": "none",
    }
    assert codeforge(ws, "health")["model"]["name"] == ""
    assert codeforge(ws, "trust", "--yes")["restart_needed"] == ["sandbox.backend"]
    assert not codeforge(ws, "trust", "--revoke")["trusted"]
    assert codeforge(ws, "health")["model"]["name"] == ""
    told = [(actor, event["trusted"]) for actor, event in events(ws, "trust.changed")]
    assert told == [("cli:terminal", True), ("cli:terminal", True), ("cli:terminal", False)]
    assert sorted(path.name for path in ws.root.iterdir()) == [".codeforge", ".git"]


def test_a_run_is_tightened_and_keeps_the_policy_it_began_with(ws: Place) -> None:
    (ws.root / "greet.py").write_text("x = 1\n")
    mine = ws.base / "config" / "codeforge" / "policies" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(
        "name: mine\nmode: delegate\ntermination: {max_steps: 9}\n"
        "rules:\n  - {specifier: {tool: Edit}, decision: allow}\n"
    )
    edit = {"path": "greet.py", "old_text": "1", "new_text": "2"}
    script = [
        {"tool": "Edit", "arguments": edit},
        {"tool": "Bash", "arguments": {"command": "ls"}},
        {"tool": "Edit", "arguments": edit | {"old_text": "2", "new_text": "3"}},
        {"say": "Done."},
    ]
    with ScriptedServer(script) as server:
        ws.env |= {
            "CODEFORGE_LLM_MODEL": "openai/scripted",
            "CODEFORGE_LLM_API_BASE": server.base_url,
            "OPENAI_API_KEY": "sk-none",
        }
        wanted = ("--profile", "mine", "--deny", "Bash", "--max-steps", "3", "--max-cost", "100")
        codeforge(ws, "run", "do it", *wanted, code=1)
    (run,) = codeforge(ws, "runs")["runs"]
    assert "max_steps" in run["reason"] or "3" in run["reason"], run
    (denied,) = events(ws, "run.toolcall.denied")
    decision = denied[1]["decision"]
    assert (decision["decision"], decision["scope"], decision["rule_index"]) == ("deny", "run", 0)
    assert "--deny Bash" in decision["reason"]
    results = [e["applied"]["decision"] for _, e in events(ws, "run.toolcall.result")]
    assert (results[0]["file"], results[0]["line"], results[0]["scope"]) == (str(mine), 5, "user")
    # the profile is another one by now; the run still has its own
    mine.write_text("name: mine\nmode: plan\n")
    ask = ("policy", "explain", "--tool", "Edit", "--path", "greet.py")
    assert codeforge(ws, *ask, "--run", run["id"])["decision"] == "allow"
    assert codeforge(ws, *ask, "--profile", "mine")["decision"] == "deny"
    assert (
        codeforge(ws, "policy", "explain", "--tool", "Bash", "--command", "ls", "--run", run["id"])["scope"]
        == "run"
    )


def test_the_administrators_profile_stands_on_every_other(ws: Place) -> None:
    """/etc is another one for this command alone: bubblewrap puts ours in its place."""
    assert shutil.which("bwrap"), "install bubblewrap"
    policies = ws.base / "etc" / "codeforge" / "policies"
    policies.mkdir(parents=True)
    (policies / "managed.yaml").write_text(
        "name: managed\nmode: delegate\nrules:\n  - {specifier: {tool: Bash}, decision: deny, command_allow: [ls]}\n"
    )
    outside = ("bwrap", "--bind", "/", "/", "--dev", "/dev", "--bind", str(ws.base / "etc"), "/etc")
    ask = ("policy", "explain", "--profile", "trusted-mount-autonomous", "--tool", "Bash", "--command", "ls")
    said = codeforge(ws, *ask, before=outside)
    assert (said["decision"], said["scope"], said["line"]) == ("deny", "managed", 4)
    assert said["file"] == "/etc/codeforge/policies/managed.yaml"
    ws.env |= {"XDG_CONFIG_DIRS": "/nowhere", "CODEFORGE_POLICY_DIR": str(Path("/nowhere"))}
    assert codeforge(ws, *ask, before=outside)["decision"] == "deny"
    assert codeforge(ws, *ask)["decision"] == "allow"


def test_a_plan_tightens_each_of_its_runs(ws: Place) -> None:
    (ws.root / "greet.py").write_text("x = 1\n")
    script = [{"tool": "Bash", "arguments": {"command": "ls"}}, {"say": "Done."}]
    with ScriptedServer(script) as server:
        ws.env |= {
            "CODEFORGE_LLM_MODEL": "openai/scripted",
            "CODEFORGE_LLM_API_BASE": server.base_url,
            "OPENAI_API_KEY": "sk-none",
        }
        wanted = ("--profile", "trusted-mount-autonomous", "--deny", "Bash", "--exec-mode", "hybrid")
        codeforge(ws, "plan", "start", "one", "two", *wanted)
        codeforge(ws, "plan", "start", "three", "--deny", "Bush", code=2)
    runs = codeforge(ws, "runs")["runs"]
    assert [run["execution"]["mode"] for run in runs] == ["hybrid", "hybrid"]
    denied = [event["decision"] for _, event in events(ws, "run.toolcall.denied")]
    assert [(one["decision"], one["scope"]) for one in denied] == [("deny", "run")] * 2
    ask = ("policy", "explain", "--tool", "Bash", "--command", "ls", "--run")
    assert {codeforge(ws, *ask, run["id"])["scope"] for run in runs} == {"run"}
