"""Given policy files of a user and of a project, the project can only tighten and a broken file fails closed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codeforge_ls.model.errors import InvalidInput, NotFound
from codeforge_ls.model.policy import Decision, NetworkMode, PolicyScope, ToolCall
from codeforge_ls.policy.evaluate import evaluate
from codeforge_ls.policy.library import PolicyLibrary, effective_limits, presets_dir
from codeforge_ls.policy.schema import policy_schema

SAFE = "headless-safe-sandbox"
ALLOW_ALL = "rules:\n  - {specifier: {tool: '*'}, decision: allow}\nmode: delegate\n"


class Places:
    """A workspace and a user folder to write policies into."""

    def __init__(self, base: Path) -> None:
        self.root, self.user = base / "ws", base / "user"
        self.project = self.root / ".codeforge" / "policies"
        for folder in (self.project, self.user):
            folder.mkdir(parents=True)

    def library(self, **options: str) -> PolicyLibrary:
        return PolicyLibrary(self.root, self.user, **options)

    def decide(self, name: str, **call: str) -> Decision:
        return evaluate(self.library().get(name), ToolCall.model_validate(call), self.root).decision


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def test_presets_are_known_and_missing_folders_are_empty(tmp_path: Path) -> None:
    library = PolicyLibrary(tmp_path / "nowhere", tmp_path / "nobody")
    assert library.names() == [
        "editor-interactive", "headless-permissive-sandbox", SAFE, "plan-readonly", "trusted-mount-autonomous",
    ]  # fmt: skip
    assert library.problems == []
    assert library.directories == (tmp_path / "nobody", tmp_path / "nowhere/.codeforge/policies")
    with pytest.raises(NotFound, match="no policy profile 'x'"):
        library.get("x")
    assert sorted(path.stem for path in presets_dir().glob("*.yaml")) == library.names()


def test_a_users_file_replaces_the_preset(places: Places) -> None:
    (places.user / "any.yml").write_text(f"name: {SAFE}\n{ALLOW_ALL}")
    (layer,) = places.library().get(SAFE)
    assert (layer.scope, layer.source) == (PolicyScope.USER, str(places.user / "any.yml"))
    assert places.decide(SAFE, tool="Bash", command="rm -rf build") is Decision.ALLOW


def test_a_projects_file_tightens_and_never_loosens(places: Places) -> None:
    (places.project / "a.yaml").write_text(f"name: {SAFE}\n{ALLOW_ALL}")
    (places.project / "mine.yaml").write_text(f"name: mine\n{ALLOW_ALL}")
    for name in (SAFE, "mine"):
        assert [layer.scope for layer in places.library().get(name)] == [
            PolicyScope.PRESET,
            PolicyScope.PROJECT,
        ]
        assert places.decide(name, tool="Bash", command="rm -rf build") is Decision.DENY
        assert places.decide(name, tool="Read", path=".env") is Decision.DENY
        assert places.decide(name, tool="Edit", path="a.py") is Decision.ALLOW
    interactive = places.library(base="editor-interactive").get("mine")
    assert interactive[0].profile.name == "editor-interactive"
    (places.project / "a.yaml").write_text(
        f"name: {SAFE}\nmode: delegate\nrules:\n  - {{specifier: {{tool: Edit}}, decision: ask}}\n"
        "termination: {max_steps: 7, max_cost: 100}\n"
    )
    assert places.decide(SAFE, tool="Edit", path="a.py") is Decision.ASK
    end, gate, limits = effective_limits(places.library().get(SAFE))
    assert (end.max_steps, end.max_cost, end.timeout_seconds) == (7, 5.0, 600)
    assert gate.require_tests_pass
    assert limits.network_mode is NetworkMode.NONE


BROKEN = [
    ("name: x\nmode: wild\n", 2, "mode"),
    ("name: x\nrules:\n  - specifier: {tool: Bash}\n    decision: maybe\n", 4, "decision"),
    ("name: x\nrules:\n  - specifier: {}\n    decision: allow\n", 3, "tool"),
    ("name: x\nunknown: 1\n", 2, "unknown"),
    ("name: x\ntermination:\n  max_steps: -1\n", 3, "max_steps"),
    ("name: x\ntermination:\n  max_steps: many\n", 3, "max_steps"),
    ("mode: plan\n", 1, "name"),
    ("name: ../x\n", 1, "name"),
    ("name: x\nname: y\n", 2, "twice"),
    ("- a\n", 1, "mapping"),
    ("", 1, "empty"),
    ("name: [x\n", 2, "not valid YAML"),
    ("name: &a x\ndescription: *a\n", 1, "anchors"),
    ("name: !!python/object:os.system x\n", 1, "tags"),
    ("name: x\nrules: " + "[" * 400 + "]" * 400, 2, "nested"),
    ("name: x\n? [a]\n: b\n", 2, "plain text"),
    (
        "name: x\nrules:\n  - specifier: {tool: Bash}\n    decision: allow\n    command_allow: [ls]\n"
        "    match: [ls -l, lsof]\n",
        6,
        "'lsof' must match",
    ),
    (
        "name: x\nrules:\n  - specifier: {tool: Bash}\n    decision: allow\n    command_allow: [git log]\n"
        "    not_match: [git log -1]\n",
        6,
        "must not match",
    ),
    (
        "name: x\nrules:\n  - specifier: {tool: Edit}\n    decision: deny\n    path_allow: [doc/**]\n"
        "    match: [src/a]\n",
        6,
        "must match",
    ),
    (
        "name: x\nrules:\n  - specifier: {tool: Bash}\n    decision: allow\n    command_allow: ['']\n",
        5,
        "empty entry",
    ),
    ("name: x\n#" + "x" * 70_000, 0, "larger"),
]


@pytest.mark.parametrize(("text", "line", "said"), BROKEN)
def test_a_broken_file_is_named_with_its_line_and_closes_its_name_only(
    places: Places, text: str, line: int, said: str
) -> None:
    file = places.project / "x.yaml"
    file.write_text(text)
    (places.project / "good.yaml").write_text("name: good\nmode: plan\n")
    library = places.library()
    (problem,) = library.problems
    assert (problem.file, problem.line) == (str(file), line)
    assert said in problem.message
    closed = evaluate(library.get("x"), ToolCall(tool="Read", path="a.py"), places.root)
    assert closed.decision is Decision.DENY
    assert "broken" in closed.reason
    assert (
        evaluate(library.get("good"), ToolCall(tool="Read", path="a"), places.root).decision is Decision.DENY
    )
    assert places.decide(SAFE, tool="Read", path="a.py") is Decision.ALLOW
    with pytest.raises(InvalidInput) as caught:
        library.load_file(file)
    assert caught.value.data == {"file": str(file), "line": line}


def test_a_broken_override_closes_the_name_it_meant(places: Places) -> None:
    (places.user / "other.yaml").write_text(f"name: {SAFE}\nmode: wild\n")
    assert places.decide(SAFE, tool="Read", path="a") is Decision.DENY
    (places.user / "other.yaml").unlink()
    (places.user / f"{SAFE}.yaml").write_bytes(b"name: \xff")
    assert places.decide(SAFE, tool="Read", path="a") is Decision.DENY
    (places.user / f"{SAFE}.yaml").unlink()
    for name in ("a", "b"):
        (places.user / f"{name}.yaml").write_text("name: twin\nmode: delegate\n")
    assert places.decide("twin", tool="Read", path="a") is Decision.DENY
    (places.user / "dir.yaml").mkdir()
    (places.user / "gone.yaml").symlink_to("nowhere")
    assert {Path(problem.file).name for problem in places.library().problems} == {
        "b.yaml",
        "dir.yaml",
        "gone.yaml",
    }


def test_reload_sees_new_files(places: Places) -> None:
    library = places.library()
    assert "late" not in library.names()
    (places.user / "late.yaml").write_text("name: late\nmode: plan\n")
    library.reload()
    assert library.get("late")[0].profile.mode.value == "plan"


def test_the_schema_describes_a_profile() -> None:
    schema = policy_schema()
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert {"name", "mode", "rules", "termination"} <= set(schema["properties"])
    assert schema["required"] == ["name"]
    published = json.loads((presets_dir() / "policy.schema.json").read_text())
    assert published == schema, "run: codeforge policy schema > policies/policy.schema.json"
    for preset in presets_dir().glob("*.yaml"):
        assert preset.read_text().startswith("# yaml-language-server: $schema=policy.schema.json\n"), preset
