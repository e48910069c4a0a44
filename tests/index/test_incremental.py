"""Whatever happens to a workspace, in whatever order: the index that followed it answers like one made afresh."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codeforge_ls.index import Index
from codeforge_ls.index.limits import Limits
from tests.index.conftest import make_repository, write_tree

WORDS = ("alpha", "beta", "gamma", "delta", "omega", "parse_file", "HttpClient", "retry")
QUERIES = ("alpha beta", "HttpClient", "parse file retry", "gamma", "omega delta alpha", "mod3 beta")
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null")
# What may happen: (kind, a number that decides about files and texts).
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("write", "write", "burst", "delete", "rename", "touch", "type", "close", "commit", "switch", "ignore")
        ),
        st.integers(0, 10_000),
    ),
    min_size=6,
    max_size=16,
)  # fmt: skip


def source(chance: random.Random) -> str:
    """A small module; a few of its words are those of the queries."""
    names = [chance.choice(WORDS) + chance.choice(("", "_one", "Two")) for _ in range(chance.randint(1, 6))]
    return "".join(
        f"def {name}(x):\n    # {chance.choice(WORDS)} and {chance.choice(WORDS)}\n"
        f"    return {chance.choice(WORDS)}(x)\n\n"
        for name in names
    )


class Story:
    """A workspace with an index that follows it, told of each change as an editor or a watcher would."""

    def __init__(self, root: Path, index: Index) -> None:
        self.root, self.index = root, index
        self.open: dict[str, str] = {}

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", "-C", str(self.root), *IDENTITY, *arguments], check=False, capture_output=True)

    def _files(self) -> list[str]:
        return sorted(str(file.relative_to(self.root)) for file in self.root.glob("src/**/*.py"))

    async def step(self, kind: str, number: int) -> None:
        """Let one thing happen and tell the index."""
        chance = random.Random(number)
        files = self._files() or ["src/mod0.py"]
        path = chance.choice(files)
        changed = [path]
        match kind:
            case "write":
                changed = [f"src/{chance.choice('abc')}/mod{number % 9}.py"]
                write_tree(self.root, {changed[0]: source(chance)})
            case "burst":
                changed = [f"src/many/gen{at}.py" for at in range(60)]
                write_tree(self.root, {one: source(chance) for one in changed})
            case "delete":
                (self.root / path).unlink(missing_ok=True)
            case "rename":
                changed = [path, f"src/b/moved{number % 5}.py"]
                (self.root / "src/b").mkdir(parents=True, exist_ok=True)
                if (self.root / path).exists():
                    (self.root / path).rename(self.root / changed[1])
            case "touch":
                if (self.root / path).exists():
                    os.utime(self.root / path, (number, number))  # the clock may have been set back
            case "type":
                self.open[path] = source(chance)
                await self.index.document_changed(path, self.open[path])
                return
            case "close":
                path = min(self.open, default=path)
                self.open.pop(path, None)
                await self.index.document_closed(path)
                return
            case "commit":
                self._git("checkout", "-qb", f"branch{number}")
                self._git("add", "-A")
                self._git("commit", "-qm", "state")
                return
            case "switch":
                listed = subprocess.run(
                    ["git", "-C", str(self.root), "for-each-ref", "--format=%(refname:short)", "refs/heads"],
                    capture_output=True, text=True, check=True,
                ).stdout.split()  # fmt: skip
                if listed:
                    self._git("checkout", "-qf", chance.choice(listed))
                changed = [""]
            case "ignore":
                changed = [".gitignore"]
                write_tree(self.root, {".gitignore": chance.choice(("", "many/\n", "mod1.py\n*.log\n"))})
        await self.index.files_changed(changed)


async def answers(index: Index) -> dict[str, object]:
    """What an index says, without its own condition."""
    assert await index.settled(60)
    await index.build()
    async with asyncio.timeout(60):
        while any(leg.state != "ready" for leg in index.status().legs):
            await asyncio.sleep(0.05)
    found: dict[str, object] = {}
    for query in QUERIES:
        answer = await index.search(query, limit=30)
        assert answer.legs == ("bm25", "vectors")
        found[query] = [
            (hit.path, hit.start_line, hit.end_line, hit.symbol, round(hit.score, 4)) for hit in answer.hits
        ]
    for name in ("alpha", "http", "mod"):
        listed = (await index.symbols(name, prefix=True, limit=1000)).definitions
        found[f"symbols {name}"] = sorted((one.path, one.name, one.name_line) for one in listed)
    used = (await index.symbol_info("retry", relation="references", limit=1000)).references
    found["uses"] = [(use.path, use.line, use.column, use.kind) for use in used]
    found["map"] = (await index.repo_map(600, query="parse file")).text
    found["files"] = (index.status().files, index.status().symbols, index.status().chunks)
    return found


@pytest.mark.timeout(600)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_an_index_that_followed_answers_like_a_fresh_one(steps: list[tuple[str, int]]) -> None:
    async def tell() -> None:
        with tempfile.TemporaryDirectory() as folder:
            chance = random.Random(1)
            files = {f"src/a/mod{at}.py": source(chance) for at in range(12)}
            root = make_repository(Path(folder) / "repo", files)
            followed = Index(root, Path(folder) / "state", Limits(parsers=1))
            fresh = Index(root, Path(folder) / "fresh", Limits(parsers=1))
            await followed.start()
            await followed.build()
            story = Story(root, followed)
            try:
                for kind, number in steps:
                    await story.step(kind, number)
                got = await answers(followed)
                await fresh.start()
                for path, text in story.open.items():
                    await fresh.document_changed(path, text)
                await fresh.build()
                assert got == await answers(fresh)
            finally:
                await followed.stop()
                await fresh.stop()

    asyncio.run(tell())
