"""What a sandbox has to hide is found again for every command, though a folder that is unchanged is not read again."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codeforge_ls.model.policy import PolicyLayer, PolicyProfile
from codeforge_ls.policy.change_times import COARSE_NS, trusted_device
from codeforge_ls.policy.masking import Masks
from tests.e2e.conftest import ground_of

RULES = ({"specifier": {"tool": "Read"}, "decision": "deny", "path_allow": ["certs/**", "**/Privé*.txt"]},)
LAYERS = [
    PolicyLayer(profile=PolicyProfile.model_validate({"name": "p", "mode": "delegate", "rules": RULES})),
    PolicyLayer(profile=PolicyProfile.model_validate({"name": "q", "protected_paths": ["**/own/*.bin"]})),
]
NAMES = [
    "a.py",
    "b.txt",
    ".env",
    ".ENV",
    "server.key",
    "secrets",
    "own",
    "x.bin",
    "certs",
    "privé1.txt",
    ".vscode",
    "n",
]


def settled(root: Path) -> None:
    """Wait until no folder has changed too lately to be told from one that changes now."""
    newest = max(Path(folder).stat().st_ctime_ns for folder, _, _ in os.walk(root))
    time.sleep(max(0.0, (newest + COARSE_NS - time.time_ns()) / 1e9 + 0.05))


def seen(masks: Masks) -> tuple[set[Path], set[Path]]:
    found = masks.shielded(LAYERS)
    assert len(set(found.hidden)) == len(found.hidden)
    return set(found.hidden), set(found.fixed)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "ws"
    for folder in ("src/deep/er", "src/own", "docs", "certs", "node_modules/x", ".git"):
        (made / folder).mkdir(parents=True)
        (made / folder / "a.py").write_text("x")
    (made / "src" / "own" / "x.bin").write_text("x")
    return made


def test_a_secret_made_a_moment_before_is_masked_and_what_is_still_is_not_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    scan = os.scandir

    def counted(path: str) -> object:
        reads.append(str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", counted)
    masks = Masks(root)
    first = seen(masks)
    assert first == ({root / "certs", root / "src/own/x.bin"}, set())
    settled(root)
    seen(masks)
    reads.clear()
    assert seen(masks) == first
    on_known_ground = trusted_device(str(root)) is not None
    assert (not reads) is on_known_ground, reads

    deep = root / "src/deep/er"
    before = deep.stat()
    (deep / "server.key").write_text("x")
    os.utime(
        deep, ns=(before.st_atime_ns, before.st_mtime_ns)
    )  # as an archive does, or somebody with a reason
    assert deep / "server.key" in seen(masks)[0]
    (deep / "server.key").rename(deep / "server.txt")
    assert seen(masks) == first
    # a folder that takes the place of another, with all that is in it and with old times
    other = root.parent / "other"
    (other / "er").mkdir(parents=True)
    (other / "er" / ".env").write_text("x")
    (root / "src/deep").rename(root.parent / "gone")
    other.rename(root / "src/deep")
    assert deep / ".env" in seen(masks)[0]
    # a folder that becomes a link leads elsewhere, and one that comes back is entered again
    shutil.move(root / "src/deep", root.parent / "aside")
    (root / "src/deep").symlink_to(root.parent / "aside")
    assert seen(masks) == first
    (root / "src/deep").unlink()
    shutil.move(root.parent / "aside", root / "src/deep")
    assert deep / ".env" in seen(masks)[0]
    # another policy has another answer
    assert {path.name for path in masks.shielded().hidden} == {".env"}


def test_after_any_change_it_is_what_a_first_look_finds(root: Path) -> None:
    settled(root)
    masks, chance = Masks(root), random.Random(7)

    def folders() -> list[Path]:
        return [Path(folder) for folder, _, _ in os.walk(root) if ".git" not in folder]

    def make(place: Path) -> None:
        (place / chance.choice(NAMES)).write_text("x")

    def folder(place: Path) -> None:
        (place / chance.choice(NAMES)).mkdir()

    def move(place: Path) -> None:
        place.rename(chance.choice(folders()) / chance.choice(NAMES))

    def remove(place: Path) -> None:
        if place != root:
            shutil.rmtree(place)

    def link(place: Path) -> None:
        (place / chance.choice(NAMES)).symlink_to(chance.choice(folders()))

    changes: list[Callable[[Path], None]] = [make, make, folder, move, remove, link]
    done = 0
    for number in range(150):
        try:
            chance.choice(changes)(chance.choice(folders()))
            done += 1
        except OSError:
            continue
        assert seen(masks) == seen(Masks(root)), number
        if number == 75:
            settled(root)
            seen(masks)
    assert done > 60


def test_only_local_file_systems_are_trusted(tmp_path: Path) -> None:
    assert trusted_device("/proc") is None
    assert trusted_device(str(tmp_path / "absent")) is None
    there = trusted_device(str(tmp_path))
    assert there in (None, tmp_path.stat().st_dev)


def test_a_command_does_not_see_a_secret_that_was_made_a_moment_before() -> None:
    grep = "grep -rs hunter2 shop; grep -rs plainly shop"
    with ground_of(approvals_timeout_seconds=20) as ground:
        editor = ground.editor(person="allow")

        def looked() -> str:
            ground.play({"tool": "Bash", "arguments": {"command": grep}}, {"say": "Done."})
            run_id = editor.command("run.start", task="look", profile="free")["run_id"]
            ground.wait_for_event(editor, run_id, "run.completed")
            events = editor.command("run.get", run_id=run_id, limit=2000)["events"]
            (result,) = [e["payload"]["applied"] for e in events if e["type"] == "run.toolcall.result"]
            return str(result["output"])

        settled(ground.root)
        assert "plainly" not in looked()
        (ground.root / "shop" / "server.key").write_text("hunter2-do-not-show\n")
        (ground.root / "shop" / "notes.txt").write_text("plainly\n")
        output = looked()
        assert "shop/notes.txt:plainly" in output
        assert "hunter2" not in output
