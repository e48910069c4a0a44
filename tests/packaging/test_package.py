"""What is shipped: a wheel that carries all its data and works without the source tree, and the demo."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    return next(folder.glob("*.whl"))


def test_the_wheel_works_without_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    target, workspace = tmp_path / "installed", tmp_path / "workspace"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
        names = set(archive.namelist())
    data = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "codeforge_ls").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    ]
    assert set(data) <= names
    presets = {f"codeforge_ls/policy/presets/{path.name}" for path in (ROOT / "policies").glob("*.yaml")}
    assert len(presets) == 5
    assert presets <= names
    assert not [name for name in names if name.startswith(("tests", "editors", "docs"))]

    workspace.mkdir()
    (workspace / "hello.py").write_text("def hello():\n    return 1\n")
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    env = {
        **os.environ,
        "PYTHONPATH": str(target),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_RUNTIME_DIR": str(runtime),
    }

    def codeforge(*words: str) -> dict[str, object]:
        argv = [sys.executable, "-m", "codeforge_ls.cli.main", *words, "--json"]
        done = subprocess.run(
            argv, cwd=workspace, env=env, check=True, capture_output=True, text=True, timeout=60
        )
        found: dict[str, object] = json.loads(done.stdout)
        return found

    where = [sys.executable, "-c", "import codeforge_ls; print(codeforge_ls.__file__)"]
    seen = subprocess.run(where, cwd=workspace, env=env, check=True, capture_output=True, text=True).stdout
    assert seen.startswith(str(target))
    try:
        assert len(codeforge("policy", "list")["profiles"]) == 5  # type: ignore[arg-type]
        codeforge("index")
        hits = codeforge("search", "hello")["hits"]
        assert isinstance(hits, list)
        assert hits[0]["path"] == "hello.py"
    finally:
        codeforge("daemon", "stop")


def test_the_demo_does_the_main_job() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CODEFORGE_")}
    folder = Path(tempfile.mkdtemp(prefix="cfdemo", dir="/tmp"))  # short: a socket's name has 107 bytes
    env["TMPDIR"] = str(folder)
    argv = [sys.executable, "-m", "codeforge_ls.cli.main", "demo", "--yes"]
    done = subprocess.run(
        argv, env=env, capture_output=True, text=True, timeout=115, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    red, green = done.stdout.index("1 failed"), done.stdout.index("67 passed")
    assert red < done.stdout.index("approval agent:", red) < green
    assert "+    return G.is_directed() and not has_cycle(G)" in done.stdout
    assert "byte-identical to the start" in done.stdout
    assert not list(folder.glob("codeforge-demo-*"))
    shutil.rmtree(folder)


def test_readme_names_only_verbs_targets_and_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    argv = [sys.executable, "-m", "codeforge_ls.cli.main", "--help"]
    helped = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    known = set(re.findall(r"^ {4}([a-z]+)\b", helped, re.MULTILINE))
    used = set(re.findall(r"(?:^|`|   )codeforge ([a-z]+)", text, re.MULTILINE))
    assert len(used) > 5
    assert used <= known
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
    assert {name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)} == set()
    paths = re.findall(r"`((?:docs|editors|codeforge_ls)/[\w./-]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_extension_carries_the_schema_of_policy_files_and_it_fits_them() -> None:
    extension = ROOT / "editors" / "vscode"
    contributed = json.loads((extension / "package.json").read_text())["contributes"]["yamlValidation"]
    (file,) = {extension / entry["url"] for entry in contributed}
    command = [sys.executable, "-m", "codeforge_ls.policy.schema"]
    made = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    assert file.read_text() == made, (
        "run: python -m codeforge_ls.policy.schema > editors/vscode/schemas/policy.json"
    )
    check = Draft202012Validator(json.loads(made))
    Draft202012Validator.check_schema(json.loads(made))
    presets = [YAML(typ="safe").load(path) for path in sorted((ROOT / "policies").glob("*.yaml"))]
    assert [list(check.iter_errors(preset)) for preset in presets] == [[]] * 5
    for wrong in (
        {"mode": "plan"},
        {"name": "x", "mood": 1},
        {"name": "x", "rules": [{"decision": "allow"}]},
    ):
        assert list(check.iter_errors(wrong)), wrong
