"""Which files are in: ignore rules, caps, hostile names and kinds of files; everything left out is listed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.index.conftest import MakeIndex, make_repository, write_tree


def hostile_tree(root: Path) -> None:
    """Everything that must not be indexed, beside a little that must."""
    write_tree(
        root,
        {
            ".gitignore": "ignored/\n*.log\n",
            "good.py": "def kept(): pass\n",
            "latin.py": "def caf\xe9(): pass\n".encode("latin-1"),
            "empty.py": "",
            "ignored/secret.py": "def ignored_by_git(): pass\n",
            "trace.log": "def log(): pass\n",
            "excluded/private.py": "def by_exclude(): pass\n",
            "sub/.codeforgeignore": "generated/\n!generated/keep.py\n*.gen.py\n",
            "sub/generated/a.py": "def generated(): pass\n",
            "sub/x.gen.py": "def generated(): pass\n",
            "node_modules/lib/index.js": "function vendored() {}\n",
            "big.py": "x = 1\n" * 400_000,
            "line.py": "x = '" + "a" * 30_000 + "'\n",
            "binary.py": b"def binary(): pass\0\0\n",
            "package-lock.json": "{}\n",
            "app.min.js": "function minified(){}\n",
            "/".join(["d"] * 65) + "/deep.py": "def too_deep(): pass\n",
        },
    )
    outside = root.parent / "outside"
    write_tree(outside, {"secret.py": "def outside_secret(): pass\n"})
    (root / "link.py").symlink_to(outside / "secret.py")
    (root / "linked").symlink_to(outside)
    os.mkfifo(root / "pipe.py")
    (root / os.fsdecode(b"bad\xff.py")).write_text("def odd_name(): pass\n")
    (root / "unreadable.py").write_text("def unreadable(): pass\n")
    (root / "unreadable.py").chmod(0)


WANTED = {"good.py", "latin.py", "empty.py", ".gitignore", "sub/.codeforgeignore"}


async def check(root: Path, make_index: MakeIndex) -> dict[str, str]:
    index = await make_index(root)
    skipped = {one.path: one.reason for one in await index.skipped()}
    reasons = {
        "big.py": "size",
        "line.py": "line",
        "binary.py": "binary",
        "package-lock.json": "generated",
        "app.min.js": "generated",
        "link.py": "symlink",
        "bad\\udcff.py": "name is not UTF-8",
        "/".join(["d"] * 65) + "/deep.py": "deeper than 64 folders",
    }
    assert {path: skipped.get(path) for path in reasons} == reasons
    assert index.status().skipped >= len(reasons)
    hits = (await index.search("kept pass secret vendored generated def", limit=100, group_by="file")).hits
    assert (
        {"good.py", "latin.py"}
        <= {hit.path for hit in hits}
        <= WANTED | {"unreadable.py", "excluded/private.py"}
    )
    news = [
        "linked/secret.py",
        "link.py",
        "ignored/secret.py",
        "node_modules/lib/index.js",
        "../outside/secret.py",
    ]
    await index.files_changed(news)
    await index.document_changed("linked/open.py", "def outside_secret(): pass\n")
    assert await index.settled()
    for hidden in ("outside_secret", "ignored_by_git", "vendored", "too_deep", "generated"):
        assert not (await index.symbols(hidden)).definitions
    return skipped


async def test_in_a_git_repository(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", {})
    hostile_tree(root)
    (root / ".git/info/exclude").write_text("excluded/\n")
    other = make_repository(root / "another", {"inner.py": "def inner(): pass\n"})
    subprocess.run(
        ["git", "-C", str(root), "config", "core.fsmonitor", f"touch {root}/hooked; false"], check=True
    )
    skipped = await check(root, make_index)
    assert skipped["another"] == "another repository"
    assert other.exists()
    assert not (root / "hooked").exists(), "a program named by the repository's config ran"


async def test_without_git(tmp_path: Path, make_index: MakeIndex) -> None:
    root = tmp_path / "plain"
    root.mkdir()
    hostile_tree(root)
    write_tree(root, {"vendor/x.py": "def vendored(): pass\n", "build/y.py": "def generated(): pass\n"})
    skipped = await check(root, make_index)
    assert skipped["pipe.py"] == "not a regular file"  # git does not even list pipes


async def test_a_cap_on_the_number_of_files_is_said(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", {f"f{at:02}.py": f"def f{at}(): pass\n" for at in range(30)})
    index = await make_index(root, max_files=20)
    assert index.status().files == 20
    assert [one.reason for one in await index.skipped(3)] == ["over the limit of 20 files"] * 3


async def test_an_empty_and_a_missing_folder(tmp_path: Path, make_index: MakeIndex) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        index = await make_index(tmp_path / name, tmp_path / f"state-{name}")
        assert index.status().state == "ready"
        assert index.status().files == 0
        assert (await index.search("anything")).hits == ()
        assert (await index.repo_map(100)).text == ""
        assert (await index.symbols("x")).definitions == ()


@pytest.fixture(autouse=True)
def _readable_again(tmp_path: Path) -> object:
    yield
    for file in tmp_path.rglob("unreadable.py"):
        file.chmod(0o600)
