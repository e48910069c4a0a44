"""Settings that change while they are in force: files that are read again, editors that come with theirs and go."""

from __future__ import annotations

import pytest

from codeforge_ls.config import (
    ConfigStore,
    EditorOptions,
    Severity,
    immutable_fields,
    load_settings,
)
from tests.config.place import Place


def test_a_reload_applies_keeps_or_lists_and_never_takes_half(place: Place) -> None:
    store = ConfigStore(place.root, environ=place.env, overrides={"llm.retries": "5"})
    assert store.watched_files[:2] == (place.user, place.workspace)
    before = store.current

    place.workspace.write_text("approvals:\n  timeout_seconds: 30\nindex:\n  max_files: none of them\n")
    outcome = store.reload()
    assert (outcome.applied, [p.line for p in outcome.problems]) == (False, [4])
    assert store.current is before

    place.workspace.write_text("approvals:\n  timeout_seconds: 30\nindex:\n  parsers: 8\n")
    outcome = store.reload()
    assert outcome.applied
    assert outcome.changed == ("approvals.timeout_seconds",)
    assert outcome.restart_needed == ("index.parsers",)
    (note,) = outcome.problems
    assert (note.file, note.line, note.field) == (str(place.workspace), 4, "index.parsers")
    assert (store.current.approvals.timeout_seconds, store.current.index.parsers) == (30, 2)
    assert store.current.llm.retries == 5
    assert before.approvals.timeout_seconds == 60
    assert store.problems == (note,)

    place.workspace.write_text("approvals:\n  timeout_seconds: soon\n")
    store.reload()
    assert [(p.line, p.field) for p in store.problems] == [(2, "approvals.timeout_seconds")]
    assert store.current.approvals.timeout_seconds == 30
    place.workspace.unlink()
    assert store.reload().changed == ("approvals.timeout_seconds",)
    assert store.problems == ()
    assert "sandbox.backend" in immutable_fields()
    with pytest.raises(ValueError, match="frozen"):
        store.current.llm.model = "x"


def test_an_editors_options_hold_while_it_is_there_and_decide_nothing_that_is_trusted(place: Place) -> None:
    store = ConfigStore(place.root, environ=place.env)
    untouched = store.current
    trusted = {
        "policy": {"default": "trusted-mount-autonomous", "directory": "."},
        "sandbox": {"backend": "none"},
        "events": {"retention_days": 1},
        "log": {"level": "error"},
    }
    outcome = store.take_options(EditorOptions.of("a", {**trusted, "index": {"parsers": 9}}))
    assert outcome.applied
    assert outcome.changed == ()
    ignored = {f"{section}.{name}" for section, fields in trusted.items() for name in fields}
    assert {p.field for p in store.problems_for("a")} == ignored | {"index.parsers"}
    assert {p.severity for p in store.problems_for("a")} == {Severity.WARNING}
    assert store.problems_for("b") == ()  # it is not their doing
    assert store.problems == store.problems_for("a")
    assert store.current == untouched

    mine = {"llm": {"model": "a/model", "retries": 1}, "approvals": {"timeout_seconds": 7}}
    store.take_options(EditorOptions.of("a", mine))
    store.take_options(EditorOptions.of("b", {"llm": {"model": "b/model"}, "lsp": {"symbols": "on"}}))
    assert (store.current.llm.model, store.current.llm.retries) == ("b/model", 1)
    assert store.current.lsp == untouched.lsp  # a matter of that session
    store.take_options(EditorOptions.of("a", {**mine, "runs": {"max_concurrent": 2}}))
    assert store.current.llm.model == "b/model"  # still the one that came last
    refused = store.take_options(EditorOptions.of("b", {"llm": {"model": "c/model", "retries": -1}}))
    assert (refused.applied, store.current.llm.model) == (False, "b/model")
    assert [p.field for p in store.problems] == ["llm.retries"]
    place.user.write_text("runs:\n  max_concurrent: 3\n  max_result_bytes: 5000\n")
    assert store.reload().applied  # an editor's fault keeps nobody's file from being read
    assert (store.current.runs.max_concurrent, store.current.runs.max_result_bytes) == (2, 5000)
    place.user.write_text("runs: [\n")
    assert not store.reload().applied
    store.drop_options("b")
    assert (store.current.llm.model, store.current.llm.retries) == ("a/model", 1)
    store.drop_options("a")  # although the file is broken now
    store.drop_options("nobody")
    assert store.current.llm == untouched.llm
    assert store.current.runs.max_result_bytes == 5000

    for own, theirs, wins in (
        ("", "plan-readonly", True),
        ("", "headless-safe-sandbox", False),
        ("", "somebodys-own", False),
        ("headless-permissive-sandbox", "headless-safe-sandbox", True),
        ("headless-permissive-sandbox", "", False),
        ("plan-readonly", "editor-interactive", False),
    ):
        place.user.write_text(f'policy:\n  default: "{own}"\n')
        loaded = load_settings(place.root, editors=[{"policy": {"default": theirs}}], environ=place.env)
        assert loaded.settings.policy.default == (theirs if wins else own), (own, theirs)
        assert loaded.trusted_profile == own
    loose = {"policy": {"default": "trusted-mount-autonomous"}}
    place.user.unlink()
    place.workspace.write_text("policy:\n  default: trusted-mount-autonomous\n")
    loaded = load_settings(place.root, editors=[loose], environ=place.env)  # neither vouches for the other
    assert loaded.settings.policy.default == ""
