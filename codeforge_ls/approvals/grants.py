"""What was allowed for the rest of a run or session: exactly those files or that command line, read from the log."""

from __future__ import annotations

from collections.abc import Sequence

from codeforge_ls.model.approvals import Approval, Verdict
from codeforge_ls.model.events import EventType
from codeforge_ls.store import Store

FOR_THE_REST = (Verdict.ALLOW_RUN.value, Verdict.ALLOW_ALWAYS.value)


class Grants:
    """The grants of each stream. They are nothing but answers in its log, so a resumed run has them still."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, list[Approval]] = {}

    async def covering(
        self, stream: str, tool: str, paths: Sequence[str], command: str | None
    ) -> Approval | None:
        """The answer that allows this too: the same tool, and the same command or no other file than then."""
        if stream not in self._known:
            self._known[stream] = await self._of(stream)
        return next((one for one in self._known[stream] if covers(one, tool, paths, command)), None)

    def add(self, approval: Approval) -> None:
        """Remember an answer that was just recorded."""
        if approval.stream in self._known:
            self._known[approval.stream].append(approval)

    async def _of(self, stream: str) -> list[Approval]:
        answers = await self._store.events_of((EventType.APPROVAL_ANSWERED,), stream=stream, limit=5000)
        given = [event.payload for event in answers if event.payload.get("verdict") in FOR_THE_REST]
        return [await self._store.approval(str(payload["approval_id"])) for payload in given]


def covers(answered: Approval, tool: str, paths: Sequence[str], command: str | None) -> bool:
    """Whether what was allowed there is this too: the same tool, and the same command or no other file."""
    if answered.tool != tool or answered.command != command:
        return False
    return command is not None or (bool(paths) and set(paths) <= set(answered.paths))
