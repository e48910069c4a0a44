"""The audit trail: who, what, when and why; paged, filtered, verified, exported, and an export as an anchor."""

from __future__ import annotations

import json
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

from codeforge_ls.store.chain import COLUMNS, StoredEvent, canonical, event_hash
from tests.e2e.conftest import ground_of
from tests.e2e.ground import Ground

Json = dict[str, Any]
CART = "shop/cart.py"
FIX = {"path": CART, "old_text": "return sum(prices) - 1", "new_text": "return sum(prices)"}


def listed(ground: Ground, *words: str) -> list[Json]:
    entries: list[Json] = ground.ask("audit", "list", *words)["entries"]
    return entries


def test_the_trail_says_who_what_when_and_why(tmp_path: Path) -> None:
    with ground_of(approvals_timeout_seconds=10) as ground:
        began = time.time()
        editor, agent = ground.editor(person="allow"), ground.agent("claude")
        done = agent.facts("apply_edits", edits=[FIX])
        assert done["status"] == "applied", done
        editor.person = "deny"
        other = {"path": "README.md", "old_text": "# Shop", "new_text": "# Store"}
        assert agent.facts("apply_edits", edits=[other])["status"] == "denied"
        agent.call("read_code", {"path": ".env"})
        editor.command("checkpoint.restore", checkpoint_id=done["checkpoint_id"])
        profile = "name: mine\nmode: plan\nrules:\n  - {specifier: {tool: Read}, decision: allow}\n"
        editor.command("policy.save", yaml=profile)
        editor.command("keys.set", keys={"OPENAI_API_KEY": "a-new-value-12345"})
        editor.person = "always"
        assert agent.facts("apply_edits", edits=[FIX])["status"] == "applied"
        prompts = len(editor.prompts)
        again = {"path": CART, "old_text": "class Cart", "new_text": "class Basket"}
        assert ground.wait(lambda: agent.facts("apply_edits", edits=[again])["status"] == "applied")
        assert len(editor.prompts) == prompts, "what was allowed always is asked again"
        rules = list((ground.base / "config" / "codeforge").rglob("workspaces/*/policy.yaml"))
        assert len(rules) == 1
        assert CART in rules[0].read_text()
        assert not list(ground.root.rglob("policy.yaml"))

        trail = listed(ground, "--limit", "100")
        assert [e["position"] for e in trail] == sorted((e["position"] for e in trail), reverse=True)
        assert all(began <= entry["time"] <= time.time() for entry in trail)
        told = [(e["action"], e["who"], e["what"]) for e in reversed(trail)]
        agents, person = "mcp:claude/1", "editor:test-editor"
        edit = f"{agents} wants to edit {CART}"
        assert told[:3] == [
            ("approval", agents, f"asked: {edit}"),
            ("approval", person, f"answered allow_once: {edit}"),
            ("approval", agents, f"used: {edit}"),
        ]
        assert ("approval", person, f"answered deny: {agents} wants to edit README.md") in told
        assert ("denial", agents, "denied: Read .env") in told
        assert ("policy", person, "policy mine: saved") in told
        assert ("policy", person, "policy this-workspace: allowed always") in told
        assert ("keys", person, "keys: given OPENAI_API_KEY") in told
        assert ("approval", person, f"answered allow_always: {edit}") in told
        why = {entry["what"]: entry["why"] for entry in trail}
        assert "(profile editor-interactive)" in why[f"asked: {edit}"]
        assert "protected" in why["denied: Read .env"]
        (rewind,) = [entry for entry in trail if entry["action"] == "rewind"]
        assert rewind["who"] == person
        assert rewind["what"].startswith(
            f"went back to {done['checkpoint_id']}: 1 paths, 0 conflicts; undo: "
        )
        assert "asked for by editor:test-editor" in rewind["why"]
        assert "a-new-value" not in json.dumps(trail)

        # Filters, and pages that are the whole.
        assert {e["action"] for e in listed(ground, "--action", "policy", "--action", "rewind")} == {
            "policy",
            "rewind",
        }
        assert all(entry["who"] == agents for entry in listed(ground, "--who", "mcp:"))
        assert ground.cli("audit", "list", "--run", "run-none").returncode == 1
        assert listed(ground, "--until", "2020-01-01") == []
        assert len(listed(ground, "--since", "2020-01-01", "--limit", "1000")) == len(trail)
        pages: list[Json] = []
        cursor: list[str] = []
        while True:
            page = ground.ask("audit", "list", "--limit", "4", *cursor)
            pages += page["entries"]
            if page["next_cursor"] is None:
                break
            cursor = ["--cursor", str(page["next_cursor"])]
        assert pages == trail
        for wrong in (("--since", "tomorrow"), ("--limit", "0"), ("--cursor", "-1")):
            assert ground.cli("audit", "list", *wrong, "--json").returncode == 2, wrong
        assert agent.call("audit.list", {})["isError"]

        # An export is private, complete, and each line's hash covers its event.
        file = tmp_path / "trail.jsonl"
        exported = ground.ask("audit", "export", "--output", str(file))
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert exported["entries"] == len(lines) == len(trail)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        for line in lines:
            event = line["event"]
            row = StoredEvent(**{name: event[name] for name in COLUMNS.split(",") if name != "payload"},
                              payload=canonical(event["payload"]))  # fmt: skip
            assert event_hash(row) == line["hash"] == event["hash"]
        assert ground.cli("audit", "export", "--output", str(file)).returncode == 1  # never over another file
        assert ground.ask("audit", "verify", "--against", str(file))["sound"]

        # Somebody with the database makes a refusal an approval, first clumsily, then with new hashes throughout.
        ground.cli("daemon", "stop")
        (database,) = (ground.base / "state").rglob("state.db")
        denial = next(line for line in lines if line["what"].startswith("answered deny"))
        with sqlite3.connect(database) as opened:
            opened.execute("DROP TRIGGER events_are_never_changed")
            changed = canonical(denial["event"]["payload"] | {"state": "allowed"})
            opened.execute("UPDATE events SET payload = ? WHERE position = ?", (changed, denial["position"]))
        done = ground.cli("audit", "verify", "--json")
        assert done.returncode == 1
        assert f"{denial['stream']} #{denial['seq']}: its content was changed" in done.stdout.decode()
        ground.cli("daemon", "stop")
        with sqlite3.connect(database) as opened:
            rehash(opened, denial["stream"])
        assert "its content was changed" not in ground.cli("audit", "verify").stdout.decode()
        done = ground.cli("audit", "verify", "--against", str(file), "--json")
        assert done.returncode == 1
        assert f"{denial['stream']} #{denial['seq']}" in done.stdout.decode()


def rehash(opened: sqlite3.Connection, stream: str) -> None:
    """The chain of a stream anew, as somebody would who can write the database."""
    before = ""
    rows = opened.execute(f"SELECT {COLUMNS} FROM events WHERE stream = ? ORDER BY seq", (stream,)).fetchall()
    for row in rows:
        event = StoredEvent(*row)
        fresh = event_hash(StoredEvent(**(vars(event) | {"prev_hash": before})))
        opened.execute(
            "UPDATE events SET prev_hash = ?, hash = ? WHERE position = ?", (before, fresh, event.position)
        )
        before = fresh
    opened.execute("UPDATE streams SET hash = ? WHERE stream = ?", (before, stream))
