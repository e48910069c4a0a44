"""Each language's definitions, uses and imports, through the real parser processes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.index.conftest import MakeIndex, make_repository
from tests.index.languages import SAMPLES


async def test_every_language_gives_its_definitions_and_uses(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", {sample.path: sample.source for sample in SAMPLES})
    index = await make_index(root)
    assert index.status().message == "", "a grammar is missing"
    assert len(index.status().languages) == len(SAMPLES) >= 19
    wrong: list[str] = []
    for sample in SAMPLES:
        outline = (await index.symbols(path=sample.path)).definitions
        seen = {(f"{one.scope}.{one.name}".lstrip("."), one.kind.value, one.name_line) for one in outline}
        for wanted in sample.defines.split(", "):
            name, kind, line = wanted.split()
            if (name, kind, int(line)) not in seen:
                wrong.append(f"{sample.path}: defines {wanted}; has {sorted(seen)}")
        for one in outline:
            assert one.start_line <= one.name_line <= one.end_line
            text = sample.source.split("\n")[one.name_line - 1]
            assert text[one.name_column :].startswith(one.name.split(".")[0])
            assert one.signature == text.strip()[:200]
        for wanted in sample.uses.split(", "):
            name, kind, line = wanted.split()
            found = (await index.symbol_info(name, relation="references", limit=1000)).references
            if not any((use.path, use.kind, use.line) == (sample.path, kind, int(line)) for use in found):
                wrong.append(
                    f"{sample.path}: uses {wanted}; has {[u for u in found if u.path == sample.path]}"
                )
    assert not wrong, "\n".join(wrong)


async def test_columns_are_utf16_and_positions_find_names(tmp_path: Path, make_index: MakeIndex) -> None:
    source = 'x = "😀é"; y = 1\ndef größe(): pass\ns = "😀"; größe()\n'
    root = make_repository(tmp_path / "repo", {"a.py": "\ufeff" + source})
    index = await make_index(root)
    (definition,) = (await index.symbol_info(path="a.py", line=3, column=12)).definitions
    assert (definition.name, definition.name_line, definition.name_column) == ("größe", 2, 4)
    (use,) = (await index.symbol_info("größe", relation="references")).references
    assert (use.line, use.column, use.kind) == (3, 10, "call")


def test_imports_reach_the_files_they_mean() -> None:
    resolver_of = import_module("codeforge_ls.index.imports").ImportResolver
    paths = [
        "pkg/__init__.py", "pkg/core/graph.py", "pkg/core/tools.py", "web/src/app.ts", "web/src/lib/store.ts",
        "web/src/lib/index.ts", "java/com/shop/Item.java", "go/net/http/server.go", "c/list.h", "src/util/mod.rs",
    ]  # fmt: skip
    resolver = resolver_of(paths)
    cases = {
        ("pkg/core/graph.py", ".tools"): "pkg/core/tools.py",
        ("pkg/core/graph.py", "pkg.core.tools"): "pkg/core/tools.py",
        ("main.py", "pkg.core.graph.Node"): "pkg/core/graph.py",
        ("web/src/app.ts", "./lib/store"): "web/src/lib/store.ts",
        ("web/src/app.ts", "./lib"): "web/src/lib/index.ts",
        ("java/com/shop/Main.java", "com.shop.Item"): "java/com/shop/Item.java",
        ("c/list.c", "list.h"): "c/list.h",
        ("src/main.rs", "crate::util"): "src/util/mod.rs",
    }
    for (importer, module), wanted in cases.items():
        assert [paths[at] for at in resolver.resolve(importer, module)] == [wanted], (importer, module)
    for foreign in ("os", "java.util.List", "react", "<stdio.h>", "", ".", "...."):
        assert len(resolver.resolve("main.py", foreign)) <= 1
