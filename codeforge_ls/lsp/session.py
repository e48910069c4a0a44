"""One language server session over a pair of streams, from its first byte to its exit code."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.protocol import default_converter

from codeforge_ls import __version__
from codeforge_ls.lsp.editor import Editor
from codeforge_ls.lsp.frames import FrameError, FrameReader
from codeforge_ls.lsp.outgoing import Outgoing
from codeforge_ls.lsp.protocol import Lifecycle, SessionProtocol
from codeforge_ls.model.base import JsonObject, new_id

if TYPE_CHECKING:
    from cattrs import Converter

    from codeforge_ls.operations.host import WorkspaceHost

CHUNK = 256 << 10  # bytes
TURN = 0.005  # seconds of messages in a row before others get a turn
STALL_SECONDS = 30.0  # a message that has begun and does not go on: its length was wrong
WATCH_SECONDS = 2.0  # between two looks at the client's process
END_SECONDS = 0.3  # for each part of the end; all of it stays under a second

log = logging.getLogger(__name__)


async def serve_lsp(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: WorkspaceHost, hello: JsonObject
) -> int:
    """Serve one editor until it leaves. Returns 0 after ``shutdown`` and 1 without."""
    await asyncio.to_thread(_converter)
    return await Session(writer, host, hello).serve(reader)


class EditorServer(LanguageServer):
    """pygls' server: decorators and typed calls to the client. Its transport and dispatch are not used."""

    protocol: SessionProtocol

    def __init__(self) -> None:
        super().__init__(
            "codeforge-ls", __version__, protocol_cls=SessionProtocol, converter_factory=_converter
        )

    def report_server_error(self, error: Exception, source: object) -> None:
        """Errors go to the log; a message box is no place for them."""
        log.error("%s: %s", source, error)


@functools.cache
def _converter() -> Converter:
    """One converter for all sessions. Its hooks take 25 ms to build, and those for messages as large as the first ones
    twenty more at their first use: that is here, in a thread."""
    converter: Converter = default_converter()  # type: ignore[no-untyped-call]  # pygls does not say
    sections: JsonObject = {"workspace": {}, "textDocument": {}, "window": {}, "general": {}}
    params: JsonObject = {
        "processId": None,
        "rootUri": None,
        "capabilities": sections,
        "workspaceFolders": [],
    }
    greeting = {"jsonrpc": "2.0", "id": 0, "method": types.INITIALIZE, "params": params}
    converter.structure(greeting, types.InitializeRequest)
    answer = types.InitializeResult(types.ServerCapabilities(), types.ServerInfo("codeforge-ls"))
    converter.unstructure(types.InitializeResponse(0, answer))
    return converter


class Session:
    """The connection: reading, the editor behind it once it is initialized, and the end in order."""

    def __init__(self, writer: asyncio.StreamWriter, host: WorkspaceHost, hello: JsonObject) -> None:
        self._host = host
        self._id = str(hello.get("session") or new_id("lsp"))
        self._out = Outgoing(writer)
        self._server = EditorServer()
        self._protocol = self._server.protocol
        self._protocol.out = self._out
        self._editor: Editor | None = None
        self._watching: asyncio.Task[None] | None = None
        self._server.feature(types.INITIALIZE)(self._initializer())

    async def serve(self, reader: asyncio.StreamReader) -> int:
        """Read and serve until the exit, the end of input, a broken connection, or cancellation."""
        writing = asyncio.create_task(self._out.write_all(), name="lsp-write")
        reading = asyncio.create_task(self._read(reader), name="lsp-read")
        broken = asyncio.create_task(self._out.broken.wait(), name="lsp-broken")
        try:
            await asyncio.wait({reading, broken}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else self._code()
        finally:
            reading.cancel()
            broken.cancel()
            if self._watching is not None:
                self._watching.cancel()
            await self._end()
            writing.cancel()
            await asyncio.wait({writing, reading, broken}, timeout=END_SECONDS)

    def _initializer(self) -> Callable[[types.InitializeParams], types.InitializeResult]:
        def initialize(params: types.InitializeParams) -> types.InitializeResult:
            self._protocol.client_capabilities = params.capabilities
            self._editor = Editor(self._server, self._host, self._id, params)
            self._watching = asyncio.create_task(self._watch_client(params.process_id), name="lsp-client")
            self._protocol.server_capabilities = self._editor.capabilities()
            return types.InitializeResult(
                capabilities=self._protocol.server_capabilities, server_info=self._protocol.server_info
            )

        return initialize

    async def _watch_client(self, pid: int | None) -> None:
        """Ends the session when the client's process is gone, although somebody else holds its pipe open.

        A process that cannot be seen from the start lives in another container and is not watched.
        """
        if pid is None or pid <= 0 or not _lives(pid):
            return
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if not _lives(pid):
                log.info("the client's process %d is gone", pid)
                self._out.broken.set()
                return

    async def _read(self, reader: asyncio.StreamReader) -> int:
        frames = FrameReader()
        try:
            while self._protocol.exit_code is None:
                async with asyncio.timeout(STALL_SECONDS if frames.is_inside_body else None):
                    data = await reader.read(CHUNK)
                if not data:
                    break
                frames.feed(data)
                await self._take(frames)
        except FrameError as error:
            log.error("ending the session: %s", error)  # noqa: TRY400 - the client's fault; a traceback says nothing
            self._protocol.refuse_stream(str(error))
            return 1
        except TimeoutError:
            log.error("ending the session: a message did not go on for %g s", STALL_SECONDS)  # noqa: TRY400 - as above
            return 1
        except ConnectionError as error:
            log.info("the client is gone: %s", error)
        return self._code()

    async def _take(self, frames: FrameReader) -> None:
        clock = asyncio.get_running_loop().time
        begun = clock()
        while self._protocol.exit_code is None and (frame := frames.next()) is not None:
            self._protocol.receive(frame)
            if clock() - begun > TURN:
                await asyncio.sleep(0)
                begun = clock()

    def _code(self) -> int:
        if self._protocol.exit_code is not None:
            return self._protocol.exit_code
        return 0 if self._protocol.lifecycle is Lifecycle.SHUT_DOWN else 1

    async def _end(self) -> None:
        """Let go of the workspace at once, then stop, write what is left, and close."""
        if self._editor is not None:
            self._editor.let_go()
        await self._protocol.end(END_SECONDS)
        if self._editor is not None:
            await self._editor.end(END_SECONDS)
        await self._out.flush(END_SECONDS)
        self._out.close()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
