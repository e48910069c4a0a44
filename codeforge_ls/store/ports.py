"""The seams of the store: what a second engine would have to promise. One contract suite runs against each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from codeforge_ls.model.approvals import Approval, ApprovalState
from codeforge_ls.model.checkpoints import Checkpoint
from codeforge_ls.model.events import Event, EventDraft
from codeforge_ls.model.llm import Message
from codeforge_ls.model.runs import Plan, Run, RunStatus
from codeforge_ls.store.reading import OpenToolCall

Unsubscribe = Callable[[], None]


class EventStore(Protocol):
    """The append-only log, ordered within streams by ``seq`` and over all by ``position``."""

    async def append(
        self, *drafts: EventDraft, expect: Mapping[str, tuple[str, int]] | None = None
    ) -> list[Event]:
        """Writes all drafts and their state in one transaction, then tells the subscribers."""

    async def events(self, stream: str, after: int = 0, limit: int = 500) -> list[Event]:
        """Events of one stream with a larger ``seq`` than ``after``."""

    async def all_events(self, after_position: int = 0, limit: int = 500) -> list[Event]:
        """Events of all streams with a larger ``position``."""

    def subscribe(self, callback: Callable[[Event], None]) -> Unsubscribe:
        """Calls back on the loop after each commit, in order of ``position``."""


class StateStore(Protocol):
    """What is now, folded from the log."""

    async def run(self, run_id: str) -> Run:
        """One run. Raises NotFound."""

    async def runs(self, limit: int = 50, statuses: Sequence[RunStatus] | None = None) -> list[Run]:
        """Runs, newest first."""

    async def plan(self, plan_id: str) -> Plan:
        """One plan with its steps. Raises NotFound."""

    async def plans(self, limit: int = 50) -> list[Plan]:
        """Plans, newest first."""

    async def approval(self, approval_id: str) -> Approval:
        """One approval. Raises NotFound."""

    async def approvals(self, state: ApprovalState | None = None, limit: int = 50) -> list[Approval]:
        """Approvals, newest first."""

    async def checkpoint(self, checkpoint_id: str) -> Checkpoint:
        """One checkpoint. Raises NotFound."""

    async def checkpoints(self, stream: str | None = None, limit: int = 200) -> list[Checkpoint]:
        """Checkpoints, newest first."""

    async def messages(self, run_id: str) -> list[Message]:
        """The conversation of a run, in order."""

    async def open_tool_calls(self, run_id: str) -> list[OpenToolCall]:
        """Tool calls of a run without a result, in order."""
