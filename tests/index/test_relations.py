"""Who calls, extends, tests and owns what: on small workspaces of several languages, through the index's front door."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeforge_ls.index import Index
from codeforge_ls.index.picture import dot, strongest, svg
from codeforge_ls.model.errors import InvalidInput, NotFound
from codeforge_ls.model.index import EdgeKind, GraphPicture, IndexState, IndexStatus, PictureEdge, PictureNode
from tests.index.conftest import MakeIndex, make_repository, write_tree

PYTHON = {
    "app/store.py": "class Store:\n    def save(self, x):\n        return check(x)\n\n\ndef check(x):\n    return x\n",
    "app/serve.py": "from app.store import Store, check\n\n\ndef handle(x):\n"
    "    check(x)\n    return Store().save(x)\n",
    "other/store.py": "def check(x):\n    return -x\n",
    "tests/test_store.py": "from app.store import check\n\n\ndef test_check():\n    assert check(1)\n\n\ncheck(2)\n",
}
TYPESCRIPT = {
    "src/store.ts": "export function check(x: number) { return x }\n",
    "src/serve.ts": "import { check } from './store'\nexport function handle(x: number) {\n  return check(x)\n}\n",
}
GO = {
    "store/store.go": "package store\n\nfunc Check(x int) int { return x }\n",
    "store/serve.go": "package store\n\nfunc Handle(x int) int {\n\treturn Check(x)\n}\n",
}
JAVA = {
    "src/a/Store.java": "package a;\nclass Store {\n  int check(int x) { return x; }\n}\n",
    "src/a/Serve.java": "package a;\nclass Serve extends Store {\n  int handle(int x) {\n"
    "    return check(x);\n  }\n}\n",
}


@pytest.mark.parametrize(
    ("files", "path", "line", "column", "caller", "caller_path"),
    [
        (PYTHON, "app/store.py", 6, 5, "handle", "app/serve.py"),
        (TYPESCRIPT, "src/store.ts", 1, 17, "handle", "src/serve.ts"),
        (GO, "store/store.go", 3, 6, "Handle", "store/serve.go"),
        (JAVA, "src/a/Store.java", 3, 7, "handle", "src/a/Serve.java"),
    ],
    ids=["python", "typescript", "go", "java"],
)
async def test_calls_both_ways(
    tmp_path: Path,
    make_index: MakeIndex,
    files: dict[str, str],
    path: str,
    line: int,
    column: int,
    caller: str,
    caller_path: str,
) -> None:
    index = await make_index(make_repository(tmp_path / "repo", files))
    found = await index.calls(path, line, column, "incoming")
    assert found.symbol
    assert found.symbol.path == path
    (site,) = [one for one in found.calls if one.symbol.name == caller]
    assert site.symbol.path == caller_path
    assert [place.path for place in site.places] == [caller_path]
    text = files[caller_path].split("\n")[site.places[0].line - 1]
    assert text[site.places[0].column :].startswith(found.symbol.name)
    back = await index.calls(caller_path, site.symbol.name_line, site.symbol.name_column, "outgoing")
    (callee,) = [one for one in back.calls if one.symbol.name == found.symbol.name]
    assert callee.symbol.path == path
    assert callee.places == site.places


async def test_the_nearest_definition_is_meant(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", PYTHON)
    index = await make_index(root)
    callers = await index.calls("app/store.py", 6, 5, "incoming")
    names = {(one.symbol.name, one.symbol.path) for one in callers.calls}
    assert names == {
        ("save", "app/store.py"), ("handle", "app/serve.py"), ("test_check", "tests/test_store.py"),
        ("test_store.py", "tests/test_store.py"),
    }  # fmt: skip
    assert (await index.calls("other/store.py", 1, 5, "incoming")).calls == ()
    assert (await index.calls("app/serve.py", 6, 12)).symbol.path == "app/store.py"  # type: ignore[union-attr]
    # What an editor has not saved counts at once.
    await index.document_changed("app/new.py", "from app.store import check\n\ndef fresh():\n    check(3)\n")
    assert await index.settled()
    found = await index.calls("app/store.py", 6, 5, "incoming")
    assert "fresh" in {one.symbol.name for one in found.calls}
    about = await index.symbol_info("handle", relation="callees")
    assert {one.name for one in about.definitions} == {"check", "Store", "save"}
    java = make_repository(tmp_path / "java", JAVA)
    other = await make_index(java, tmp_path / "java-state")
    found_types = await other.symbol_info("Store", relation="implementations")
    assert [one.name for one in found_types.definitions] == ["Serve"]
    near = await other.symbol_info("Store", relation="neighbours")
    assert [one.name for one in near.definitions] == ["Serve"]


async def test_walks_decay_say_why_and_stop(tmp_path: Path, make_index: MakeIndex) -> None:
    chain = {
        f"m{n}.py": f"from m{n + 1} import step{n + 1}\n\n\ndef step{n}():\n    return step{n + 1}()\n"
        for n in range(6)
    }
    many = {f"fan/u{n}.py": "from hub import spread\n\n\ndef use():\n    spread()\n" for n in range(40)}
    files = {**chain, **many, "hub.py": "def spread():\n    pass\n", "m6.py": "def step6():\n    return 1\n"}
    files |= {
        "lib/list.h": "int size(void);\n",
        "lib/list.c": '#include "list.h"\nint size(void) { return 0; }\n',
    }
    root = make_repository(tmp_path / "repo", files)
    index = await make_index(root)
    walk = await index.graph_search(symbol="step3", edges=[EdgeKind.CALL])
    scores = {node.name: (round(node.score, 4), node.hops) for node in walk.nodes}
    assert scores == {
        "m4.py::step4": (0.7, 1), "m2.py::step2": (0.7, 1), "m5.py::step5": (0.49, 2), "m1.py::step1": (0.49, 2)
    }  # fmt: skip
    (far,) = [node for node in walk.nodes if node.name == "m5.py::step5"]
    assert [(step.kind.value, step.source, step.target) for step in far.why] == [
        ("call", "m3.py::step3", "m4.py::step4"),
        ("call", "m4.py::step4", "m5.py::step5"),
    ]
    assert walk.start == ("m3.py::step3",)
    assert not walk.capped
    assert walk.index.state is IndexState.READY
    fanned = await index.graph_search(symbol="spread", most=12, limit=50)
    assert fanned.capped
    assert fanned.visited == 12
    assert len(fanned.nodes) <= 12
    assert len((await index.graph_search(symbol="spread")).nodes) == 10
    one_hop = await index.graph_search(path="m3.py", edges=[EdgeKind.IMPORT], hops=1)
    assert {node.path for node in one_hop.nodes} == {"m2.py", "m4.py"}
    paired = await index.graph_search(path="lib/list.h", edges=[EdgeKind.PAIR])
    assert [node.name for node in paired.nodes] == ["lib/list.c"]
    assert (await index.graph_search("step3")).start[0] == "m3.py::step3"
    assert await index.graph_search(symbol="step3") == await index.graph_search(symbol="step3")
    with pytest.raises(NotFound):
        await index.graph_search(symbol="nowhere_at_all")
    with pytest.raises(InvalidInput):
        await index.graph_search()


def _commit(root: Path, who: str, files: dict[str, str]) -> None:
    write_tree(root, files)
    author = ["-c", f"user.name={who}", "-c", f"user.email={who.lower()}@example.org"]
    subprocess.run(["git", "-C", str(root), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(root), *author, "commit", "-qm", "x"], check=True)


async def test_owners_come_from_codeowners_and_the_log(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", {})
    _commit(root, "Ada", {"core/a.py": "def a(): pass\n", "web/b.py": "def b(): pass\n"})
    _commit(root, "Bea", {"core/a.py": "def a(): return 1\n"})
    _commit(root, "Bea", {"core/a.py": "def a(): return 2\n", "core/c.py": "def c(): pass\n"})
    owners = "# who\n*  @everyone\n/core/ @core-team core@example.org  # the heart\n[section]\n"
    write_tree(root, {".github/CODEOWNERS": owners})
    index = await make_index(root)
    found = await index.owners("core/a.py")
    assert found.owners == ("@core-team", "core@example.org")
    assert found.authors == ("Bea <bea@example.org>", "Ada <ada@example.org>")
    assert (await index.owners("web/b.py")).owners == ("@everyone",)
    walk = await index.graph_search(path="core/c.py", edges=[EdgeKind.OWNER])
    assert walk.nodes[0].path == "core/a.py"
    assert walk.nodes[0].why[0].kind is EdgeKind.OWNER
    _commit(root, "Eve", {"web/b.py": "def b(): return 1\n"})  # another HEAD: read again
    assert (await index.owners("web/b.py")).authors == ("Ada <ada@example.org>", "Eve <eve@example.org>")
    plain = tmp_path / "plain"
    write_tree(plain, {"a.py": "def a(): pass\n"})
    assert (await (await make_index(plain, tmp_path / "plain-state")).owners("a.py")).authors == ()


async def test_an_explanation_names_the_rule(tmp_path: Path, make_index: MakeIndex) -> None:
    files: dict[str, str | bytes] = {
        "a.py": "def a():\n    pass\n", ".gitignore": "out/\n", "out/b.py": "x = 1\n", "c.bin": b"\0\1\2",
        "sub/.codeforgeignore": "d.py\n", "sub/d.py": "x = 1\n", "big.py": "x = 1\n" * 1000, "yarn.lock": "x\n",
        "node_modules/e.js": "x()\n",
    }  # fmt: skip
    root = make_repository(tmp_path / "repo", files)
    (root / "link.py").symlink_to(root / "a.py")
    index = await make_index(root, max_file_bytes=2000)
    found = await index.explain("a.py")
    assert (found.indexed, found.language, found.symbols, found.lines) == (True, "python", 1, 3)
    wanted = {
        "out/b.py": ("ignored", ".gitignore"), "sub/d.py": ("ignored", "sub/.codeforgeignore"),
        "c.bin": ("binary", ""), "big.py": ("larger than 2000 bytes", "index.max_file_bytes"),
        "yarn.lock": ("program", ""), "node_modules/e.js": ("never", "node_modules"), "link.py": ("link", ""),
        "none.py": ("no such file", ""), "sub": ("folder", ""),
    }  # fmt: skip
    for path, (words, rule) in wanted.items():
        told = await index.explain(path)
        assert not told.indexed, path
        assert words in told.reason, (path, told.reason)
        assert told.rule == rule, path
    await index.document_changed("a.py", "def b():\n    pass\n")
    assert await index.settled()
    assert (await index.explain("a.py")).unsaved
    with pytest.raises(InvalidInput):
        await index.explain("/etc/passwd")


WORDS = st.text("abcdef <&\"'\\\n\x01é😀", min_size=1, max_size=40)
BUDGETS = st.integers(1, 3000)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=25, unique=True), st.data())
def test_pictures_are_valid_and_the_same_each_time(paths: list[str], data: st.DataObject) -> None:
    nodes = tuple(
        PictureNode(path=path, rank=data.draw(st.floats(0, 1)), symbols=(path[:5],)) for path in paths
    )
    pairs = data.draw(
        st.lists(st.tuples(st.sampled_from(paths), st.sampled_from(paths)), unique=True, max_size=60)
    )
    edges = [PictureEdge(source=a, target=b, weight=1 + n) for n, (a, b) in enumerate(pairs) if a != b]
    status = IndexStatus(state=IndexState.READY, percent=100)
    picture = GraphPicture(nodes=nodes, edges=tuple(reversed(edges)), cut_files=3, index=status)
    drawn = svg(picture)
    tree = ET.fromstring(drawn)
    boxes = tree.findall("{http://www.w3.org/2000/svg}g")
    lines = tree.findall("{http://www.w3.org/2000/svg}path")
    assert (len(boxes), len(lines)) == (len(nodes), len(strongest(picture)))
    places = {box.get("transform") for box in boxes}
    assert len(places) == len(boxes)
    assert drawn == svg(picture)
    assert dot(picture).count("->") == len(edges)


async def test_maps_steer_never_exceed_and_say_what_is_cut(tmp_path: Path, make_index: MakeIndex) -> None:
    files = {
        f"pkg/part{n}.py": f"def part_{n}_first():\n    shared()\n\n\nclass Part{n}:\n    def run(self): shared()\n"
        for n in range(30)
    }
    files |= {
        "pkg/hub.py": "def shared():\n    pass\n",
        "tests/test_hub.py": "def test_shared():\n    shared()\n",
    }
    index = await make_index(make_repository(tmp_path / "repo", files))
    for budget in (1, 5, 16, 64, 333, 1024, 5000):
        drawn = await index.repo_map(budget)
        assert len(drawn.text) <= 4 * budget
        assert drawn.symbols == len(drawn.entries)
        assert drawn.symbols + drawn.cut == 92
        assert all(entry.signature in drawn.text for entry in drawn.entries)
        assert drawn == await index.repo_map(budget)
    whole = await index.repo_map(5000)
    assert (whole.cut, whole.cut_files) == (0, 0)
    assert whole.entries[0].symbol == "shared"
    assert whole.entries[-1].path.startswith("tests/") or whole.entries[0].path == "pkg/hub.py"
    assert "part_17_first" not in (await index.repo_map(40)).text
    assert "part_17_first" in (await index.repo_map(40, query="what does part_17_first do")).text
    assert "part17.py" in (await index.repo_map(40, focus=["pkg/part17.py"])).text
    await index.document_changed("pkg/part9.py", files["pkg/part9.py"])
    assert await index.settled()
    assert "part9.py" in (await index.repo_map(40)).text  # open in an editor


async def names(index: Index, text: str) -> list[str]:
    return [one.name for one in (await index.symbols(text, prefix=True)).definitions]


async def test_names_are_found_by_prefix_part_and_letters_also_unsaved_ones(
    tmp_path: Path, make_index: MakeIndex
) -> None:
    text = "def getUser(): pass\ndef getUserName(): pass\ndef forgetUser(): pass\ndef größe(): pass\nclass GU: pass\n"
    index = await make_index(make_repository(tmp_path / "repo", {"a.py": text}))
    assert await names(index, "getuser") == ["getUser", "getUserName", "forgetUser"]
    assert await names(index, "gu") == ["GU", "getUser", "forgetUser", "getUserName"]
    assert await names(index, "größe") == ["größe"]
    assert await names(index, "%") == await names(index, ".*") == []
    await index.document_changed("a.py", "def getUserTwo(): pass\n")
    assert await index.settled()
    assert await names(index, "getuser") == ["getUserTwo"]
    assert await names(index, "GU") == ["getUserTwo"]
