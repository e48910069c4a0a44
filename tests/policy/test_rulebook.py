"""What is looked up beforehand changes no answer: every rule that a plain reading finds, in the order of the file."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from codeforge_ls.model.policy import (
    Decision,
    PermissionRule,
    PolicyLayer,
    PolicyMode,
    PolicyProfile,
    PolicyScope,
    ToolCall,
    ToolSpecifier,
)
from codeforge_ls.policy.evaluate import Evaluator, evaluate
from codeforge_ls.policy.library import PolicyLibrary
from codeforge_ls.policy.rulebook import ToolRules
from codeforge_ls.policy.rules import Place, command_applies, path_applies, speaks_of_commands

PIECES = st.sampled_from(
    ["a", "A", "b.py", "B.PY", "é", "E\u0301", "x:y", "v.", "*", "**", "*.py", "[a]", "[", ".", ""]
)
GLOBS = st.lists(PIECES, min_size=1, max_size=4).map("/".join)
PATHS = st.lists(
    st.sampled_from(["a", "A", "b.py", "B.py", "é", "É", "x:y", "v", "[", "ab"]), min_size=1, max_size=4
).map("/".join)
LINES = st.sampled_from(["make a", "make  a", "git log", "ls"])
RULES = st.builds(
    lambda tool, decision, allow, deny, exact, begins: PermissionRule(
        specifier=ToolSpecifier(tool=tool),
        decision=decision,
        path_allow=tuple(allow),
        path_deny=tuple(deny),
        command_exact=tuple(exact),
        command_allow=tuple(begins),
    ),
    st.sampled_from(["Edit", "*", "Bash"]),
    st.sampled_from(list(Decision)),
    st.lists(GLOBS, max_size=2),
    st.lists(GLOBS, max_size=1),
    st.lists(LINES, max_size=1),
    st.lists(st.sampled_from(["make", "git"]), max_size=1),
)


@settings(max_examples=1500, deadline=None)
@given(
    st.lists(RULES, max_size=8),
    st.sampled_from(["Edit", "Bash"]),
    PATHS | st.just("."),
    PATHS | st.none(),
    LINES,
)
def test_a_lookup_finds_what_trying_every_rule_finds(
    rules: list[PermissionRule], tool: str, path: str, real: str | None, text: str
) -> None:
    numbered = [(index, rule) for index, rule in enumerate(rules) if rule.specifier.tool in (tool, "*")]
    made = ToolRules(numbered)
    argv = tuple(text.split())
    for place in (Place(path, real or path), None):
        applying = [one for one in numbered if path_applies(one[1], place)]
        plain = next((one for one in applying if not speaks_of_commands(one[1])), None)
        assert made.for_path(place) == plain
        found, speaking = made.for_line(text, place)
        assert [one for one in found if command_applies(one[1], argv, text)] == [
            one for one in applying if command_applies(one[1], argv, text)
        ]
        assert speaking == any(speaks_of_commands(rule) for _, rule in applying)


def test_many_paths_get_the_answers_that_each_gets_alone(tmp_path: Path) -> None:
    cases = json.loads((Path(__file__).parent / "guarded.json").read_text(encoding="utf-8"))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "link").symlink_to("../.env")
    (tmp_path / "out").symlink_to("/etc")
    paths = [
        "src/a.py",
        "vendor/x/y",
        "VENDOR/z",
        "src/link",
        "out/passwd",
        "../x",
        "",
        "a\0b",
        ".",
        "ab/.env",
    ]
    paths += [text for text in _texts(cases) if "\n" not in text]
    refuse = PermissionRule(
        specifier=ToolSpecifier(tool="*"), decision=Decision.DENY, path_allow=("vendor/**", "**/gen*.py")
    )
    project = PolicyLayer(
        profile=PolicyProfile(name="p", mode=PolicyMode.DELEGATE, rules=(refuse,)), scope=PolicyScope.PROJECT
    )
    library = PolicyLibrary(tmp_path)
    for name in library.names():
        for layers in (library.get(name), [*library.get(name), project], []):
            many = Evaluator(layers, tmp_path)
            for tool in ("Read", "Search", "Write", "MultiEdit", "Restore", "Unheard"):
                alone = {
                    path: evaluate(layers, ToolCall(tool=tool, path=path), tmp_path).decision
                    for path in paths
                }
                assert {path: many.of_path(tool, path) for path in paths} == alone, (name, tool)
    assert len(paths) > 50


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in _texts(one)]


def test_a_line_made_to_be_slow_for_the_parser_is_still_denied_by_name(tmp_path: Path) -> None:
    layers = PolicyLibrary(tmp_path).get("headless-permissive-sandbox")
    slow = "curl x" + " <<curl x" * 40
    answer = evaluate(layers, ToolCall(tool="Bash", command=slow), tmp_path)
    assert answer.decision is Decision.DENY
    assert "curl" in answer.reason
    source = "cat > a.cpp <<'X'\n" + "  out << a << b << c;\n" * 20 + "X\n"
    trusted = PolicyLibrary(tmp_path).get("trusted-mount-autonomous")
    assert evaluate(trusted, ToolCall(tool="Bash", command=source), tmp_path).decision is Decision.ALLOW
