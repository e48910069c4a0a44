"""A restore brings back the exact tree and nothing else, and never writes the user's repository."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from pathlib import Path

import pytest

from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.errors import Conflict, InvalidInput
from tests.checkpoints.scene import dot_git, git, repository, take, tree, write


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


async def test_dirty_repository_comes_back_exactly_and_its_git_folder_is_byte_identical(
    tmp_path: Path, state: Path
) -> None:
    ws = repository(tmp_path / "ws")
    git_before, status_before, tree_before = dot_git(ws / ".git"), git(ws, "status", "--porcelain"), tree(ws)
    untouched = (ws / "src/m5.py").stat()
    checkpoints = Checkpoints(ws, state)
    first = await take(checkpoints, call_id="call-1")

    write(ws / "src/m0.py", "agent\n")
    (ws / "src/m1.py").unlink()
    shutil.rmtree(ws / "src")
    write(ws / "src/m5.py", "value = 5\n")
    write(ws / "notes.txt", "changed by the agent\n")
    write(ws / "new/deep/file.txt", "made by the agent\n")
    second = await take(checkpoints, call_id="call-2")
    write(ws / "new/deep/other.txt", "the last change\n")
    before_last = tree(ws)

    last = await checkpoints.restore(second, "run:1")
    assert last.changed == ("new/deep/other.txt",)
    restored = await checkpoints.restore(first, "run:1")
    assert not restored.conflicts
    assert tree(ws) == tree_before
    assert not (ws / "new").exists()
    assert (dot_git(ws / ".git"), git(ws, "status", "--porcelain")) == (git_before, status_before)
    assert first.head == git(ws, "rev-parse", "HEAD").strip()

    again = await checkpoints.restore(last.safety, "run:1")  # redo
    assert tree(ws) == before_last
    assert again.safety.commit != last.safety.commit
    await checkpoints.restore(first, "run:1")
    kept = (ws / "notes.txt").stat()
    await checkpoints.restore(first, "run:1")
    assert ((ws / "notes.txt").stat().st_mtime_ns, (ws / "notes.txt").stat().st_ino) == (
        kept.st_mtime_ns,
        kept.st_ino,
    )
    assert untouched.st_size == (ws / "src/m5.py").stat().st_size


async def test_nested_repositories_and_submodules_are_part_of_the_picture(
    tmp_path: Path, state: Path
) -> None:
    ws = repository(tmp_path / "ws")
    repository(tmp_path / "library")
    git(ws, "submodule", "add", "-q", str(tmp_path / "library"), "lib")
    repository(ws / "vendor/inner")
    (ws / "vendor/empty").mkdir()
    git(ws / "vendor/empty", "init", "-q")
    write(ws / "vendor/empty/a.txt", "in a repository without a commit\n")
    write(ws / "plain/b.txt", "in a plain folder\n")
    before = tree(ws)
    insides = [ws / ".git", ws / "vendor/inner/.git", ws / "vendor/empty/.git"]
    gits = [dot_git(folder) for folder in insides]
    checkpoints = Checkpoints(ws, state)
    checkpoint = await take(checkpoints)

    write(ws / "vendor/inner/src/m1.py", "agent\n")
    (ws / "vendor/empty/a.txt").unlink()
    write(ws / "lib/README", "agent\n")
    write(ws / "lib/added.txt", "agent\n")
    git(ws / "plain", "init", "-q")  # a plain folder became a repository: its file is neither gone nor new
    write(ws / "plain/b.txt", "agent\n")
    restored = await checkpoints.restore(checkpoint, "run:1")
    assert set(restored.changed) == {
        "vendor/inner/src/m1.py",
        "vendor/empty/a.txt",
        "lib/README",
        "lib/added.txt",
        "plain/b.txt",
    }
    assert tree(ws) == before
    assert [dot_git(folder) for folder in insides] == gits
    assert await checkpoints.read(checkpoint, "vendor/inner/README") == b"two\n"


async def test_kinds_modes_and_names(tmp_path: Path, state: Path) -> None:
    ws = tmp_path / "ws"
    odd = [
        b"new\nline",
        b"caf\xe9",
        b"-dash",
        b":colon",
        b" space ",
        b'quo"te',
        b"back\\slash",
        b"tab\t",
        b"*.glob",
    ]
    odd += ["é".encode(), "e\u0301".encode(), b"d\xff/in\xfe", b"~tilde", b"GIT~1", b"a" * 200]
    for name in odd:
        path = Path(os.fsdecode(os.fsencode(ws) + b"/" + name))
        write(path, b"content of " + name)
    write(ws / "secret.key", "0600\n", 0o600)
    write(ws / "group.txt", "0664\n", 0o664)
    write(ws / "run.sh", "#!/bin/sh\n", 0o755)
    write(ws / "dir_to_file/a/b.txt", "b\n")
    write(ws / "file_to_dir", "f\n")
    write(ws / "file_to_link", "f\n")
    (ws / "link").symlink_to("run.sh")
    (ws / "dangling").symlink_to("nowhere/at/all")
    write(ws / "link_dir/target.txt", "t\n")
    (ws / "link_to_dir").symlink_to("link_dir")
    (ws / "empty").mkdir()
    before = tree(ws)
    checkpoints = Checkpoints(ws, state)
    checkpoint = await take(checkpoints)

    for name in odd:
        Path(os.fsdecode(os.fsencode(ws) + b"/" + name)).write_bytes(b"agent")
    (ws / "secret.key").chmod(0o644)
    write(ws / "group.txt", "agent\n", 0o640)
    (ws / "run.sh").chmod(0o644)
    shutil.rmtree(ws / "dir_to_file")
    write(ws / "dir_to_file", "now a file\n")
    (ws / "file_to_dir").unlink()
    write(ws / "file_to_dir/x/y.txt", "now a folder\n")
    (ws / "file_to_link").unlink()
    (ws / "file_to_link").symlink_to("run.sh")
    (ws / "link").unlink()
    write(ws / "link", "now a file\n")
    (ws / "dangling").unlink()
    (ws / "link_to_dir").unlink()
    write(ws / "link_to_dir/own.txt", "now a folder\n")
    (ws / "link_dir").rename(ws / "moved")
    (ws / "link_dir").symlink_to("moved")  # the same files, seen through a link
    restored = await checkpoints.restore(checkpoint, "run:1")
    assert not restored.conflicts
    assert tree(ws) == before
    assert restored.model_dump_json()  # odd names can be written to the log
    assert stat.S_IMODE((ws / "secret.key").stat().st_mode) == 0o600


async def test_bytes_are_kept_whatever_attributes_and_configuration_say(tmp_path: Path, state: Path) -> None:
    ws = repository(tmp_path / "ws")
    marker = tmp_path / "executed"
    script = write(tmp_path / "evil", f'#!/bin/sh\necho "$0 $*" >> {marker}\ncat\n', 0o755)
    write(
        ws / ".gitattributes", "* text=auto ident filter=evil diff=evil\n*.u16 working-tree-encoding=UTF-16\n"
    )
    for key in (
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "diff.evil.textconv",
    ):
        git(ws, "config", key, str(script))
    git(ws, "config", "filter.evil.required", "true")
    git(ws, "config", "diff.external", str(script))
    git(ws, "config", "core.autocrlf", "true")
    git(ws, "config", "core.worktree", str(tmp_path / "elsewhere"))
    git_hooks = ws / ".git/hooks"
    for hook in ("post-index-change", "reference-transaction", "pre-commit", "post-checkout"):
        shutil.copy(script, git_hooks / hook)
    write(ws / "crlf.txt", b"a\r\nb\nc\r\n$Id$\r\n")
    write(ws / "wide.u16", "wide\n".encode("utf-16-le"))
    write(ws / "binary.bin", bytes(range(256)) * 10)
    before, git_before = tree(ws), dot_git(ws / ".git")
    checkpoints = Checkpoints(ws, state)
    checkpoint = await take(checkpoints)
    write(ws / "crlf.txt", b"agent\n")
    write(ws / "wide.u16", b"agent\n")
    (ws / "binary.bin").unlink()
    text = await checkpoints.diff(checkpoint)
    assert "-a\r\n" in text
    await checkpoints.restore(checkpoint, "run:1")
    assert tree(ws) == before
    assert dot_git(ws / ".git") == git_before
    assert not marker.exists()


async def test_git_variables_of_the_caller_do_not_reach_us(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, other = repository(tmp_path / "ws"), repository(tmp_path / "other")
    before, git_before, other_before = tree(ws), dot_git(ws / ".git"), dot_git(other / ".git")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other / ".git/objects"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(tmp_path / "never"))
    checkpoints = Checkpoints(ws, state)
    checkpoint = await take(checkpoints)
    write(ws / "README", "agent\n")
    await checkpoints.restore(checkpoint, "run:1")
    assert tree(ws) == before
    assert (dot_git(ws / ".git"), dot_git(other / ".git")) == (git_before, other_before)


async def test_ignored_files_come_back_when_tracked_or_named(tmp_path: Path, state: Path) -> None:
    ws = repository(tmp_path / "ws")
    write(ws / ".gitignore", "*.log\nbuild/\n")
    write(ws / "kept.log", "tracked though ignored\n")
    git(ws, "add", "-f", "kept.log")
    write(ws / "build/out.o", "ignored\n")
    write(ws / "named.log", "named by the action\n")
    before = tree(ws)
    checkpoints = Checkpoints(ws, state)
    outside = str(tmp_path / "outside.txt")
    names = ["named.log", str(ws / "build/made.log"), outside, "src/../.git/config"]
    checkpoint = await take(checkpoints, force=names)
    assert [(entry.path, entry.reason) for entry in checkpoint.skipped] == [
        (outside, "outside"),
        ("src/../.git/config", "outside"),
    ]
    write(ws / "kept.log", "agent\n")
    write(ws / "named.log", "agent\n")
    write(ws / "build/made.log", "made by the agent\n")
    write(ws / "build/out.o", "rebuilt\n")
    restored = await checkpoints.restore(checkpoint, "run:1")
    assert restored.changed == ("build/made.log", "kept.log", "named.log")
    before[b"build/out.o"] = ("file", 0o644, b"rebuilt\n")  # ignored and not named: no checkpoint holds it
    assert tree(ws) == before


async def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path: Path, state: Path) -> None:
    ws = repository(tmp_path / "ws")
    checkpoints = Checkpoints(ws, state)
    file = ws / "src/m4.py"
    for _ in range(5):
        checkpoint = await take(checkpoints)
        status = file.stat()
        file.write_text("value = 9\n")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert file.stat().st_size == status.st_size
        restored = await checkpoints.restore(checkpoint, "run:1")
        assert restored.changed == ("src/m4.py",)
        assert file.read_text() == "value = 4\n"


async def test_what_changes_during_a_restore_is_left_alone_and_reported(tmp_path: Path, state: Path) -> None:
    ws = repository(tmp_path / "ws")
    away = tmp_path / "away"
    write(away / "deep.txt", "not ours\n")
    write(ws / "zone/deep.txt", "ours\n")
    checkpoints = Checkpoints(ws, state)
    checkpoint = await take(checkpoints)
    for name in ("src/m3.py", "src/m4.py", "src/m5.py", "README", "zone/deep.txt"):
        write(ws / name, "agent\n")
    write(ws / "z_new.txt", "agent\n")
    asked: list[str] = []

    async def editor(path: str, content: bytes | None) -> bool:
        asked.append(path)
        if len(asked) == 1:  # somebody works while we restore
            write(ws / "src/m3.py", "a person typed this\n")
            shutil.rmtree(ws / "zone")
            (ws / "zone").symlink_to(away)
        if path == "src/m4.py":
            write(ws / path, content or b"")
            return True
        if path == "src/m5.py":
            raise Conflict("the buffer has unsaved changes")
        return False

    restored = await checkpoints.restore(checkpoint, "run:1", write=editor)
    assert restored.conflicts == ("src/m3.py", "src/m5.py", "zone/deep.txt")
    assert restored.changed == ("README", "src/m4.py", "z_new.txt")
    assert (ws / "src/m3.py").read_text() == "a person typed this\n"
    assert (ws / "src/m5.py").read_text() == "agent\n"
    assert (away / "deep.txt").read_text() == "not ours\n"
    assert asked[0] == "z_new.txt"  # deletions first
    assert not (ws / "z_new.txt").exists()

    only = await checkpoints.restore(checkpoint, "run:1", only=["src/m5.py", str(ws / "nothing.txt")])
    assert (only.changed, only.conflicts) == (("src/m5.py",), ())
    assert (ws / "src/m3.py").read_text() == "a person typed this\n"


async def test_a_cancelled_restore_that_has_begun_runs_to_its_end(tmp_path: Path, state: Path) -> None:
    ws = repository(tmp_path / "ws")
    checkpoints = Checkpoints(ws, state)
    checkpoint, before = await take(checkpoints), tree(ws)
    for number in range(6):
        write(ws / f"src/m{number}.py", "agent\n")
    begun = asyncio.Event()

    async def editor(path: str, content: bytes | None) -> bool:
        begun.set()
        await asyncio.sleep(0.02)
        if path == "src/m5.py":
            raise RuntimeError("the editor has gone")
        return False

    task = asyncio.create_task(checkpoints.restore(checkpoint, "run:1", write=editor))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await checkpoints.recover() is None
    assert (ws / "src/m5.py").read_text() == "agent\n"
    restored = await checkpoints.restore(checkpoint, "run:1")
    assert restored.changed == ("src/m5.py",)
    assert tree(ws) == before


async def test_roots_that_are_refused_and_files_that_are_skipped(tmp_path: Path, state: Path) -> None:
    ws = repository(tmp_path / "ws")
    for root in (Path("/"), Path.home(), tmp_path / "missing"):
        with pytest.raises(InvalidInput):
            Checkpoints(root, state)
    with pytest.raises(InvalidInput):
        Checkpoints(ws, ws / "state")
    checkpoints = Checkpoints(ws, state)
    for bad in ("a\0b", "half \ud800"):
        with pytest.raises(InvalidInput):
            await take(checkpoints, force=[bad])
    with (ws / "big.bin").open("wb") as handle:
        handle.truncate(60 << 20)
    await take(checkpoints)
    (ws / "README").unlink()
    os.mkfifo(ws / "README")
    checkpoint = await take(checkpoints)
    assert [(entry.path, entry.reason) for entry in checkpoint.skipped] == [
        ("README", "special"),
        ("big.bin", "size"),
    ]
    (ws / "big.bin").unlink()
    assert (await checkpoints.restore(checkpoint, "run:1")).changed == ()
    assert stat.S_ISFIFO((ws / "README").stat().st_mode)
