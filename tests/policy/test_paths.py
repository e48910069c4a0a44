"""Given a workspace with links and secrets, no spelling of a closed path opens it, and ordinary paths stay open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.model.policy import Decision, PolicyLayer, PolicyProfile, ToolCall
from codeforge_ls.policy.evaluate import evaluate
from codeforge_ls.policy.globs import matches
from codeforge_ls.policy.library import PolicyLibrary
from codeforge_ls.policy.masking import Masks
from codeforge_ls.policy.paths import resolve_path

CASES = json.loads((Path(__file__).parent / "paths.json").read_text())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("paths")
    ws = base / "ws"
    for folder in (
        "src",
        "pkg/secrets/deep",
        "secrets",
        "certs",
        "deploy",
        ".git/hooks",
        ".codeforge",
        "../outdir",
    ):
        (ws / folder).mkdir(parents=True, exist_ok=True)
    (base / "ws-evil").mkdir()
    for name in (
        ".env",
        ".git/config",
        "secrets/k",
        "src/a.py",
        "pkg/secrets/k",
        "../outside",
        "../outdir/x",
    ):
        (ws / name).write_text("x")
    (ws / "link_to_env").symlink_to(".env")
    (ws / "dirlink").symlink_to("secrets")
    (ws / "pkg/up").symlink_to("..")
    (ws / "outlink").symlink_to("../outdir")
    (ws / "link_out_file").symlink_to("../outside")
    (ws / "gitlink").symlink_to(".git")
    (ws / "goodlink").symlink_to("src/a.py")
    return ws


def spelled(case: str, root: Path) -> str:
    return case.replace("ROOT", str(root)).replace("WS", root.name)


def decide(root: Path, tool: str, path: str, profile: str = "trusted-mount-autonomous") -> Decision:
    return evaluate(PolicyLibrary(root).get(profile), ToolCall(tool=tool, path=path), root).decision


def test_the_corpus_is_as_large_as_the_bar() -> None:
    assert sum(map(len, CASES.values())) >= 63


def test_closed_paths_are_denied_to_every_tool_and_open_ones_are_not(root: Path) -> None:
    layers = PolicyLibrary(root).get("trusted-mount-autonomous")

    def answer(tool: str, case: str) -> Decision:
        return evaluate(layers, ToolCall(tool=tool, path=spelled(case, root)), root).decision

    tools = ("Read", "Grep", "Glob", "Edit", "MultiEdit", "Write", "mcp:files:read")
    wrong = [(t, c) for c in CASES["never"] for t in tools if answer(t, c) is not Decision.DENY]
    writers = ("Edit", "MultiEdit", "Write", "mcp:files:write")
    wrong += [(t, c) for c in CASES["never_written"] for t in writers if answer(t, c) is not Decision.DENY]
    wrong += [
        (t, c) for c in CASES["open"] for t in ("Read", "Edit", "Write") if answer(t, c) is not Decision.ALLOW
    ]
    readers = ("Read", "Grep", "Glob")
    wrong += [
        (t, c)
        for c in CASES["never_shown"]
        for t in (*readers, *writers)
        if answer(t, c) is not Decision.DENY
    ]
    wrong += [("Read", c) for c in CASES["never_written"] if answer("Read", c) is not Decision.ALLOW]
    assert wrong == []


def test_commands_that_name_them_through_links_are_denied_too(root: Path) -> None:
    layers = PolicyLibrary(root).get("trusted-mount-autonomous")
    for command in (
        "cat link_to_env",
        "cat dirlink/k",
        "cd pkg && cat up/.env",
        "cp src/a.py gitlink/hooks/post-commit",
        "echo x > gitlink/config",
        "echo x > outlink/x",
        "cat src/a.py > link_out_file",
        "cp src/a.py link_to_env",
    ):
        assert evaluate(layers, ToolCall(tool="Bash", command=command), root).decision is Decision.DENY, (
            command
        )
    for command, decision in (
        ("cat goodlink", Decision.ALLOW),
        ("ls .git .vscode", Decision.ALLOW),
        ("grep -r x --exclude-dir=.git .", Decision.ALLOW),
        ("find . -not -path './.git/*'", Decision.ALLOW),
        ("cat .git/config", Decision.DENY),
        ("head -5 gitlink/config", Decision.DENY),
        ("rg x .codeforge", Decision.DENY),
        ("wc < .bashrc", Decision.DENY),
    ):
        assert evaluate(layers, ToolCall(tool="Bash", command=command), root).decision is decision, command


def test_both_readings_of_a_path(root: Path) -> None:
    linked = resolve_path(root, "dirlink/../src/a.py")
    assert (linked.lexical, linked.inside) == ("src/a.py", True)
    assert resolve_path(root, ".").lexical == "."
    out = resolve_path(root, "outlink/x")
    assert not out.inside
    assert out.real == str((root / "../outdir/x").resolve())
    new = resolve_path(root, "dirlink/new/file")
    assert new.real == str(root.resolve() / "secrets/new/file")
    alias = root.parent / "alias"
    alias.symlink_to(root)
    assert resolve_path(alias, str(root / "src/a.py")).lexical == "src/a.py"
    assert resolve_path(alias, str(alias / "src/a.py")).inside
    for bad in ("", "a\0b", "\ud800", "x" * 5000, "file://host/x", "file:x", "file:///%ff", "file:///a?b"):
        with pytest.raises(InvalidInput) as caught:
            resolve_path(root, bad)
        assert caught.value.data["field"] == "path"


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("secrets/**", "secrets", True),
        ("secrets/**", "secrets/a/b", True),
        ("secrets/**", "pkg/secrets/a", False),
        ("**/.env", ".env", True),
        ("**/.env", "a/b/.env", True),
        ("*.py", "a/b.py", False),
        ("src/*.py", "src/a.py", True),
        ("src/**/*.py", "src/a.py", True),
        ("src/**/t/**/*.py", "src/a/t/b/c.py", True),
        ("src/**/t/**/*.py", "src/a/b/c.py", False),
        ("**/a/b/**/a/c", "a/b/a/b/x/a/c", True),
        ("[a-c]?.txt", "bx.txt", True),
        ("**", "anything/at/all", True),
        ("a", "ab", False),
    ],
)
def test_globs(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


def test_what_a_sandbox_has_to_mask(root: Path) -> None:
    (root / "pkg/.vscode").mkdir(exist_ok=True)

    def names(layers: Sequence[PolicyLayer] = ()) -> tuple[list[str], list[str]]:
        found = Masks(root).shielded(layers)
        hidden, fixed = ([path.relative_to(root).as_posix() for path in part] for part in found)
        return sorted(hidden), sorted(fixed)

    assert names() == ([".env", "pkg/secrets", "secrets"], [".codeforge", "pkg/.vscode"])
    # what may not be read may not be read by a command either
    rules = (
        {"specifier": {"tool": "Read"}, "decision": "allow", "path_allow": ["deploy/**"]},
        {"specifier": {"tool": "Read"}, "decision": "deny", "path_allow": ["deploy/**", "certs/**"]},
        {"specifier": {"tool": "*"}, "decision": "allow"},
    )
    closed = PolicyProfile.model_validate({"name": "closed", "rules": rules, "protected_paths": ["src/**"]})
    assert names([PolicyLayer(profile=closed)])[0] == [".env", "certs", "pkg/secrets", "secrets", "src"]


def test_only_a_users_own_rule_that_spells_it_out_lifts_the_guard(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nrules:\n  - {specifier: {tool: Read}, decision: allow, path_allow: [.env, 'pkg/**']}\n"
    )
    library = PolicyLibrary(root, tmp_path)
    layers = library.get("mine")
    assert evaluate(layers, ToolCall(tool="Read", path=".env"), root).decision is Decision.ALLOW
    assert evaluate(layers, ToolCall(tool="Read", path="pkg/secrets/k"), root).decision is Decision.DENY
    assert evaluate(layers, ToolCall(tool="Read", path="link_to_env"), root).decision is Decision.DENY
