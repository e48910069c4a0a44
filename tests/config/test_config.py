"""Settings: who wins, what is refused with which place, what a repository may not decide."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codeforge_ls.config import (
    ConfigStore,
    Settings,
    Severity,
    load_settings,
    parse_overrides,
    state_dir,
    user_config_dir,
    worker_environment,
    workspace_id,
)
from codeforge_ls.config.example import documented, render_example
from codeforge_ls.config.settings import FIELDS, Mark
from codeforge_ls.model.errors import Conflict, Unavailable
from tests.config.place import Place

REPOSITORY = Path(__file__).parents[2]


def test_each_layer_beats_the_one_below(place: Place) -> None:
    """Removing the layers one by one, from the highest, uncovers the value of the next."""
    place.user.write_text("index:\n  max_files: 2\nllm:\n  model: user/model\n")
    place.workspace.write_text("index:\n  max_files: 3\n")
    options = {"index": {"max_files": 4}, "llm": {"model": None}}
    for name, value, source in (
        ("set", 7, "--set"),
        ("CODEFORGE_INDEX_MAX_FILES", 6, "environment CODEFORGE_INDEX_MAX_FILES"),
        ("editor", 4, "editor options"),
        ("workspace", 3, f"{place.workspace}:2"),
        ("user", 2, f"{place.user}:2"),
        ("default", 100_000, "default"),
    ):
        loaded = load_settings(
            place.root,
            editors=[options] if name in ("set", "CODEFORGE_INDEX_MAX_FILES", "editor") else [],
            overrides=parse_overrides(["index.max_files=7"]) if name == "set" else None,
            environ=place.env
            | ({"CODEFORGE_INDEX_MAX_FILES": "6"} if name in ("set", "CODEFORGE_INDEX_MAX_FILES") else {}),
        )
        assert (loaded.settings.index.max_files, loaded.sources["index.max_files"]) == (value, source)
        assert loaded.problems == ()
        if name == "workspace":
            assert loaded.settings.llm.model == "user/model"
            place.workspace.unlink()
        if name == "user":
            place.user.unlink()


def test_every_field_has_its_environment_names_and_reaches_workers(place: Place) -> None:
    settings = load_settings(place.root, environ=place.env).settings
    values = settings.model_dump(mode="json")
    other = {
        "api_base": "http://x",
        "temperature": "0.5",
        "max_output_tokens": "9",
        "level": "debug",
        "default": "p",
        "model": "m",
        "http": "true",
        "port": "7",
        **dict.fromkeys(
            ("memory_mb", "cpu_quota", "pids_limit", "storage_gb", "wall_seconds", "output_mb"), "7"
        ),
    }
    for path, field in FIELDS.items():
        value = str(other.get(field.name) or values[field.section][field.name] or "other")
        for variable in (field.env, f"CODEFORGE_{field.section}__{field.name}".upper()):
            loaded = load_settings(place.root, environ=place.env | {variable: value})
            assert (loaded.sources[path], loaded.problems) == (f"environment {variable}", ()), variable
            env = worker_environment(
                loaded.settings, {"PATH": os.environ["PATH"], "CODEFORGE_LLM_BOGUS": "1"}
            )
            code = "import sys; from codeforge_ls.config import Settings; print(Settings().model_dump_json())"
            if (
                variable == "CODEFORGE_LLM_MODEL"
            ):  # one real process stands for all: the reading is pydantic-settings'
                run = subprocess.run(
                    [sys.executable, "-c", code],
                    env=env,
                    cwd=REPOSITORY,
                    capture_output=True,
                    text=True,
                    check=True,
                    timeout=30,
                )
                assert Settings.model_validate_json(run.stdout) == loaded.settings
    aliased = load_settings(
        place.root, environ=place.env | {"CODEFORGE_POLICY_DIR": "/p", "CODEFORGE_LLM_MODEL": ""}
    )
    assert aliased.settings.policy.directory == "/p"
    unknown = {
        "CODEFORGE_LMM_MODEL": "x",
        "CODEFORGE_TOOL": "1",
        "CODEFORGE_STATE_X": "1",
        "CODEFORGE_DEV_Y": "1",
    }
    loaded = load_settings(place.root, environ=place.env | unknown)
    assert [(p.file, p.field, p.severity) for p in loaded.problems] == [
        ("environment", "CODEFORGE_LMM_MODEL", Severity.WARNING)
    ]
    assert loaded.is_sound


def test_bad_values_are_reported_with_their_place_and_the_layer_below_stands(place: Place) -> None:
    place.user.write_text(
        "llm:\n  retries: 99\n  modle: x\n  temperature: .nan\nlog:\n  level: loud\nindx: {}\nindex: 5\n"
        "approvals:\n  timeout_seconds: true\nllm2: 1\n"
    )
    loaded = load_settings(
        place.root,
        editors=[{"llm": {"total_timeout": "soon"}, "lsp": 3, "x\ud800": {}}],
        overrides={"llm.api_base": "ftp://x", "index.parsers": "3"},
        environ=place.env | {"CODEFORGE_INDEX_MAX_LINE": "1"},
    )
    places = {(Path(p.file).name, p.line, p.field) for p in loaded.problems}
    assert places == {
        ("config.yaml", 2, "llm.retries"),
        ("config.yaml", 3, "llm.modle"),
        ("config.yaml", 4, "llm.temperature"),
        ("config.yaml", 6, "log.level"),
        ("config.yaml", 7, "indx"),
        ("config.yaml", 8, "index"),
        ("config.yaml", 10, "approvals.timeout_seconds"),
        ("config.yaml", 11, "llm2"),
        ("editor options", 0, "llm.total_timeout"),
        ("editor options", 0, "lsp"),
        ("editor options", 0, "x\\ud800"),
        ("environment", 0, "index.max_line"),
        ("--set", 0, "llm.api_base"),
    }
    messages = {p.field: p.message for p in loaded.problems}
    assert "did you mean llm.model" in messages["llm.modle"]
    assert "'debug', 'info', 'warning' or 'error'" in messages["log.level"]
    assert "CODEFORGE_INDEX_MAX_LINE" in messages["index.max_line"]
    assert not loaded.is_sound
    expected = Settings.model_construct().model_dump()
    expected["index"]["parsers"] = 3
    assert loaded.settings.model_dump() == expected
    missing = load_settings(place.root, config_path=place.root / "no.yaml", environ=place.env)
    assert [p.message for p in missing.problems] == ["there is no such file"]


def test_a_repository_does_not_choose_model_address_isolation_or_a_looser_policy(place: Place) -> None:
    trusted = [field for field in FIELDS.values() if field.has(Mark.TRUSTED)]
    assert {f.path for f in trusted} >= {
        "llm.model",
        "llm.api_base",
        "sandbox.backend",
        "log.level",
        "policy.directory",
    }
    place.workspace.write_text(
        "llm:\n  model: evil/model\n  api_base: http://evil\n  temperature: 2\n  max_output_tokens: 9\n  retries: 10\n"
        "  first_token_timeout: 9\n  idle_timeout: 9\n  total_timeout: 9\nsandbox:\n  backend: none\n"
        "  mode: hybrid\n  network: host\n  memory_mb: 9\n  cpu_quota: 9\n  pids_limit: 9\n  storage_gb: 9\n"
        "  wall_seconds: 9\n  output_mb: 9\n  engine: evil\n  image: evil\nlog:\n  level: error\n"
        "policy:\n  directory: .\n  default: trusted-mount-autonomous\nevents:\n  retention_days: 1\n"
        "rate_limit:\n  per_second: 0\n  burst: 999\n"
        "embedding:\n  model: evil/model\n  api_base: http://evil\n"
        "mcp:\n  http: true\n  port: 7\n  session_seconds: 9\n"
    )
    loaded = load_settings(place.root, environ=place.env)
    assert loaded.settings.model_dump() == Settings.model_construct().model_dump()
    assert {p.field for p in loaded.problems} == {f.path for f in trusted} | {"policy.default"}
    assert {p.severity for p in loaded.problems} == {Severity.WARNING}

    # The very file that a person trusts decides all but the policy, and one byte more ends it.
    store = ConfigStore(place.root, environ=place.env)
    found = store.file_trust
    assert not found.trusted
    never = {"policy.directory", "mcp.http", "mcp.port", "mcp.session_seconds"}
    assert set(found.withheld) == {f.path for f in trusted} - never
    with pytest.raises(Conflict):
        store.trust("0" * 64)
    store.trust(found.sha256)
    loaded = load_settings(place.root, environ=place.env)
    assert (loaded.settings.llm.model, loaded.settings.sandbox.backend) == ("evil/model", "none")
    assert (loaded.settings.policy.default, loaded.settings.policy.directory) == ("", "")
    assert not loaded.settings.mcp.http
    assert {p.field for p in loaded.problems} == {"policy.default"} | never
    assert "sandbox.backend" in store.reload().restart_needed
    assert store.current.llm.model == "evil/model"
    text = place.workspace.read_text()
    place.workspace.write_text(text + "\n")
    assert load_settings(place.root, environ=place.env).settings.llm.model == ""
    place.workspace.write_text(text)
    store.trust(None)
    assert load_settings(place.root, environ=place.env).settings.llm.model == ""
    (record,) = place.user.parent.glob("workspaces/*")
    (record / "trust.json").write_text('["config.yaml"]')
    assert load_settings(place.root, environ=place.env).settings.llm.model == ""

    for mine, theirs, wins in (
        ("", "plan-readonly", True),
        ("", "editor-interactive", True),
        ("", "headless-safe-sandbox", False),
        ("", "somebodys-own", False),
        ("headless-permissive-sandbox", "headless-safe-sandbox", True),
        ("headless-safe-sandbox", "headless-permissive-sandbox", False),
        ("plan-readonly", "editor-interactive", False),
        ("my-own", "plan-readonly", True),
        ("my-own", "editor-interactive", False),
        ("my-own", '""', False),
    ):
        place.user.write_text(f'policy:\n  default: "{mine}"\n')
        place.workspace.write_text(f"policy:\n  default: {theirs}\n")
        found = load_settings(place.root, environ=place.env).settings.policy.default
        assert found == (theirs if wins else mine), (mine, theirs)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(20)
)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (LAUGHS, 1, "anchors and aliases"),
        (
            "llm:\n  model: !!python/object/apply:os.system ['touch /tmp/owned']\n",
            2,
            "tags are not supported",
        ),
        ("llm:\n  model: !secret x\n", 2, "tags are not supported"),
        ("- a\n- b\n", 1, "must be a mapping"),
        ("just text", 1, "must be a mapping"),
        ("llm:\n  model: a\n  model: b\n", 3, "twice"),
        ("llm: {model: 'x\n", 2, "not valid YAML"),
        ("llm:\n\tmodel: x\n", 2, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("? {a: b}\n: c\n", 1, "plain text"),
        ("[" * 60_000, 1, "nested too deeply"),
        ("llm:\n  model: \0\n", 0, "not valid YAML"),
        (b"llm:\n  model: \xff\n", 2, "not UTF-8"),
        ("#" * 70_000, 0, "larger than 65536 bytes"),
        (None, 0, "not a regular file"),
    ],
)
def test_hostile_files_are_refused_quickly(
    place: Place, content: str | bytes | None, line: int, message: str
) -> None:
    if content is None:
        os.mkfifo(place.workspace)  # opening it would wait for ever
    else:
        place.workspace.write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.process_time()
    loaded = load_settings(place.root, environ=place.env)
    (problem,) = loaded.problems
    assert (problem.file, problem.line) == (str(place.workspace), line)
    assert message in problem.message
    assert problem.text.startswith(str(place.workspace))
    assert loaded.settings.model_dump() == Settings.model_construct().model_dump()
    assert time.process_time() - started < 3
    many = {f"k{n}": n for n in range(20_000)}
    assert len(load_settings(place.root, editors=[many], environ=place.env).problems) == 51
    assert time.process_time() - started < 4


def test_the_example_file_is_the_model_and_loads_as_the_defaults(place: Place) -> None:
    example = REPOSITORY / "codeforge.yaml.example"
    text = example.read_text()
    assert text == render_example(), "run: python -m codeforge_ls.config.example > codeforge.yaml.example"
    loaded = load_settings(place.root, config_path=example, environ=place.env)
    assert (loaded.problems, loaded.settings.model_dump()) == ((), Settings.model_construct().model_dump())
    documentation = documented()
    for field in FIELDS.values():
        assert documentation[field.path], field.path
        assert field.env in text


def test_state_lies_outside_the_tree_private_and_the_same_through_a_symlink(tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": "relative/is/invalid"}
    root = tmp_path / "work"
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    folder = state_dir(root, env)
    assert (
        folder == state_dir(tmp_path / "link", env) == tmp_path / "state" / "codeforge" / workspace_id(root)
    )
    assert len(workspace_id(root)) == 12
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    assert stat.S_IMODE(state_dir(root, env).stat().st_mode) == 0o700
    assert user_config_dir(env).is_absolute()
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be made"):
        state_dir(root, {"XDG_STATE_HOME": str(tmp_path / "file")})


def test_importing_the_settings_stays_light() -> None:
    code = (
        "import sys, time, codeforge_ls.config\n"
        "heavy = {'ruamel', 'structlog', 'platformdirs', 'aiosqlite', 'rich', 'git', 'numpy'} & set(sys.modules)\n"
        "print(sorted(heavy), time.process_time())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
    )
    heavy, seconds = run.stdout.rsplit(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 0.75  # 0.19 s on a quiet machine; the target is 0.25
