"""What changed: the editor's documents and watched files go to the index, gathered and one batch at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lsprotocol import types

from codeforge_ls.lsp.documents import Document
from codeforge_ls.lsp.overlay import Happened, Overlay
from codeforge_ls.lsp.places import file_uri, is_watched
from codeforge_ls.model.base import JsonObject, JsonValue

if TYPE_CHECKING:
    from codeforge_ls.index import Index
    from codeforge_ls.lsp.client import Client
    from codeforge_ls.lsp.protocol import SessionProtocol
    from codeforge_ls.workspace import Workspace

# Seconds without news until the index gets what there is: little at once, much when the burst is over. The index
# takes one batch at a time, so what comes while it is at work is gathered anyway.
SOON, LATER, LONGEST_WAIT = 0.005, 0.3, 2.0
MUCH_FILES = 20  # a git checkout sends thousands
MUCH_LINES, MUCH_TEXT = (
    1_500,
    50_000,
)  # of an open document: to parse that with every key would keep a core busy

log = logging.getLogger(__name__)


class ChangeFeed:
    """Gathers changes of one session and hands them to the index when there is a pause."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._documents: dict[str, Happened] = {}
        self._files: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._last = self._first = 0.0
        overlay.listen(self._on_document)

    def files_changed(self, paths: Iterable[str]) -> None:
        """Files were saved, created, changed or deleted."""
        for path in paths:
            if is_watched(path):
                self._files[path] = None
        self._touch()

    def watched_files(self, params: JsonObject) -> None:
        """``workspace/didChangeWatchedFiles``, as it came off the wire."""
        changes = params.get("changes")
        relative = self._overlay.places.relative
        uris = [_uri(change) for change in changes] if isinstance(changes, list) else []
        self.files_changed(path for uri in uris if uri and (path := relative(uri)))

    async def feed(self, index: Index) -> None:
        """Hand changes over, for ever. A document that is open already when the session begins is one of them."""
        for document in self._overlay:
            self._on_document(document, Happened.OPENED)
        while True:
            await self._wake.wait()
            await self._pause()
            self._wake.clear()
            documents, self._documents = self._documents, {}
            files, self._files = self._files, {}
            try:
                await self._hand_over(index, documents, list(files))
            except Exception:
                log.exception("the index did not take %d documents and %d files", len(documents), len(files))

    def _on_document(self, document: Document, happened: Happened) -> None:
        if document.path is not None and is_watched(document.path):
            self._documents[document.path] = happened
            self._touch()

    def _touch(self) -> None:
        self._last = asyncio.get_running_loop().time()
        if not self._wake.is_set():
            self._first = self._last
            self._wake.set()

    async def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            quiet = LATER if self._much() else SOON
            wait = min(self._last + quiet, self._first + LONGEST_WAIT) - loop.time()
            if wait <= 0:
                return
            await asyncio.sleep(wait)

    def _much(self) -> bool:
        return len(self._files) > MUCH_FILES or any(map(self._is_long, self._documents))

    def _is_long(self, path: str) -> bool:
        document = self._overlay.at(path)
        return document is not None and (
            len(document.lines) > MUCH_LINES
            or len(document.text) > MUCH_TEXT  # in this order: lines cost nothing
        )

    async def _hand_over(self, index: Index, documents: dict[str, Happened], files: list[str]) -> None:
        for path in documents:
            document = self._overlay.at(path)
            if document is None:
                await index.document_closed(path)
            else:
                await index.document_changed(path, document.text)
        if files:
            await index.files_changed(files)


async def register_watcher(protocol: SessionProtocol, client: Client, workspace: Workspace) -> bool:
    """Ask the editor to watch the whole workspace, if it can and the setting does not say otherwise."""
    watch = client.own_setting("watch") or workspace.settings.lsp.watch.value
    if not client.registers_watchers or watch == "server":
        return False
    pattern: JsonValue = "**/*"
    if client.relative_watchers:
        pattern = {"baseUri": file_uri(workspace.root), "pattern": "**/*"}
    options: JsonObject = {"watchers": [{"globPattern": pattern}]}
    await register(protocol, types.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)
    return True


async def register(protocol: SessionProtocol, method: str, options: JsonObject) -> None:
    """``client/registerCapability`` for one method. A client that refuses, or never answers, goes without."""
    registration: JsonObject = {"id": f"codeforge-{method}", "method": method, "registerOptions": options}
    try:
        async with asyncio.timeout(10):
            await asyncio.wrap_future(
                protocol.send_request(types.CLIENT_REGISTER_CAPABILITY, {"registrations": [registration]})
            )
    except Exception as error:  # noqa: BLE001 - it is the client's to refuse
        log.warning("the client did not register %s: %s", method, error)


def _uri(change: JsonValue) -> str | None:
    uri = change.get("uri") if isinstance(change, dict) else None
    return uri if isinstance(uri, str) else None
