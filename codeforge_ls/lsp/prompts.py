"""Approvals in the editor: one ``window/showMessageRequest`` for each question. Anything but a clear yes or no is
dismissed, which the broker counts as deny."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from lsprotocol import types

from codeforge_ls.model.actions import ActorKind
from codeforge_ls.model.approvals import Approval, Verdict

if TYPE_CHECKING:
    from codeforge_ls.lsp.client import Client
    from codeforge_ls.lsp.protocol import SessionProtocol

# In the order in which they are offered; the middle ones only where the question offers them.
BUTTONS = {
    "Allow once": Verdict.ALLOW_ONCE,
    "Allow for this run": Verdict.ALLOW_RUN,
    "Always allow": Verdict.ALLOW_ALWAYS,
    "Deny": Verdict.DENY,
}
MAX_LINES = 30  # of a diff; editors show a prompt in a toast or a short list
MAX_CHARACTERS = 2000

log = logging.getLogger(__name__)


class EditorPrompts:
    """The person at one editor (``approvals.broker.ApprovalChannel``).

    A client that says ``approvals: "client"`` shows ``codeforge/approval`` notifications in its own way and
    answers by ``codeforge.approval.answer``; it gets no prompt.
    """

    def __init__(self, protocol: SessionProtocol, client: Client) -> None:
        self._protocol, self._client = protocol, client

    @property
    def name(self) -> str:
        """What is recorded as ``answered_by``."""
        return f"editor:{self._client.name}"

    @property
    def kind(self) -> ActorKind:
        """Through an editor."""
        return ActorKind.EDITOR

    def may_ask(self, approval: Approval) -> bool:  # noqa: ARG002 - the protocol's signature
        """A person at an editor answers everything."""
        return True

    async def ask(self, approval: Approval) -> Verdict:
        """Show the prompt and wait. Cancelled when the question was answered elsewhere: the prompt is withdrawn."""
        if self._client.options.get("approvals") in (True, "client"):
            await asyncio.Event().wait()  # until the answer comes by command
        params = types.ShowMessageRequestParams(
            type=types.MessageType.Warning,
            message=message_of(approval),
            actions=[
                types.MessageActionItem(title) for title, one in BUTTONS.items() if one in approval.offers
            ],
        )
        try:
            answer = await asyncio.wrap_future(
                self._protocol.send_request(types.WINDOW_SHOW_MESSAGE_REQUEST, params)
            )
        except Exception as error:  # noqa: BLE001 - MethodNotFound, nonsense or a lost client: nobody said yes
            log.info("prompt for %s was not answered: %s", approval.id, error)
            return Verdict.DISMISSED
        title = answer.title if isinstance(answer, types.MessageActionItem) else ""
        return BUTTONS.get(title, Verdict.DISMISSED)


def message_of(approval: Approval) -> str:
    """What the person reads: who wants what, why they are asked, and the diff or the command, cut with a note."""
    shown = approval.command if approval.command is not None else approval.preview
    parts = [
        f"CodeForge: {_visible(approval.title)}",
        f"Asked because: {_visible(approval.why)}",
        _cut(_visible(shown.rstrip("\n"))),
        f"[{approval.id}]",
    ]
    return "\n".join(part for part in parts if part)


def _cut(text: str) -> str:
    lines = text.split("\n")
    kept = "\n".join(lines[:MAX_LINES])[:MAX_CHARACTERS]
    left = len(text) - len(kept)
    return (
        f"{kept}\n… {left} more characters are not shown; `codeforge approvals` shows all" if left else kept
    )


def _visible(text: str) -> str:
    """Control and direction-changing characters escaped, so that nothing is hidden from the reader."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\u{ord(char):04x}" for char in text)
