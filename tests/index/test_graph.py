"""The code graph against networkx and against itself: any way to a state gives the ranks of a fresh build."""

from __future__ import annotations

import asyncio
import math
import random
import sqlite3
from collections import defaultdict
from pathlib import Path

import networkx
import numpy as np
import pytest

from codeforge_ls.index import Index, graph_imports, records
from codeforge_ls.index.arrays_file import BadArrays
from codeforge_ls.index.extract import unpack_symbols
from codeforge_ls.index.graph import RANKED_KINDS, CodeGraph
from codeforge_ls.index.graph_base import IMPORT_WEIGHT, GraphBase, name_factor, with_ranks
from codeforge_ls.index.graph_edges import to_networkx
from codeforge_ls.index.imports import ImportResolver, mentions
from codeforge_ls.index.ranks import MANY_DEFINERS, page_rank
from codeforge_ls.index.snapshot import Snapshot
from tests.index.conftest import MakeIndex, make_repository, write_tree


def oracle_graph(db: sqlite3.Connection, present: dict[str, int]) -> networkx.DiGraph:
    """The file graph by the definition in the README, edge by edge and without an array."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(present)
    paths: dict[int, list[str]] = defaultdict(list)
    for path, content in present.items():
        paths[content].append(path)
    definers: dict[str, set[str]] = defaultdict(set)
    for content, packed in db.execute("SELECT content, symbols FROM use"):
        for name, kind, *_ in unpack_symbols(packed):
            if kind in RANKED_KINDS:
                definers[name].update(paths.get(content, ()))

    def add(user: str, target: str, weight: float) -> None:
        if user != target:
            graph.add_edge(
                user, target, weight=graph.get_edge_data(user, target, {"weight": 0})["weight"] + weight
            )

    for content, name, count in records.uses(db):
        targets = definers[name]
        for user in paths.get(content, ()) if 0 < len(targets) <= MANY_DEFINERS else ():
            for target in targets:
                add(user, target, math.sqrt(count) * name_factor(name) / len(targets))
    ordered = sorted(present)
    resolver = ImportResolver(enumerate(ordered))
    for content, module in {(content, module) for content, module, _ in records.imports(db)}:
        for user in paths.get(content, ()):
            found = [ordered[at] for at in resolver.resolve(user, module) if ordered[at] != user]
            for target in found:
                add(user, target, IMPORT_WEIGHT / len(found))
    return graph


def ranks_of(graph: CodeGraph) -> dict[str, float]:
    return {graph.paths[at]: rank for at, rank in enumerate(graph.ranks()) if graph.is_present(at)}


def a_file(chance: random.Random, at: int) -> str:
    """Python that defines, uses and imports some of a few names, private and long ones among them."""
    names = (
        [f"compute_value_{n}" for n in range(12)] + [f"f{n}" for n in range(6)] + ["_hidden", "_also_hidden"]
    )
    lines = [
        f"from pkg.m{chance.randrange(9)} import {chance.choice(names)}" for _ in range(chance.randrange(3))
    ]
    lines += [
        f"from .m{chance.randrange(9)} import {chance.choice(names)}" for _ in range(chance.randrange(2))
    ]
    for name in chance.sample(names, chance.randrange(5)):
        used = ", ".join(f"{chance.choice(names)}()" for _ in range(chance.randrange(6)))
        lines += [f"def {name}():", f"    return [{used}]", ""]
    return "\n".join(lines) + f"\n# {at}\n"


@pytest.mark.parametrize("seed", [1, 2])
async def test_ranks_after_any_edits_are_those_of_a_fresh_build_and_of_networkx(
    tmp_path: Path, make_index: MakeIndex, seed: int
) -> None:
    chance = random.Random(seed)
    folders = ["pkg", "pkg", "other", "tests"]
    place = lambda n: f"{folders[n % 4]}/m{n}.py"  # noqa: E731
    root = make_repository(tmp_path / "repo", {place(n): a_file(chance, n) for n in range(8)})
    index = await make_index(root)
    snapshot = Snapshot(tmp_path / "state")
    assert snapshot.refresh()
    base_file = tmp_path / "base.graph"
    base = GraphBase.read(snapshot.db, sorted(snapshot.present.items()), snapshot.generation)
    with_ranks(base, CodeGraph(base).ranks()).write(base_file)
    edited = CodeGraph(GraphBase.map(base_file))
    for step in range(14):
        await _edit(index, root, chance, place(chance.randrange(10)), step)
        assert await index.settled()
        assert snapshot.refresh()
        edited.follow(snapshot.db, snapshot.present)
        fresh = CodeGraph(GraphBase.read(snapshot.db, sorted(snapshot.present.items()), 0))
        oracle = oracle_graph(snapshot.db, snapshot.present)
        wanted = networkx.pagerank(oracle, tol=1e-13, max_iter=1000)
        assert ranks_of(fresh) == pytest.approx(wanted, abs=1e-6)
        assert ranks_of(edited) == pytest.approx(wanted, abs=1e-6)
        assert _weights(to_networkx(edited)) == pytest.approx(_weights(oracle), abs=1e-6)
        personal = np.array([float(path.endswith("1.py")) * graph_is for path, graph_is in _present(edited)])
        drawn = page_rank(edited.flow(), edited.flow().present, personal, tolerance=1e-12)
        if personal.any():
            restart = {path: weight for (path, _), weight in zip(_present(edited), personal, strict=True)}
            wanted = networkx.pagerank(
                oracle, personalization={path: restart[path] for path in oracle}, tol=1e-13, max_iter=1000
            )
            found = {path: float(drawn[edited.ids[path]]) for path in oracle}
            assert found == pytest.approx(wanted, abs=1e-6)
    snapshot.close()


def _present(graph: CodeGraph) -> list[tuple[str, bool]]:
    return [(path, graph.is_present(at)) for at, path in enumerate(graph.paths)]


def _weights(graph: networkx.DiGraph) -> dict[tuple[str, str], float]:
    return {(one, other): weight for one, other, weight in graph.edges(data="weight")}


async def _edit(index: Index, root: Path, chance: random.Random, path: str, step: int) -> None:
    what = chance.choice(["save", "save", "type", "close", "delete", "rename"])
    if what == "type":
        await index.document_changed(path, a_file(chance, step))
    elif what == "close":
        await index.document_closed(path)
    elif what == "save" or not (root / path).exists():
        write_tree(root, {path: a_file(chance, step)})
        await index.files_changed([path])
    elif what == "delete":
        (root / path).unlink()
        await index.files_changed([path])
    else:
        (root / path).rename(root / f"{path}.moved.py")
        await index.files_changed([path, f"{path}.moved.py"])


async def test_a_graph_file_that_is_cut_off_is_written_anew(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", {f"m{n}.py": f"def f{n}(): f{n - 1}()\n" for n in range(6)})
    index = await make_index(root)
    drawn = (await index.repo_map(500)).text
    await index.stop()
    (file,) = (tmp_path / "state" / "graph").iterdir()
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(BadArrays):
        GraphBase.map(file)
    again = await make_index(root)
    assert (await again.repo_map(500)).text == drawn
    for _ in range(100):
        names = [one for one in (tmp_path / "state" / "graph").iterdir() if not one.name.startswith(".")]
        if len(names) == 1 and names != [file]:
            break
        await asyncio.sleep(0.1)
        await again.repo_map(500)
    (written,) = names
    assert list(GraphBase.map(written).paths) == [f"m{n}.py" for n in range(6)]


async def test_a_workspace_of_which_every_file_is_replaced_has_ranks(
    tmp_path: Path, make_index: MakeIndex
) -> None:
    module = "from core import helper_function\n\n\ndef caller_{at}():\n    return helper_function()\n"
    files = {f"old/mod{at}.py": module.format(at=at) for at in range(10)}
    root = make_repository(tmp_path / "repo", {**files, "core.py": "def helper_function():\n    return 1\n"})
    followed = await make_index(root)
    await followed.repo_map(500)
    (root / "old").rename(root / "new")
    (root / "core.py").unlink()
    write_tree(root, {"new/core.py": "def helper_function():\n    return 2\n"})
    await followed.files_changed(["old", "new", "core.py"])
    assert await followed.settled(30)
    await followed.build()
    got = await followed.repo_map(500)
    assert got.entries[0].path == "new/core.py"
    assert all(entry.rank > 0 for entry in got.entries)
    fresh = await make_index(root, tmp_path / "fresh")
    assert got.text == (await fresh.repo_map(500)).text


async def test_many_files_that_come_and_go_at_once_are_looked_at_once(
    tmp_path: Path, make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, number = random.Random(3), 90
    files = {f"pkg/m{n}.py": a_file(chance, n) for n in range(number)}
    await make_index(make_repository(tmp_path / "repo", files))
    snapshot = Snapshot(tmp_path / "state")
    assert snapshot.refresh()
    looks = 0

    def counted(folder: str, module: str) -> set[str]:
        nonlocal looks
        looks += 1
        return mentions(folder, module)

    monkeypatch.setattr(graph_imports, "mentions", counted)
    some = {path: snapshot.present[path] for path in sorted(snapshot.present)[: number // 2]}
    imports = sum(text.count("import ") for text in files.values())
    based = CodeGraph(GraphBase.read(snapshot.db, sorted(snapshot.present.items()), 0))
    for graph in (CodeGraph(GraphBase.empty()), based):
        for present in (snapshot.present, some, snapshot.present):
            looks = 0
            graph.follow(snapshot.db, present)
            # once for each import of each file that comes or goes, whatever the others are
            assert looks <= imports
            oracle = oracle_graph(snapshot.db, present)
            assert oracle.number_of_edges() > len(present)
            assert _weights(to_networkx(graph)) == pytest.approx(_weights(oracle), abs=1e-6)
    snapshot.close()
