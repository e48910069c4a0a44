"""A terminal beside an editor: it names the policy that is in force, and says what going back did to a document."""

from __future__ import annotations

from tests.e2e.ground import FILES, Ground

CART = "shop/cart.py"
FIX = {"path": CART, "old_text": "return sum(prices) - 1", "new_text": "return sum(prices)"}


def test_the_default_policy_is_the_one_that_the_daemon_would_use(fresh: Ground) -> None:
    question = ("policy", "explain", "--tool", "Edit", "--path", CART)
    assert fresh.ask(*question)["profile"] == "headless-safe-sandbox"
    assert not fresh.processes()  # nothing was started to answer that

    editor = fresh.editor()
    judged = fresh.ask(*question)
    assert judged["profile"] == "editor-interactive"
    assert fresh.ask("policy", "list")["default"] == "editor-interactive"
    named = fresh.ask(*question, "--profile", "plan-readonly")
    assert (named["profile"], named["decision"]) == ("plan-readonly", "deny")
    editor.close()
    fresh.wait(lambda: fresh.ask(*question)["profile"] == "headless-safe-sandbox", 10)


def test_going_back_in_an_open_document_only_is_told_as_such(fresh: Ground) -> None:
    editor = fresh.editor()
    unsaved = f"# mine\n{FILES[CART].decode()}"
    editor.open(CART, unsaved)
    disk = fresh.picture()

    dry = editor.command("edits.apply", edits=[FIX], dry_run=True)
    assert (dry["status"], dry["message"]) == ("applied", "Dry run: nothing was changed.")
    assert "+        return sum(prices)\n" in dry["diff"]
    denied = editor.command("edits.apply", edits=[{"path": ".env", "content": "x"}], dry_run=True)
    assert (denied["status"], denied["diff"]) == ("denied", "")
    assert ".env" in denied["message"]

    done = editor.command("edits.apply", edits=[FIX])
    assert done["status"] == "applied", done
    assert editor.texts[CART] != unsaved
    back = fresh.cli("rewind", done["checkpoint_id"], "--no-color")
    said = back.stdout.decode()
    assert back.returncode == 0, back
    assert said.splitlines()[0] == f"restored {CART}"
    assert "0 paths" not in said
    assert editor.texts[CART] == unsaved
    again = fresh.cli("rewind", done["checkpoint_id"], "--no-color").stdout.decode()
    assert again.splitlines()[0] == "nothing had changed"
    assert fresh.picture() == disk
