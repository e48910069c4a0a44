"""A named pipe where git reads its rules: git would wait for it for ever, and with it whoever asked git."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from tests.e2e.conftest import ground_of
from tests.e2e.ground import MODULE

CART = "shop/cart.py"
FIX = {"path": CART, "old_text": "return sum(prices) - 1", "new_text": "return sum(prices)"}
Json = dict[str, Any]


@pytest.mark.parametrize("place", [".gitignore", "shop/.gitattributes", ".codeforgeignore"])
def test_a_pipe_in_place_of_a_rule_file_is_named_at_once_and_what_needs_no_git_goes_on(place: str) -> None:
    with ground_of(approvals_timeout_seconds=20) as ground:
        pipe = ground.root / place
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        editor, agent = ground.editor(person="allow"), ground.agent()

        def hits() -> Any:
            found = agent.call("search_code", {"query": "total"})["structuredContent"]
            return found["index"]["state"] == "ready" and [hit["path"] for hit in found["hits"]]

        begun = time.monotonic()
        assert CART in ground.wait(hits, 60)
        lines = editor.command("edits.apply", edits=[FIX], dry_run=True)
        assert "return sum(prices)" in str(lines)
        result = agent.call("apply_edits", {"edits": [FIX]})
        assert (
            time.monotonic() - begun < 60
        )  # git's own limit is 120 s, and it would be waited for more than once
        if place == ".gitignore":
            assert f"{pipe} is a pipe" in str(result), result
            assert "Remove it" in str(result)
            assert ground.text(CART) == MODULE
            pipe.unlink()
            result = agent.call("apply_edits", {"edits": [FIX]})
        assert result["structuredContent"]["status"] == "applied", result
        assert ground.text(CART) == MODULE.replace(" - 1", "")
