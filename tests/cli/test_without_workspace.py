"""The verbs that need no open workspace: help, usage, policy, database, logs, doctor, the daemon itself."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codeforge_ls.cli.output import safe
from tests.daemon.place import PACKAGE, Place

VERBS = [
    *("search", "map", "index", "run", "plan", "runs", "show", "approvals", "approve", "deny", "checkpoints"),
    *("rewind", "policy", "health", "doctor", "daemon", "logs", "events", "db"),
]


def codeforge(
    place: Place, *words: str, stdin: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "codeforge_ls.cli.main", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd or place.root,
        env=place.env | {"PYTHONPATH": str(PACKAGE)},
        check=False,
    )


def as_json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.stdout.count("\n") == 1, done
    return json.loads(done.stdout)


def test_version_is_quick_and_imports_nothing_heavy(place: Place) -> None:
    times = []
    for _ in range(5):
        began = time.monotonic()
        assert codeforge(place, "--version").stdout.startswith("codeforge 0.")
        times.append(time.monotonic() - began)
    assert min(times) < 0.15, times
    for words in (["--version"], ["daemon", "status"], ["--help"]):
        script = (
            f"import sys; sys.argv[1:] = {words!r}\nfrom codeforge_ls.cli.main import main\n"
            "try: main()\nexcept SystemExit: pass\n"
            "heavy = {'pydantic', 'rich', 'pygls', 'mcp', 'git', 'numpy', 'tree_sitter'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        said = subprocess.check_output(
            [sys.executable, "-c", script], env=place.env, cwd=place.root, text=True, timeout=30
        )
        assert said.splitlines()[-1] == "[]", (words, said)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    from codeforge_ls.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"codeforge {verb}" in text
    assert "examples:" in text
    assert "--json" in text


def test_wrong_usage_is_2_and_changes_nothing(place: Place) -> None:
    for words in (
        [],
        ["frobnicate"],
        ["search"],
        ["search", "x", "--limit", "many"],
        ["run"],
        ["run", "x", "--resume", "y"],
        ["run", "x", "--yes", "--detach"],
        ["plan", "start"],
        ["plan", "get"],
        ["runs", "cancel"],
        ["logs", "service"],
        ["logs", "--limit", "0"],
        ["policy", "explain", "--tool", "Bash", "--profile", "./nothing.yaml"],
        ["policy", "explain", "git push"],
        ["search", "x", "--set", "novalue"],
        ["search", "x", "--root", "/"],
        ["search", "x", "--root", str(place.base / "none")],
    ):
        done = codeforge(place, *words)
        assert done.returncode in ((2, 1) if "./nothing.yaml" in words else (2,)), (words, done)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
    assert not place.daemons()
    error = as_json(codeforge(place, "logs", "service", "--json"))["error"]
    assert error["code"] == "invalid_input"


def test_daemon_verbs(place: Place) -> None:
    assert as_json(codeforge(place, "daemon", "stop", "--json")) == {"stopped": False}
    none = codeforge(place, "daemon", "status", "--json")
    assert (none.returncode, as_json(none)) == (3, {"running": False})
    started = as_json(codeforge(place, "daemon", "restart", "--json", "--set", "daemon.idle_seconds=99"))
    assert started["running"] is True
    assert started["root"] == str(place.root)
    assert started["idle_seconds"] == 99
    assert started["watchdog"]["over_100_ms"] == 0
    again = as_json(codeforge(place, "--json", "daemon", "status"))
    assert again["pid"] == started["pid"] == place.daemons()[0]
    held = codeforge(place, "db", "migrate", "--json")
    assert (held.returncode, as_json(held)["error"]["code"]) == (1, "conflict")
    other = as_json(codeforge(place, "daemon", "restart", "--json"))
    assert other["pid"] != started["pid"]
    assert as_json(codeforge(place, "daemon", "stop", "--json")) == {"stopped": True}
    place.wait(lambda: not place.processes(), 5)


def test_db_goes_up_and_down_without_a_daemon(place: Place) -> None:
    assert as_json(codeforge(place, "db", "version", "--json"))["current"] == 0
    up = as_json(codeforge(place, "db", "migrate", "--json"))
    assert up["current"] == len(up["done"]) > 0
    assert as_json(codeforge(place, "db", "migrate", "--json"))["done"] == []
    down = as_json(codeforge(place, "db", "rollback", "--json"))
    assert down["current"] == up["current"] - 1
    assert as_json(codeforge(place, "db", "migrate", "--json"))["done"] == down["done"]
    assert codeforge(place, "db", "rollback", "--steps", "0").returncode == 2
    assert not place.daemons()


def test_policy_is_judged_without_a_daemon_one_or_many(place: Place) -> None:
    listed = as_json(codeforge(place, "policy", "list", "--json"))
    names = {profile["name"] for profile in listed["profiles"]}
    assert {"plan-readonly", "editor-interactive", "headless-safe-sandbox"} <= names
    assert as_json(codeforge(place, "policy", "get", "plan-readonly", "--json"))["layers"]
    judged = as_json(
        codeforge(
            place,
            "policy",
            "explain",
            "--profile",
            "plan-readonly",
            "--tool",
            "Edit",
            "--path",
            "a.py",
            "--json",
        )
    )
    assert judged["decision"] == "deny"
    assert judged["reason"]
    unknown = codeforge(place, "policy", "explain", "--profile", "no-such", "--tool", "Read", "--json")
    assert unknown.returncode != 0
    assert as_json(unknown)["error"]["code"] in ("not_found", "invalid_input")

    calls = [{"tool": "Read", "path": "a.py"}, {"tool": "Bash", "command": "rm -rf /"}] * 1000
    lines = [json.dumps(call) for call in calls]
    lines[10:10] = [
        "not json",
        "[]",
        '{"tool": 3}',
        '{"tool": "Read", "extra": 1}',
        '{"tool": "Read", "profile": "no-such"}',
    ]
    lines.append(json.dumps({"tool": "Edit", "path": "a.py", "profile": "trusted-mount-autonomous"}))
    began = time.monotonic()
    done = codeforge(place, "policy", "explain", "--profile", "plan-readonly", stdin="\n".join(lines) + "\n")
    took = time.monotonic() - began
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines)
    assert done.returncode == 2  # because of the five bad lines
    assert [("error" in answer) for answer in answers[8:17]] == [False] * 2 + [True] * 5 + [False] * 2
    assert {answer["decision"] for answer in answers if "error" not in answer} >= {"allow", "deny"}
    assert answers[-1]["decision"] == "allow"
    assert took < 15, took
    assert not place.daemons()


def test_logs_and_doctor(place: Place) -> None:
    state = Path(as_json(codeforge(place, "db", "version", "--json"))["path"]).parent
    (state / "logs").mkdir(mode=0o700)
    hostile = "name \x1b[2J\x9b1m \u202e evil"
    records = [
        {
            "time": "2026-01-01T00:00:00Z",
            "level": "info",
            "service": "daemon",
            "msg": "one",
            "request_id": "r-1",
        },
        {
            "time": "2026-01-01T00:00:01Z",
            "level": "error",
            "service": "daemon",
            "msg": hostile,
            "request_id": "r-2",
        },
    ]
    (state / "logs" / "daemon.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert len(codeforge(place, "logs", "--json").stdout.splitlines()) == 2
    assert as_json(codeforge(place, "logs", "errors", "--json"))["msg"] == hostile
    assert as_json(codeforge(place, "logs", "request", "r-1", "--json"))["msg"] == "one"
    assert len(codeforge(place, "logs", "service", "daemon", "--json").stdout.splitlines()) == 2
    assert codeforge(place, "logs", "service", "nothing").returncode == 1
    shown = codeforge(place, "logs", "errors").stdout
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "\u202e" not in shown
    assert "\\x1b[2J" in shown

    report = as_json(codeforge(place, "doctor", "--json"))
    grades = {check["name"]: check["grade"] for check in report["checks"]}
    assert (
        grades["python"]
        == grades["git"]
        == grades["grammars"]
        == grades["state"]
        == grades["socket"]
        == "good"
    )
    assert grades["daemon"] == grades["model"] == "note"
    assert not place.daemons()


def test_doctor_reads_the_database_when_no_daemon_does(place: Place) -> None:
    def database() -> tuple[int, dict[str, str]]:
        done = codeforge(place, "doctor", "--json")
        (found,) = [check for check in as_json(done)["checks"] if check["name"] == "database"]
        return done.returncode, found

    assert database()[1]["grade"] == "note"
    codeforge(place, "db", "migrate")
    path = Path(as_json(codeforge(place, "db", "version", "--json"))["path"])
    code, found = database()
    assert (code, found["grade"]) == (0, "good"), found
    sound = path.read_bytes()

    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE schema_migrations SET number = 99 WHERE number = 1")
        connection.commit()
    code, found = database()
    assert (code, found["grade"]) == (1, "bad"), found
    assert "newer" in found["text"]

    middle = bytearray(sound)
    middle[4096 : 4096 + 8192] = os.urandom(8192)
    for wrong in (os.urandom(50_000), bytes(middle), sound[:9000]):
        for beside in path.parent.glob("state.db-*"):
            beside.unlink()
        path.write_bytes(wrong)
        code, found = database()
        assert (code, found["grade"]) == (1, "bad"), found
        assert str(path) in found["text"]
        assert ".recover" in found["text"]
        assert path.read_bytes() == wrong  # it was only read
    assert not place.daemons()


def test_folders_that_cannot_be_made_are_named(place: Place) -> None:
    place.env["XDG_STATE_HOME"] = "/proc/nope"
    for words in (["search", "x"], ["health"], ["daemon", "restart"], ["logs"], ["db", "migrate"]):
        done = codeforge(place, *words, "--json")
        error = as_json(done)["error"]
        assert (done.returncode, error["code"]) == (3, "unavailable"), (words, done)
        assert "/proc/nope/codeforge/" in error["message"]
        assert "XDG_STATE_HOME" in error["message"] + error["hint"]
        assert "Traceback" not in done.stderr
    for options in ([], ["--embedded"]):
        _named_by_the_pipe(place, b"/proc/nope/codeforge/", b"XDG_STATE_HOME", *options)
    place.env |= {"XDG_STATE_HOME": str(place.base / "state"), "XDG_RUNTIME_DIR": "", "TMPDIR": "/proc/nope"}
    done = codeforge(place, "search", "x")
    assert done.returncode == 3
    assert "/proc/nope/codeforge-" in done.stderr
    assert "Traceback" not in done.stderr
    _named_by_the_pipe(place, b"/proc/nope/codeforge-", b"TMPDIR")
    assert not place.daemons()

    gone = place.base / "gone"
    gone.mkdir()
    script = (
        "import os, sys; os.rmdir(os.getcwd())\n"
        "from codeforge_ls.cli.main import main; sys.exit(main(['search', 'x']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=gone,
        env=place.env | {"PYTHONPATH": str(PACKAGE)},
        check=False,
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr


def _named_by_the_pipe(place: Place, folder: bytes, variable: bytes, *options: str) -> None:
    for role in ("lsp", "mcp"):
        shim = place.shim(role, *options)
        out, err = shim.communicate(timeout=20)
        assert (shim.returncode, out, err.count(b"\n")) == (3, b"", 1), err
        assert folder in err
        assert variable in err


def test_text_is_made_safe_for_a_terminal() -> None:
    assert safe("plain é 漢字") == "plain é 漢字"
    assert safe("a\x1b]0;t\x07\r\n") == r"a\x1b]0;t\x07\r\n"
    assert safe("a\nb\tc\x1b", lines=True) == "a\nb\tc\\x1b"
    assert safe("\u202e\ud800\x85") == r"\u202e\ud800\x85"
