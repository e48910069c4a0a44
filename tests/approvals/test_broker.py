"""The broker over a real log: who is asked in which order, whose answer counts, and a use that only one can have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from codeforge_ls.approvals.broker import USE_SECONDS, Broker
from codeforge_ls.model.actions import ActorKind
from codeforge_ls.model.approvals import Approval, ApprovalState, Verdict
from codeforge_ls.model.base import new_id
from codeforge_ls.model.errors import Conflict, Denied, InvalidInput
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.model.policy import Decision, PolicyDecision, PolicyScope
from codeforge_ls.store import Store

DECISION = PolicyDecision(
    decision=Decision.ASK, profile="p", scope=PolicyScope.PRESET, rule_index=0, reason="edits ask"
)


class Channel:
    """A way to a person whose answers are given by the test."""

    def __init__(self, kind: ActorKind, name: str) -> None:
        self.kind, self.name = kind, name
        self.asked: list[str] = []
        self.closed: list[str] = []
        self.answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    def may_ask(self, _approval: Approval) -> bool:
        return True

    async def ask(self, approval: Approval) -> Verdict:
        self.asked.append(approval.id)
        try:
            return await self.answer
        except asyncio.CancelledError:
            self.closed.append(approval.id)
            raise


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "state.db")
    yield opened
    await opened.close()


def question(**more: object) -> Approval:
    now = time.time()
    given = {"offers": tuple(verdict for verdict in Verdict if verdict is not Verdict.DISMISSED), **more}
    return Approval.model_validate(
        {
            "id": new_id("approval"), "action_hash": "h", "policy_revision": "r", "tool": "Edit", "title": "t",
            "stream": "session:s", "decision": DECISION, "created_at": now, "expires_at": now + 20, **given,
        }
    )  # fmt: skip


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def soon(task: asyncio.Task[tuple[Approval, Verdict]]) -> tuple[Approval, Verdict]:
    return await asyncio.wait_for(task, 5)


async def test_people_come_before_a_foreign_agents_client_and_the_first_answer_closes_the_rest(
    store: Store,
) -> None:
    broker = Broker(store, lambda: 20)
    editor, other = Channel(ActorKind.EDITOR, "editor:a"), Channel(ActorKind.EDITOR, "editor:b")
    terminal, client = Channel(ActorKind.CLI, "terminal"), Channel(ActorKind.MCP, "elicitation:x")
    leave = [broker.attach(channel) for channel in (editor, other, terminal, client)]
    asking = asyncio.create_task(broker.request(question(elicitable=True)))
    await until(lambda: bool(editor.asked and other.asked and terminal.asked))
    assert (len(editor.asked), len(other.asked), len(terminal.asked), len(client.asked)) == (1, 1, 1, 0)
    leave[0]()
    await asyncio.sleep(0.01)
    assert client.asked == []  # there is an editor yet
    leave[1]()
    await until(lambda: len(client.asked) == 1)  # now it is the client's turn
    client.answer.set_result(Verdict.ALLOW_ONCE)
    approval, verdict = await soon(asking)
    assert (approval.state, verdict, approval.answered_by) == (
        ApprovalState.ALLOWED, Verdict.ALLOW_ONCE, "elicitation:x",
    )  # fmt: skip
    await until(lambda: terminal.closed == [approval.id])


@pytest.mark.parametrize("verdict", [Verdict.ALLOW_RUN, Verdict.ALLOW_ALWAYS, Verdict.DISMISSED])
async def test_a_foreign_agents_client_can_say_once_or_no(store: Store, verdict: Verdict) -> None:
    broker = Broker(store, lambda: 20)
    client = Channel(ActorKind.MCP, "elicitation:x")
    broker.attach(client)
    client.answer.set_result(verdict)
    approval, _ = await soon(asyncio.create_task(broker.request(question(elicitable=True))))
    assert approval.state is ApprovalState.DENIED
    kept = await soon(asyncio.create_task(broker.request(question())))
    assert kept[0].answered_by.startswith("no client")
    assert len(client.asked) == 1  # what is not listed is not put there at all


async def test_an_editor_that_comes_in_between_takes_the_clients_word_away(store: Store) -> None:
    broker = Broker(store, lambda: 20)
    client, editor = Channel(ActorKind.MCP, "elicitation:x"), Channel(ActorKind.EDITOR, "editor:a")
    broker.attach(client)
    asking = asyncio.create_task(broker.request(question(elicitable=True)))
    await asyncio.sleep(0.05)
    broker.attach(editor)
    await asyncio.sleep(0.01)
    client.answer.set_result(Verdict.ALLOW_ONCE)
    await asyncio.sleep(0.05)
    assert not asking.done()
    editor.answer.set_result(Verdict.DENY)
    assert (await soon(asking))[0].answered_by == "editor:a"


async def test_an_approval_is_used_by_one_for_what_it_was_given(store: Store) -> None:
    broker = Broker(store, lambda: 20)
    editor = Channel(ActorKind.EDITOR, "editor:a")
    broker.attach(editor)
    editor.answer.set_result(Verdict.ALLOW_ONCE)
    approval, _ = await soon(asyncio.create_task(broker.request(question())))
    for action, policy in (("another", "r"), ("h", "another")):
        with pytest.raises(Denied, match="changed after"):
            await broker.consume(approval, action, policy)
    # Twenty at once, from two brokers over the same log.
    second = Broker(store, lambda: 20)
    uses = [one.consume(approval, "h", "r") for one in (broker, second) for _ in range(10)]
    done = await asyncio.gather(*uses, return_exceptions=True)
    assert [one for one in done if one is None] == [None]
    assert sum(isinstance(one, Denied) for one in done) == 19
    stored = await store.events_of((EventType.APPROVAL_CONSUMED,))
    assert len(stored) == 1
    assert await store.verify() == []

    old = question(created_at=0, expires_at=time.time() - USE_SECONDS - 1)
    with pytest.raises(Denied, match="too old"):
        await broker.consume(old, "h", "r")
    denied, _ = await soon(asyncio.create_task(Broker(store, lambda: 20).request(question())))
    with pytest.raises(Denied, match="not given"):
        await broker.consume(denied, "h", "r")


async def test_what_a_dead_daemon_left_open_is_denied_and_stays_so(store: Store) -> None:
    left = question()
    payload = {"approval": left.model_dump(mode="json")}
    await store.append(EventDraft(stream=left.stream, type=EventType.APPROVAL_REQUESTED, payload=payload))
    broker = Broker(store, lambda: 20)
    await broker.reconcile()
    assert (await store.approval(left.id)).state is ApprovalState.DENIED
    with pytest.raises(Conflict):
        await broker.answer(left.id, Verdict.ALLOW_ONCE, "cli:terminal")
    with pytest.raises(Denied):
        await broker.consume(left, "h", "r")


async def test_only_what_is_offered_can_be_answered(store: Store) -> None:
    broker = Broker(store, lambda: 20)
    broker.attach(Channel(ActorKind.EDITOR, "editor:a"))
    narrow = question(offers=(Verdict.ALLOW_ONCE, Verdict.DENY))
    asking = asyncio.create_task(broker.request(narrow))
    await asyncio.sleep(0.05)
    with pytest.raises(InvalidInput):
        await broker.answer(narrow.id, Verdict.ALLOW_ALWAYS, "cli:terminal")
    assert (await broker.answer(narrow.id, Verdict.DENY, "cli:terminal")).state is ApprovalState.DENIED
    assert (await soon(asking))[1] is Verdict.DENY
