"""JSON-RPC for one connection: lifecycle, dispatch, cancellation and replies, each request answered exactly once.

pygls gives the types, the decorators and the typed client calls; everything between the bytes and a handler is here.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.protocol import LanguageServerProtocol

from codeforge_ls.logs import request_id
from codeforge_ls.lsp.errors import (
    CANCELLED,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NOT_INITIALIZED,
    PARSE_ERROR,
    Refusal,
    error_object,
    invalid_params,
)
from codeforge_ls.lsp.frames import Body, Broken, encode_frame
from codeforge_ls.model.base import JsonObject, JsonValue, new_id

if TYPE_CHECKING:
    from cattrs import Converter
    from pygls.lsp.server import LanguageServer

    from codeforge_ls.lsp.outgoing import Outgoing

CANCEL_GRACE = 0.08  # seconds a cancelled handler has to end by itself; the answer is due after 0.1
ID_TYPES = (int, str)

# Their parameters can be large or free: handlers get the plain dict, and no object is built for each element.
RAW_METHODS = frozenset(
    {
        types.WORKSPACE_EXECUTE_COMMAND,
        types.TEXT_DOCUMENT_DID_CHANGE,
        types.WORKSPACE_DID_CHANGE_WATCHED_FILES,
        types.WORKSPACE_DID_CHANGE_CONFIGURATION,
    }
)

log = logging.getLogger(__name__)


class Lifecycle(Enum):
    """Where the connection is in its life."""

    NEW = auto()
    RUNNING = auto()
    SHUT_DOWN = auto()


@dataclass(eq=False)
class Call:
    """A request of the client that is being served."""

    id: int | str
    method: str
    answered: bool = False


@dataclass
class Asked:
    """A request to the client that waits for its answer."""

    method: str
    future: Future[Any] = field(default_factory=Future)


class SessionProtocol(LanguageServerProtocol):
    """One connection. ``out`` is set before the first message is received."""

    out: Outgoing

    def __init__(self, server: LanguageServer, converter: Converter) -> None:
        super().__init__(server, converter)
        self.lifecycle = Lifecycle.NEW
        self.exit_code: int | None = None
        self._serving: dict[asyncio.Task[None], Call] = {}
        self._asked: dict[str, Asked] = {}
        self._numbers = itertools.count(1)

    def _register_builtin_features(self) -> None:
        """None of pygls': lifecycle and cancellation are below, the rest is registered by the session."""

    def get_message_type(self, method: str) -> type[Any] | None:  # type: ignore[override]  # plain where pygls caches
        """The type of a message. Not cached on the instance as in pygls, which would keep every session alive."""
        return types.METHOD_TO_TYPES.get(method, (None,))[0]

    def get_result_type(self, method: str) -> type[Any] | None:  # type: ignore[override]  # plain where pygls caches
        """The type of the answer to a request."""
        return types.METHOD_TO_TYPES.get(method, (None, None))[1]

    # -- from the client ------------------------------------------------------------------------------

    def receive(self, frame: Body | Broken) -> None:
        """Take one message. Never raises for what the client sent."""
        if isinstance(frame, Broken):
            self._refuse(None, Refusal(PARSE_ERROR, f"Parse error: {frame.detail}"))
            return
        message = frame.value
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            self._refuse(_id_of(message), Refusal(INVALID_REQUEST, "Not a JSON-RPC 2.0 object"))
        elif "method" not in message:
            self._take_answer(message)
        elif not isinstance(method := message["method"], str):
            self._refuse(_id_of(message), Refusal(INVALID_REQUEST, "The method is not a string"))
        elif "id" not in message:
            self._take_notification(method, message)
        elif (call_id := _id_of(message)) is None:
            self._refuse(None, Refusal(INVALID_REQUEST, "The id is neither a number nor a string"))
        else:
            self._take_request(Call(call_id, method), message)

    def _take_request(self, call: Call, message: JsonObject) -> None:
        token = request_id.set(new_id("req"))
        try:
            handler = self._request_handler(call)
            result = handler(self._params(call.method, message))
        except Exception as error:  # noqa: BLE001 - whatever it was becomes the answer
            self._answer_error(call, error)
        else:
            if inspect.iscoroutine(result):
                task = asyncio.create_task(self._serve(call, result), name=f"lsp {call.method[:60]}")
                self._serving[task] = call
                task.add_done_callback(self._served)
            else:
                self._answer(call, result)
        finally:
            request_id.reset(token)

    def _request_handler(self, call: Call) -> Callable[[Any], Any]:
        method = call.method
        if self.lifecycle is Lifecycle.SHUT_DOWN:
            raise Refusal(INVALID_REQUEST, "The server was shut down")
        if method == types.SHUTDOWN:
            return self._shut_down
        if method == types.INITIALIZE:
            if self.lifecycle is not Lifecycle.NEW:
                raise Refusal(INVALID_REQUEST, "The server is initialized already")
            return self._initialize
        if self.lifecycle is Lifecycle.NEW:
            raise Refusal(NOT_INITIALIZED, "Send initialize first")
        handler: Callable[[Any], Any] | None = self.fm.features.get(method)
        if handler is None:
            raise Refusal(METHOD_NOT_FOUND, f"There is no method {method[:100]!r}")
        return handler

    def _take_notification(self, method: str, message: JsonObject) -> None:
        if method == types.EXIT:
            self.exit_code = 0 if self.lifecycle is Lifecycle.SHUT_DOWN else 1
            return
        if self.lifecycle is not Lifecycle.RUNNING:
            return
        if method == types.CANCEL_REQUEST:
            self._cancel(message.get("params"))
            return
        handler: Callable[[Any], Any] | None = self.fm.features.get(method)
        if handler is None:
            log.debug("ignoring notification %.100r", method)
            return
        try:
            handler(self._params(method, message))
        except Refusal as error:
            log.warning("ignoring notification: %s", error.message)
        except Exception:
            log.exception("notification %s failed", method)

    def _params(self, method: str, message: JsonObject) -> Any:
        kind = None if method in RAW_METHODS else self.get_message_type(method)
        if kind is None:
            params = message.get("params")
            if params is not None and not isinstance(params, dict):
                raise invalid_params(method, TypeError("params must be an object"))
            return params or {}
        try:
            return getattr(self._converter.structure(message, kind), "params", None)
        except Exception as error:
            raise invalid_params(method, error) from error

    def _take_answer(self, message: JsonObject) -> None:
        answer_id = message.get("id")
        asked = self._asked.pop(answer_id, None) if isinstance(answer_id, str) else None
        if asked is None or asked.future.done():
            log.info("an answer to nothing that was asked: id %.100r", answer_id)
            return
        try:
            if isinstance(error := message.get("error"), dict):
                code = error.get("code")
                raise JsonRpcException(
                    str(error.get("message"))[:500], code=code if isinstance(code, int) else None
                )
            kind = self.get_result_type(asked.method)
            whole = {"jsonrpc": "2.0", "id": answer_id, "result": message.get("result")}
            result = message.get("result") if kind is None else self._converter.structure(whole, kind).result
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            asked.future.set_exception(error)
        else:
            asked.future.set_result(result)

    # -- lifecycle ------------------------------------------------------------------------------------

    def _initialize(self, params: types.InitializeParams) -> object:
        result = self.fm.features[types.INITIALIZE](params)
        self.lifecycle = Lifecycle.RUNNING
        return result

    def _shut_down(self, _params: object) -> Coroutine[Any, Any, None]:
        self.lifecycle = Lifecycle.SHUT_DOWN  # now: an exit may come in the same breath
        return self._answer_the_rest()

    async def _answer_the_rest(self) -> None:
        """Every request that is under way is answered, then the shutdown itself."""
        others = {task: call for task, call in self._serving.items() if call.method != types.SHUTDOWN}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(set(others), timeout=CANCEL_GRACE)
        for call in others.values():
            self._answer_error(call, Refusal(CANCELLED, "The server is shutting down"))

    async def end(self, seconds: float) -> None:
        """Stop everything that is under way; whoever waits for an answer of the client gets an error."""
        for asked in list(self._asked.values()):
            if not asked.future.done():
                asked.future.set_exception(ConnectionError("the session ended"))
        self._asked.clear()
        for task, call in self._serving.items():
            if call.method != types.SHUTDOWN:
                task.cancel()
        if self._serving:
            await asyncio.wait(set(self._serving), timeout=seconds)

    # -- serving requests -----------------------------------------------------------------------------

    async def _serve(self, call: Call, handler: Awaitable[object]) -> None:
        try:
            result = await handler
        except Exception as error:  # noqa: BLE001 - whatever it was becomes the answer
            self._answer_error(call, error)
        else:
            self._answer(call, result)

    def _served(self, task: asyncio.Task[None]) -> None:
        call = self._serving.pop(task)
        if task.cancelled():
            self._answer_error(call, Refusal(CANCELLED, "Cancelled"))

    def _cancel(self, params: JsonValue) -> None:
        wanted = _id_of(params)
        for task, call in list(self._serving.items()):
            if type(call.id) is type(wanted) and call.id == wanted:
                task.cancel()
                late = Refusal(CANCELLED, "Cancelled")
                asyncio.get_running_loop().call_later(CANCEL_GRACE, self._answer_error, call, late)

    def _answer(self, call: Call, result: object) -> None:
        if call.answered:
            return
        try:
            frame = self._encode({"jsonrpc": "2.0", "id": call.id, "result": result})
        except Exception as error:  # noqa: BLE001 - a result that has no JSON form is our fault, and an answer is due
            self._answer_error(call, error)
            return
        call.answered = True
        self.out.send(frame)

    def _answer_error(self, call: Call, error: BaseException) -> None:
        if not call.answered:
            call.answered = True
            self._refuse(call.id, error, call.method)

    def refuse_stream(self, reason: str) -> None:
        """The last word on a connection whose bytes cannot be followed."""
        self._refuse(None, Refusal(INVALID_REQUEST, f"Cannot go on after {reason}"))

    def _refuse(self, call_id: int | str | None, error: BaseException, method: str = "") -> None:
        reply = {"jsonrpc": "2.0", "id": call_id, "error": error_object(error, method)}
        self.out.send(self._encode(reply))

    # -- to the client --------------------------------------------------------------------------------

    def notify(self, method: str, params: Any | None = None, *, droppable: bool = False) -> bool:
        """Send a notification. False: it was dropped, because the client does not keep up and it can be missed."""
        droppable = droppable or method == types.WINDOW_LOG_MESSAGE
        if droppable and self.out.is_full:
            self.out.dropped += 1
            return False
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        return self.out.send(self._encode(message), droppable=droppable)

    def send_request(
        self,
        method: str,
        params: Any | None = None,
        callback: Callable[[Any], None] | None = None,
        msg_id: str | int | None = None,
    ) -> Future[Any]:
        """Ask the client; the future gets the answer. It is forgotten once it is done or cancelled."""
        asked_id = str(msg_id or f"cf-{next(self._numbers)}")
        asked = Asked(method)
        if callback is not None:
            asked.future.add_done_callback(lambda future: callback(future.result()))
        asked.future.add_done_callback(lambda future: self._withdraw(asked_id, future))
        self._asked[asked_id] = asked
        message = {"jsonrpc": "2.0", "id": asked_id, "method": method}
        self.out.send(self._encode(message if params is None else {**message, "params": params}))
        return asked.future

    def _withdraw(self, asked_id: str, future: Future[Any]) -> None:
        if self._asked.pop(asked_id, None) and future.cancelled():
            self.notify(types.CANCEL_REQUEST, {"id": asked_id})

    def _encode(self, message: JsonObject | dict[str, Any]) -> bytes:
        text = json.dumps(
            message,
            default=self._serialize_message,
            ensure_ascii=False,
            separators=(",", ":"),
            allow_nan=False,
        )
        return encode_frame(text)


def _id_of(message: object) -> int | str | None:
    if isinstance(message, dict):
        found = message.get("id")
        if isinstance(found, ID_TYPES) and not isinstance(found, bool):
            return found
    return None
