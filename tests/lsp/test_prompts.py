"""Approvals, progress and events as an editor sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from codeforge_ls.lsp.client import split_options
from codeforge_ls.lsp.prompts import message_of
from codeforge_ls.model.actions import ActorKind
from codeforge_ls.model.approvals import Approval, Verdict
from codeforge_ls.model.events import Delta
from codeforge_ls.model.index import IndexState, IndexStatus
from codeforge_ls.model.policy import Decision, PolicyDecision, PolicyScope

from .conftest import command


def approval(number: int = 1, **more: Any) -> Approval:
    decision = PolicyDecision(
        decision=Decision.ASK,
        profile="editor-interactive",
        scope=PolicyScope.PRESET,
        rule_index=3,
        reason="edits ask",
    )
    given = {"preview": "--- a\n+++ b\n-1\n+2\n", "title": f"agent:run-{number} wants to edit a.py", **more}
    return Approval(
        id=f"approval-{number}",
        action_hash="h",
        tool="Edit",
        decision=decision,
        created_at=0,
        expires_at=60,
        **given,
    )


def test_the_message_says_who_what_why_and_shows_the_change_without_hidden_characters():
    text = message_of(approval())
    assert text == (
        "CodeForge: agent:run-1 wants to edit a.py\nAsked because: edits ask (profile editor-interactive)\n"
        "--- a\n+++ b\n-1\n+2\n[approval-1]"
    )
    assert "rm -rf x" in message_of(approval(command="rm -rf x", preview=""))
    assert "\\u202e" in message_of(approval(command="echo \u202e"))
    long = message_of(approval(preview="+line\n" * 10_000))
    assert len(long) < 3000
    assert "more characters are not shown" in long


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"title": "Allow once"}, Verdict.ALLOW_ONCE),
        ({"title": "Deny"}, Verdict.DENY),
        (None, Verdict.DISMISSED),
        ({"title": "Allow for ever"}, Verdict.DISMISSED),
        ({"title": 5}, Verdict.DISMISSED),
        ("Allow once", Verdict.DISMISSED),
        ({}, Verdict.DISMISSED),
        ([{"title": "Allow once"}], Verdict.DISMISSED),
    ],
)
async def test_only_a_clear_answer_counts(editor, host, answer, verdict):
    editor.answers["window/showMessageRequest"] = lambda _: answer
    (channel,) = host.place.approvals.channels
    assert (channel.name, channel.kind) == ("editor:editor", ActorKind.EDITOR)
    assert await asyncio.wait_for(channel.ask(approval()), 3) is verdict
    (asked,) = editor.all("window/showMessageRequest")
    assert [action["title"] for action in asked["actions"]] == ["Allow once", "Deny"]


async def test_prompts_keep_apart_are_withdrawn_and_end_with_the_session(editor, host):
    (channel,) = host.place.approvals.channels
    asking = [asyncio.create_task(channel.ask(approval(number))) for number in range(4)]
    prompts = [await editor.heard(lambda m, n=n: f"[approval-{n}]" in str(m)) for n in range(4)]
    method_not_found = {"code": -32601, "message": "no"}
    editor.send({"jsonrpc": "2.0", "id": prompts[2]["id"], "error": method_not_found})
    editor.send({"jsonrpc": "2.0", "id": prompts[1]["id"], "result": {"title": "Allow once"}})
    assert await asyncio.wait_for(asking[1], 3) is Verdict.ALLOW_ONCE
    assert await asyncio.wait_for(asking[2], 3) is Verdict.DISMISSED
    assert not asking[0].done()
    asking[0].cancel()  # answered elsewhere
    withdrawn = await editor.called("$/cancelRequest")
    assert withdrawn["params"]["id"] == prompts[0]["id"]
    editor.send(
        {"jsonrpc": "2.0", "id": prompts[0]["id"], "result": {"title": "Allow once"}}
    )  # too late: nothing
    assert await editor.is_alive()
    assert not asking[3].done()
    editor.writer.close()
    assert await asyncio.wait_for(asking[3], 3) is Verdict.DISMISSED
    assert not host.place.approvals.channels


async def test_rich_clients_are_told_of_approvals_and_get_no_prompt(connect, host):
    editor = await connect()
    await editor.initialize(host.root, initializationOptions={"codeforge": {"approvals": "client"}})
    await editor.heard(lambda m: m.get("method") == "codeforge/status" and m["params"]["message"] == "ready")
    asking = asyncio.create_task(host.place.approvals.channels[0].ask(approval()))
    payload = {"approval": approval().model_dump(mode="json")}
    host.place.store.tell("session:mcp-1", "approval.requested", payload)
    answered = {"approval_id": "approval-1", "state": "allowed", "answered_by": "cli:me"}
    host.place.store.tell("session:mcp-1", "approval.answered", answered, 2)
    told = await editor.heard(lambda m: (m.get("params") or {}).get("state") == "answered")
    assert told["params"]["answered_by"] == "cli:me"
    pending = editor.all("codeforge/approval")[0]
    assert (pending["state"], pending["approval"]["title"]) == ("pending", payload["approval"]["title"])
    assert not editor.all("window/showMessageRequest")
    assert not asking.done()
    asking.cancel()


def test_options_of_the_session_are_told_from_settings():
    flat = {"approvals": {"timeout_seconds": 5}, "symbols": True, "llm": {"model": "m"}}
    settings = {"approvals": {"timeout_seconds": 5}, "llm": {"model": "m"}}
    assert split_options(flat) == split_options({"codeforge": flat}) == ({"symbols": True}, settings)
    assert split_options({"approvals": "client"}) == ({"approvals": "client"}, {})
    assert split_options(None) == split_options([1]) == ({}, {})


async def test_a_run_is_followed_by_events_deltas_and_one_bar(editor, host):
    store = host.place.store
    params = command("codeforge.run.start", {"task": "r1"}, token="mine")
    assert (await editor.request("workspace/executeCommand", params))["result"] == {"run_id": "r1"}
    for seq in range(2, 60):
        arguments = {"tool": "Bash", "arguments": {"command": f"make {seq}"}}
        store.tell("run:r1", "run.toolcall.requested", arguments, seq)
    for callback in store.delta_subscribers:
        callback(Delta(stream="run:r1", event_id="e9", channel="text", offset=0, text="hm"))
    await asyncio.sleep(0.3)
    store.tell("run:r1", "run.completed", {"status": "completed", "reason": ""}, 60)
    await editor.heard(lambda m: m.get("method") == "codeforge/run/event" and m["params"]["seq"] == 60)
    seqs = [params["seq"] for params in editor.all("codeforge/run/event")]
    assert seqs == list(range(1, 61))
    assert editor.all("codeforge/run/delta") == [
        {"run_id": "r1", "event_id": "e9", "channel": "text", "offset": 0, "text": "hm"}
    ]
    await editor.heard(lambda m: m.get("method") == "$/progress" and m["params"]["value"]["kind"] == "end")
    values = [params["value"] for params in editor.all("$/progress") if params["token"] == "mine"]
    assert values[0] == {"kind": "begin", "title": "CodeForge: fix the bug", "cancellable": True}
    assert values[-1] == {"kind": "end", "message": "completed"}
    assert values[-2]["message"] == "Bash make 59"
    assert len(values) <= 7  # ten reports a second at most
    page = await editor.request("codeforge/run/events", {"run_id": "r1", "after": 5})
    assert page["result"] == {"echo": {"run_id": "r1", "after": 5}}


async def test_other_runs_get_a_bar_of_the_server_and_its_cancel_button_works(editor, host):
    run = {"id": "r2", "task": "t" * 100, "profile": "p", "created_at": 1.0}
    host.place.store.tell("run:r2", "run.created", {"run": run})
    created = await editor.called("window/workDoneProgress/create")
    token = created["params"]["token"]
    begun = await editor.heard(lambda m: m.get("method") == "$/progress" and m["params"]["token"] == token)
    assert begun["params"]["value"]["title"].endswith("ttt…")
    editor.notify("window/workDoneProgress/cancel", {"token": token})
    await editor.is_alive()
    async with asyncio.timeout(3):
        while ("run.cancel", {"run_id": "r2"}) not in host.calls:
            await asyncio.sleep(0.01)
    host.place.store.tell("run:r2", "run.completed", {"status": "cancelled", "reason": "by you"}, 2)
    ended = await editor.heard(
        lambda m: m.get("method") == "$/progress" and m["params"]["value"]["kind"] == "end"
    )
    assert ended["params"]["value"]["message"] == "cancelled: by you"
    short = {**run, "id": "r3"}
    host.place.store.tell("run:r3", "run.created", {"run": short})
    host.place.store.tell("run:r3", "run.completed", {"status": "failed", "reason": ""}, 2)
    await asyncio.sleep(0.5)
    assert len(editor.all("window/workDoneProgress/create")) == 1  # over before a bar was worth it


async def test_a_plan_has_one_bar_for_all_its_runs(editor, host):
    steps = [{"index": index, "task": "t"} for index in range(2)]
    plan = {"id": "p1", "name": "both", "steps": steps, "created_at": 1.0}
    host.place.store.tell("plan:p1", "plan.created", {"plan": plan})
    run = {"id": "r1", "task": "t", "profile": "p", "created_at": 1.0, "plan_id": "p1", "plan_step": 0}
    host.place.store.tell("run:r1", "run.created", {"run": run})
    await editor.called("$/progress")
    host.place.store.tell("plan:p1", "plan.step_changed", {"step": {**steps[0], "status": "completed"}}, 2)
    host.place.store.tell("run:r1", "run.completed", {"status": "completed"}, 2)
    await editor.heard(lambda m: (m.get("params") or {}).get("value", {}).get("percentage") == 50)
    host.place.store.tell("plan:p1", "plan.completed", {"reason": ""}, 3)
    await editor.heard(lambda m: (m.get("params") or {}).get("value", {}).get("kind") == "end")
    assert len(editor.all("window/workDoneProgress/create")) == 1
    assert [params["seq"] for params in editor.all("codeforge/plan/event")] == [1, 2, 3]


async def test_progress_of_a_command_and_cancelling_it_by_its_token(editor, host):
    done = await editor.request("workspace/executeCommand", command("codeforge.index.build", {}, token=7))
    assert "result" in done
    values = [params["value"] for params in editor.all("$/progress") if params["token"] == 7]
    assert (values[0]["kind"], values[-1]["kind"]) == ("begin", "end")
    assert 3 <= len(values) <= 14
    number = editor.post("workspace/executeCommand", command("codeforge.search", {"sleep": 30}, token="s"))
    await editor.heard(lambda m: m.get("method") == "$/progress" and m["params"]["token"] == "s")
    editor.notify("window/workDoneProgress/cancel", {"token": "s"})
    assert (await editor.answer(number))["error"]["code"] == -32800
    assert host.cancelled == ["search"]


async def test_status_follows_the_index_and_bars_start_without_an_answer_to_create(connect, host):
    editor = await connect()
    del editor.answers["window/workDoneProgress/create"]
    capabilities = {"window": {"workDoneProgress": True}, "experimental": {"serverStatusNotification": True}}
    await editor.initialize(host.root, capabilities=capabilities)
    await editor.heard(lambda m: m.get("method") == "codeforge/status" and m["params"]["message"] == "ready")
    (listener,) = host.place.on_index_status
    for percent in range(1, 50):
        listener(IndexStatus(state=IndexState.BUILDING, percent=percent, files=percent))
    building = await editor.heard(lambda m: "indexing: 49 %" in str(m))
    assert building["params"]["index"]["files"] == 49
    assert len(editor.all("codeforge/status")) <= 4
    await editor.heard(lambda m: m.get("method") == "$/progress", timeout=6)
    listener(IndexStatus(state=IndexState.READY, percent=100, files=50))
    await editor.heard(lambda m: m.get("method") == "$/progress" and m["params"]["value"]["kind"] == "end")
    last = await editor.heard(
        lambda m: (m.get("params") or {}).get("index", {}) and m["params"]["index"]["files"] == 50
    )
    assert last["params"]["quiescent"] is True
    await editor.called("experimental/serverStatus")


async def test_a_client_without_extras_is_asked_for_none(connect, host):
    editor = await connect()
    answer = await editor.initialize(host.root, capabilities={})
    offered = answer["result"]["capabilities"]
    assert "documentSymbolProvider" not in offered
    assert "referencesProvider" not in offered
    assert offered["workspaceSymbolProvider"]
    run = {"id": "r2", "task": "t", "profile": "p", "created_at": 1.0}
    assert await editor.is_alive()
    host.place.store.tell("run:r2", "run.created", {"run": run})
    await asyncio.sleep(0.5)
    assert not [m for m in editor.inbox if "id" in m and "method" in m]
    outlined = await connect()
    options = {"codeforge": {"symbols": True}}
    answer = await outlined.initialize(host.root, capabilities={}, initializationOptions=options)
    assert answer["result"]["capabilities"]["documentSymbolProvider"]
