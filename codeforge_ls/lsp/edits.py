"""Edits of open documents: a versioned ``workspace/applyEdit`` of the smallest range, waited for and read back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from codeforge_ls.actions.documents import OpenDocument
from codeforge_ls.lsp.documents import Document, sanitised
from codeforge_ls.lsp.overlay import Happened, Overlay
from codeforge_ls.model.base import JsonObject

if TYPE_CHECKING:
    from codeforge_ls.lsp.client import Client
    from codeforge_ls.lsp.protocol import SessionProtocol

ANSWER_SECONDS = 10.0  # for the editor to apply an edit
READ_BACK_SECONDS = 3.0  # for its didChange, which some editors hold back for 150 ms
ANNOTATION = "codeforge"
SAVE = "codeforge/document/save"
LINE_END = re.compile(r"\r\n?")

log = logging.getLogger(__name__)


class EditorDocuments:
    """The open documents of one editor as the gate sees them (``actions.documents.DocumentSource``)."""

    def __init__(self, protocol: SessionProtocol, client: Client, overlay: Overlay) -> None:
        self._protocol, self._client, self._overlay = protocol, client, overlay

    def document(self, path: str) -> OpenDocument | None:
        """The open document of that path. Version -1: the editor counts none, so it cannot be edited."""
        document = self._overlay.at(path)
        if document is None:
            return None
        return OpenDocument(path, -1 if document.version is None else document.version, document.text)

    def paths(self) -> Sequence[str]:
        """The workspace-relative paths of all open documents."""
        return self._overlay.paths()

    async def apply(self, path: str, version: int, new_text: str) -> bool:
        """Edit it. False when the editor cannot or will not, the version is not the current one, or the text
        that came back is not the one that was asked for."""
        document = self._overlay.at(path)
        if document is None or document.stale or document.version != version:
            return False
        if not self._client.edits_versions or sanitised(new_text) != new_text:
            return False
        if new_text == document.text:
            return True
        with self._reading_back(document, new_text) as seen:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await asyncio.wrap_future(
                        self._protocol.send_request("workspace/applyEdit", self._edit(document, new_text))
                    )
                if not answer.applied:
                    log.info("the editor refused an edit of %s: %s", path, answer.failure_reason)
                    return False
                async with asyncio.timeout(READ_BACK_SECONDS):
                    await seen.wait()
            except TimeoutError:
                log.warning("an edit of %s was not confirmed in time", path)
            except Exception as error:  # noqa: BLE001 - whatever the editor answers instead, the edit is not there
                log.warning("the editor failed to edit %s: %s", path, error)
            return seen.is_set()

    async def save(self, path: str) -> bool:
        """Ask the editor to save it, if it said that it can: the language server protocol has no such request."""
        document = self._overlay.at(path)
        if document is None or self._client.options.get("save") is not True:
            return False
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await asyncio.wrap_future(
                    self._protocol.send_request(SAVE, {"uri": document.uri, "version": document.version})
                )
        except Exception as error:  # noqa: BLE001 - whatever the editor answers instead, it is not saved
            log.info("the editor did not save %s: %s", path, error)
            return False
        return bool(getattr(answer, "saved", False) or (isinstance(answer, dict) and answer.get("saved")))

    @contextlib.contextmanager
    def _reading_back(self, document: Document, wanted: str) -> Iterator[asyncio.Event]:
        """Watches for the moment in which the editor's text is the wanted one; typing may go on after it."""
        seen, expected = asyncio.Event(), LINE_END.sub("\n", wanted)

        def look(changed: Document, happened: Happened) -> None:
            same = changed is document and happened is Happened.CHANGED and not changed.stale
            if same and LINE_END.sub("\n", changed.text) == expected:
                seen.set()

        stop = self._overlay.listen(look)
        try:
            yield seen
        finally:
            stop()

    def _edit(self, document: Document, new_text: str) -> JsonObject:
        begin, end, text = smallest_edit(document.text, new_text)
        place: JsonObject = {"start": document.position(begin), "end": document.position(end)}
        edit: JsonObject = {"range": place, "newText": text}
        label = f"CodeForge: edit {document.path}"
        whole: JsonObject = {
            "documentChanges": [
                {"textDocument": {"uri": document.uri, "version": document.version}, "edits": [edit]}
            ]
        }
        if self._client.annotates_edits:
            edit["annotationId"] = ANNOTATION
            whole["changeAnnotations"] = {ANNOTATION: {"label": label, "needsConfirmation": False}}
        return {"label": label, "edit": whole}


def smallest_edit(old: str, new: str) -> tuple[int, int, str]:
    r"""The range of ``old`` and the text that turns it into ``new``. No boundary lies inside a \r\n."""
    head = _common(old, new, len(min(old, new, key=len)))
    while head and _splits(old, new, head):
        head -= 1
    room = min(len(old), len(new)) - head
    tail = _common(old[::-1], new[::-1], room)
    while tail and (_between(old, len(old) - tail) or _between(new, len(new) - tail)):
        tail -= 1
    return head, len(old) - tail, new[head : len(new) - tail]


def _common(one: str, other: str, limit: int) -> int:
    """The length of the common beginning, by halving: comparing slices is far faster than a loop."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _splits(old: str, new: str, offset: int) -> bool:
    return _between(old, offset) or _between(new, offset)


def _between(text: str, offset: int) -> bool:
    return text[offset - 1 : offset + 1] == "\r\n"
