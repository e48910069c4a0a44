"""Given a small rate limit, when clients flood, then each gets its burst and its rate, however it connects, no more.

What is counted is compared with the time that passed, so that a slow machine changes the figures and not the verdict.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.agent import Agent, error_of
from tests.e2e.conftest import ground_of
from tests.e2e.editor import Editor, Refused
from tests.e2e.ground import Ground

RATE, BURST = 2.0, 20  # tokens
Json = dict[str, Any]
# The error that a call was refused with by the limiter, or None.
Knock = Callable[[], Json | None]


def limits(ground: Ground, **values: float) -> None:
    """Write the person's own settings."""
    file = ground.base / "config" / "codeforge" / "config.yaml"
    file.write_text("rate_limit:\n" + "".join(f"  {name}: {value}\n" for name, value in values.items()))


def restore(agent: Agent) -> Knock:
    """A call that costs a token and is cheap: there is no such checkpoint."""

    def knock() -> Json | None:
        error = error_of(agent.call("restore_checkpoint", {"checkpoint_id": "cp-none"}))
        return error if error["code"] == "limit_reached" else None

    return knock


def look(editor: Editor) -> Knock:
    """A call that costs a tenth of one."""

    def knock() -> Json | None:
        try:
            editor.command("index.status")
        except Refused as refused:
            data: Json = refused.error["data"]
            return data
        return None

    return knock


def flood(knock: Knock, cost: float, least_seconds: float = 0.0) -> Json:
    """Knock until it is refused after that time; at most 3000 times. How many passed must fit the time it took."""
    begun = time.monotonic()
    first_answered, passed, refused = 0.0, 0, 0
    for _ in range(3000):
        sent = time.monotonic()
        error = knock()
        first_answered = first_answered or time.monotonic()
        passed += error is None
        refused += error is not None
        if error is not None and sent - begun >= least_seconds:
            break
    else:
        raise AssertionError(f"never refused: {passed} passed")
    most = (BURST + RATE * (time.monotonic() - begun)) / cost + 1
    least = (BURST + RATE * (sent - first_answered)) / cost - 3  # attaching may have cost a look or two
    assert least <= passed <= most, (passed, least, most)
    return {"error": error, "refused": refused, "at": sent}


def test_sustained_burst_per_client_and_reconnect() -> None:
    with ground_of() as ground:
        limits(ground, per_second=RATE, burst=BURST)
        editor, agent = ground.editor(), ground.agent()
        drained = flood(restore(agent), 1.0, least_seconds=3.0)
        refused = drained["refused"]
        assert "Try again in" in drained["error"]["hint"]
        assert drained["error"]["data"]["limit"] == "rate"
        wait = drained["error"]["data"]["retryAfter"]
        assert 0 < wait <= 1 / RATE
        time.sleep(wait)
        assert restore(agent)() is None

        # The same client by a new connection goes on with the same bucket; another client has its own.
        agent.close()
        again = ground.agent()
        passed = 0
        while restore(again)() is None:
            passed += 1
        refused += 1
        assert passed <= RATE * (time.monotonic() - drained["at"]) + 1
        other = ground.agent("other-agent")
        refused += flood(restore(other), 1.0)["refused"]

        # An editor that only looks has ten times as much, and is not in the way of anybody.
        seen = flood(look(editor), 0.1)
        refused += seen["refused"]
        assert 0 < seen["error"]["data"]["retryAfter"] <= 0.1 / RATE
        report = editor.command("health")["rate_limit"]
        assert report == {"per_second": RATE, "burst": BURST, "refused": refused, "clients": 3}

        # What a person needs to stop and to answer is never refused, nor is what is no operation.
        for _ in range(60):
            assert editor.command("health")["status"] == "ok"
            assert editor.command("approval.list") == {"approvals": []}
            assert isinstance(editor.request("workspace/symbol", {"query": "total"}), list)
            for name, argument in (
                ("run.cancel", {"run_id": "run-none"}),
                ("approval.answer", {"approval_id": "ap-none", "verdict": "deny"}),
            ):
                with pytest.raises(Refused) as unknown:
                    editor.command(name, **argument)
                assert unknown.value.error["data"]["code"] == "not_found"
        editor.open("README.md", "# unsaved\n")
        for number in range(300):
            editor.type("README.md", f"# unsaved {number}\n")
        assert error_of(again.call("cancel_run", {"run_id": "run-none"}))["code"] == "not_found"
        ground.wait(lambda: look(editor)() is None, 5)
        assert editor.command("code.read", path="README.md")["text"].startswith("# unsaved 299")
        for front_end in (editor, again, other):
            front_end.close()


def test_the_terminal_the_settings_and_who_may_set_them(fresh: Ground) -> None:
    (fresh.root / ".codeforge").mkdir()
    (fresh.root / ".codeforge/config.yaml").write_text("rate_limit: {per_second: 0}\n")
    limits(fresh, per_second=0.01, burst=1)
    report = fresh.ask("health")
    assert report["rate_limit"]["per_second"] == 0.01
    assert [one["field"] for one in report["config_problems"]] == ["rate_limit.per_second"]
    known = fresh.cli("rewind", "cp-none", "--json")
    assert json.loads(known.stdout)["error"]["code"] == "not_found"
    refused = fresh.cli("rewind", "cp-none", "--json")
    assert refused.returncode == 1
    error = json.loads(refused.stdout)["error"]
    assert error["code"] == "limit_reached"
    assert 50 < error["data"]["retryAfter"] <= 100
    said = fresh.cli("rewind", "cp-none").stderr.decode()
    assert "cli:terminal may make 0.01 a second" in said
    assert "Try again in" in said

    limits(fresh, per_second=0)
    fresh.wait(lambda: fresh.ask("health")["rate_limit"]["per_second"] == 0, 20, "no hot reload")
    for _ in range(3):
        assert json.loads(fresh.cli("rewind", "cp-none", "--json").stdout)["error"]["code"] == "not_found"
    assert fresh.ask("health")["rate_limit"]["refused"] == 2
