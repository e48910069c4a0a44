"""The terminal's connection to the daemon: requests in JSON lines, with progress, events and questions between."""

from __future__ import annotations

import json
import select
from collections import deque
from collections.abc import Callable
from typing import Any

from codeforge_ls.rendezvous import Options, Refused, current_folder, open_session, workspace_root

CHUNK = 1 << 16
EXIT_CODES = {"invalid_input": 2, "unavailable": 3, "worker_died": 3}


class OperationFailed(Exception):
    """The daemon answered with an error: ``{code, message, hint, data}``."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", "unknown error")))
        self.error = error

    @property
    def exit_code(self) -> int:
        """1 for what failed or was denied, 2 for wrong input, 3 for what is not available."""
        return EXIT_CODES.get(str(self.error.get("code")), 1)


class Connection:
    """One session of role ``cli``. Not for threads: one caller sends and reads.

    ``on_event``, ``on_ask`` and ``on_withdraw`` are called while an answer is awaited, in the order of arrival;
    ``on_replay`` when an answer is that of an earlier call with the same idempotency key.
    """

    def __init__(self, root: str, options: Options, *, start: bool = True) -> None:
        session = open_session(root, "cli", options, start=start)
        self.answer, self.started = session.answer, session.started
        self._socket = session.socket
        self._rest = session.early
        self._lines: deque[dict[str, Any]] = deque()
        self._next = 0
        self.on_event: Callable[[dict[str, Any]], None] = lambda _event: None
        self.on_ask: Callable[[dict[str, Any]], None] = lambda _approval: None
        self.on_withdraw: Callable[[str], None] = lambda _approval_id: None
        self.on_replay: Callable[[], None] = lambda: None

    def call(
        self,
        op: str,
        arguments: dict[str, Any] | None = None,
        on_progress: Callable[[float | None, str], None] | None = None,
    ) -> dict[str, Any]:
        """Send a request and wait for its result. Raises ``OperationFailed``, or ``Refused`` when the daemon ends."""
        call = self.send(op, arguments)
        while True:
            message = self.receive()
            if message.get("id") != call:
                self.handle(message)
            elif isinstance(news := message.get("progress"), dict):
                if on_progress:
                    on_progress(news.get("percent"), str(news.get("message", "")))
            elif "event" in message:
                self.on_event(message["event"])
            else:
                if message.get("replayed"):
                    self.on_replay()
                return _result(message)

    def send(self, op: str, arguments: dict[str, Any] | None = None) -> int:
        """Send a request without waiting; returns its id."""
        self._next += 1
        self.post({"id": self._next, "op": op, "arguments": arguments or {}})
        return self._next

    def post(self, message: dict[str, Any]) -> None:
        """Send one line."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except ConnectionError:
            raise self._gone() from None

    def handle(self, message: dict[str, Any]) -> None:
        """Give a message that answers no waiting call to whom it concerns."""
        if isinstance(event := message.get("event"), dict):
            self.on_event(event)
        elif isinstance(approval := message.get("ask"), dict):
            self.on_ask(approval)
        elif "withdraw" in message:
            self.on_withdraw(str(message["withdraw"]))
        elif isinstance(message.get("error"), dict) and message.get("id") is None:
            raise OperationFailed(message["error"])

    def receive(self) -> dict[str, Any]:
        """The next message; waits for it."""
        while not self._lines:
            self._read()
        return self._lines.popleft()

    def poll(self, *, beside: int) -> bool:
        """Wait for a message or for the descriptor ``beside``; True when the descriptor has something."""
        if self._lines:
            return False
        watched: list[Any] = [self._socket, beside]
        ready, _, _ = select.select(watched, [], [])
        if beside in ready:
            return True
        self._read()
        return False

    def pending(self) -> list[dict[str, Any]]:
        """The messages that have come and were not yet received."""
        messages = list(self._lines)
        self._lines.clear()
        return messages

    def put_back(self, messages: list[dict[str, Any]]) -> None:
        """Keep messages for later."""
        self._lines.extendleft(reversed(messages))

    def _read(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except ConnectionError:
            data = b""
        if not data:
            raise self._gone()
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines.extend(json.loads(line) for line in lines)

    def _gone(self) -> Refused:
        return Refused(f"The workspace daemon (pid {self.answer.get('pid')}) ended.", 3)

    def close(self) -> None:
        """End the session; what it still waits for is cancelled, runs go on."""
        self._socket.close()


def _result(message: dict[str, Any]) -> dict[str, Any]:
    if isinstance(error := message.get("error"), dict):
        raise OperationFailed(error)
    result = message.get("result")
    return result if isinstance(result, dict) else {"result": result}


def find_root(given: str | None) -> str:
    """The real root that ``--root`` or the current folder means. Raises ``Refused``."""
    return workspace_root(given if given is not None else current_folder())
