"""Each language's definitions, uses and imports, through the real parser processes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
from tree_sitter_language_pack import SupportedLanguage

from codeforge_ls.index.grammars import TEST_LANGUAGES
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


# (source, what it defines, what it uses)
MORE = {
    "a.jl": ("module M\nfunction foo(x)\n  bar(x)\nend\nstruct P end\nend\n", "M foo P", "bar"),
    "a.r": ("foo <- function(x) {\n bar(x)\n}\n", "foo", "bar"),
    "a.ml": ("let rec foo x = bar x\ntype t = A | B\n", "foo t A", "bar"),
    "a.clj": ("(ns my.app)\n(defn foo [x] (bar x))\n", "app foo", "bar"),
    "a.tf": ('resource "aws_instance" "web" {\n ami = lookup(x)\n}\n', "web", "lookup"),
    "CMakeLists.txt": ("function(foo x)\n bar(y)\nendfunction()\n", "foo", "bar"),
    "Makefile": ("CC = gcc\nall: foo.o\n\t$(CC) foo\n", "CC all", ""),
    "a.nix": ("let foo = x: bar x; in foo 1\n", "foo", "bar"),
    "a.fs": ("module M\nlet foo x = bar x\ntype P = { A: int }\n", "M foo P", "bar"),
    "a.erl": ("-module(m).\nfoo(X) -> bar(X).\n", "m foo", "bar"),
    "a.pl": ("package P;\nsub foo { bar(1); }\n", "P foo", "bar"),
    "a.dart": ("class A extends B { void foo() { bar(1); } }\n", "A foo", "B bar"),
    "a.proto": ("message A { int32 x = 1; }\nservice S { rpc Get(A) returns (A); }\n", "A S Get", ""),
    # By the names of the grammar's nodes alone.
    "a.sql": ("CREATE TABLE orders (id INT);\n", "orders", ""),
    "a.sol": ("contract Shop {\n  function sell() public {}\n}\n", "Shop sell", ""),
    "a.mm": ("@interface Shop\n- (void)sell;\n@end\nint total(void) { return 1; }\n", "total", ""),
    "a.graphql": ("type Item { id: ID }\nenum Size { BIG }\n", "Item Size", ""),
}


async def test_less_common_languages_give_definitions(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", {path: source for path, (source, _, _) in MORE.items()})
    index = await make_index(root)
    assert index.status().message == ""
    wrong = []
    for path, (_, defines, uses) in MORE.items():
        names = [one.name for one in (await index.symbols(path=path)).definitions]
        if not set(defines.split()) <= set(names):
            wrong.append(f"{path} defines {names}")
        for name in uses.split():
            found = (await index.symbol_info(name, relation="references", limit=1000)).references
            if path not in {use.path for use in found}:
                wrong.append(f"{path} does not use {name}")
    assert not wrong, wrong


async def test_every_bundled_grammar_parses_or_is_reported(
    tmp_path: Path, make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = [name for name in get_args(SupportedLanguage) if name != "cobol"]
    assert len(bundled) > 150
    monkeypatch.setenv(
        TEST_LANGUAGES, ",".join([f".x{name}={name}" for name in bundled] + [".xnone=nonesuch"])
    )
    text = "function main(x) { return total(x) } // word_in_all\nclass Shop\nend\n"
    files = {f"f.x{name}": f"{text}{name}\n" for name in bundled}
    root = make_repository(tmp_path / "repo", files | {"f.xnone": text})
    index = await make_index(root, parse_timeout_seconds=20)
    status = index.status()
    assert status.files == len(files) + 1, await index.skipped()
    assert status.message.startswith("no grammar for nonesuch"), "a grammar is passed over in silence"
    assert ";" not in status.message, status.message
    assert status.symbols > 30
    assert (await index.search("word_in_all", path_glob="*.xnone")).hits


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
    resolver = resolver_of(enumerate(paths))
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
